"""The published test protocols: linear regression from keypoints to landmarks, as each data set's authors score it.

Section 4.1 of AutoLink (He, Wandt, Rhodin, NeurIPS 2022). Every function takes arrays and gives the figure of the test
part: a fit by least squares on the train part, without a bias unless said otherwise, from keypoints mapped to [0, 1].
Where the keypoints do not determine the fit (they coincide, or there are too few pictures), it is the shortest one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autolink.errors import UserError

Array = NDArray[np.floating]

Pairs = Literal["authors", "mended"]

_LIMBS = [(1, 6), (2, 7), (3, 8), (4, 9), (5, 10), (17, 25), (18, 26), (19, 27), (20, 28)]
HUMAN36M_PAIRS: dict[Pairs, list[tuple[int, int]]] = {
    "authors": [*_LIMBS, (21, 28), (22, 30), (23, 31)],
    "mended": [*_LIMBS, (21, 29), (22, 30), (23, 31)],
}
"""Left and right joint of Human3.6M's 32; the authors pair 28 twice and 29 never, which looks like a slip."""

SETTLED = 10
"""Human3.6M: the swapping has converged when no more pictures than this are nearer to their swapped annotation."""

SWAP_ROUNDS = 1000
"""More rounds than this mean that the swapping does not converge."""

NOT_VISIBLE = -1.0
"""Tai-Chi: the coordinate of a joint that is not seen."""

SCALE = 255.0
"""Tai-Chi and DeepFashion: landmarks reach from 0 to this, and keypoints are brought to the same scale."""

NEAR = 6.0
"""DeepFashion: a point counts as found if it is nearer than this, at the scale of 255."""


@dataclass(frozen=True)
class _Part:
    """One side of the split, checked."""

    features: Array
    """(N, 2 K), keypoints in [0, 1]."""
    landmarks: Array
    """(N, L, 2)."""
    visible: NDArray[np.bool_]
    """(N, L)."""


def celeba(train_keypoints: Any, test_keypoints: Any, train_landmarks: Any, test_landmarks: Any) -> float:
    """CelebA and MAFL, in the wild or aligned: mean distance in units of the distance between landmarks 0 and 1.

    Args:
        train_keypoints, test_keypoints: (N, K, 2), (x, y) in [-1, 1].
        train_landmarks, test_landmarks: (N, L, 2), any unit with the origin at the top left corner; the eyes first.

    Returns:
        The mean over landmarks and pictures; 0.0524 is what the paper prints as 5.24.

    Raises:
        UserError: a shape does not fit, a number is not finite, or the eyes of a test face coincide.
    """
    train, test = _parts(train_keypoints, test_keypoints, train_landmarks, test_landmarks)
    if test.landmarks.shape[1] < 2:
        raise UserError("test_landmarks: the distance between the eyes needs two landmarks, there is one")
    eyes = np.linalg.norm(test.landmarks[:, 0] - test.landmarks[:, 1], axis=1)
    if not (eyes > 0).all():
        raise UserError(f"test_landmarks: landmarks 0 and 1 of picture {np.argmin(eyes)} coincide; leave it out")
    distances = _distances(_predicted(test.features, _fit(train.features, train.landmarks)), test.landmarks)
    return float((distances / eyes[:, None]).mean())


def cub(
    train_keypoints: Any,
    test_keypoints: Any,
    train_landmarks: Any,
    test_landmarks: Any,
    train_visible: Any,
    test_visible: Any,
) -> float:
    """CUB-200-2011: every landmark fitted on the pictures that show it; mean distance over what is visible.

    A landmark that no train picture shows is predicted at the origin, as the authors do.

    Args:
        train_keypoints, test_keypoints: (N, K, 2), (x, y) in [-1, 1].
        train_landmarks, test_landmarks: (N, L, 2) in [0, 1] of the picture's sides; ignored where not visible.
        train_visible, test_visible: (N, L), true where a landmark is visible.

    Returns:
        Sum of distances over number of visible landmarks; 0.113 is what the paper prints as 11.3.

    Raises:
        UserError: a shape does not fit, a visible number is not finite, or nothing is visible.
    """
    train, test = _parts(train_keypoints, test_keypoints, train_landmarks, test_landmarks, train_visible, test_visible)
    total = 0.0
    for landmark in range(test.landmarks.shape[1]):
        seen, shown = train.visible[:, landmark], test.visible[:, landmark]
        solution = _fit(train.features[seen], train.landmarks[seen, landmark])
        residual = test.features[shown] @ solution - test.landmarks[shown, landmark]
        total += np.linalg.norm(residual, axis=1).sum()
    if not test.visible.any():
        raise UserError("test_visible says that no landmark is visible; there is nothing to measure")
    return float(total / test.visible.sum())


def human36m(
    train_keypoints: Any, test_keypoints: Any, train_landmarks: Any, test_landmarks: Any, pairs: Pairs = "authors"
) -> float:
    """Human3.6M: mean distance, every picture's annotation swapped to its nearer side.

    In the fit, pictures whose annotation with left and right exchanged is nearer to the prediction are exchanged and
    the fit repeated until at most ten would change; then those beyond mean + 3 standard deviations are dropped and the
    fit is repeated. On the test part the same exchange happens without another fit. The figure is therefore blind to
    left and right: say so wherever it is printed.

    Args:
        train_keypoints, test_keypoints: (N, K, 2), (x, y) in [-1, 1].
        train_landmarks, test_landmarks: (N, 32, 2) in [0, 1] of the picture's sides.
        pairs: which joints exchange; `mended` corrects the one pair that the authors seem to have mistyped.

    Returns:
        The mean over joints and pictures; 0.0276 is what the paper prints as 2.76.

    Raises:
        UserError: a shape does not fit, a number is not finite, or the exchange does not converge.
    """
    train, test = _parts(train_keypoints, test_keypoints, train_landmarks, test_landmarks)
    joints = train.landmarks.shape[1]
    if pairs not in HUMAN36M_PAIRS:
        raise UserError(f"pairs is authors or mended, got {pairs}")
    if joints != 32 or len(train.landmarks) < 2:
        raise UserError(f"human36m needs 2 train pictures with 32 joints, got {len(train.landmarks)} with {joints}")
    order = _mirror_order(pairs)

    def fitted(landmarks: Array) -> Array:
        return _predicted(train.features, _fit(train.features, landmarks))

    landmarks, distance = _swap_to_nearer(train.landmarks, order, fitted)
    kept = distance < distance.mean() + 3 * distance.std(ddof=1)
    solution = _fit(train.features[kept], landmarks[kept])
    prediction = _predicted(test.features, solution)
    _, distance = _swap_to_nearer(test.landmarks, order, lambda landmarks: prediction)
    return float(distance.mean())


def taichi(
    train_keypoints: Any,
    test_keypoints: Any,
    train_landmarks: Any,
    test_landmarks: Any,
    train_visible: Any = None,
    test_visible: Any = None,
) -> float:
    """Tai-Chi-HD: one fit with a bias for each coordinate of each joint, on what is visible; mean errors summed.

    Args:
        train_keypoints, test_keypoints: (N, K, 2), (x, y) in [-1, 1].
        train_landmarks, test_landmarks: (N, 18, 2) from 0 to 255.
        train_visible, test_visible: (N, 18), true where a joint is visible; left out, a coordinate of -1 is not.

    Returns:
        Sum over joints and both coordinates of the mean absolute error: the 316.10 of the paper.

    Raises:
        UserError: a shape does not fit, a visible number is not finite, or a joint is visible in no test picture.
    """
    if (train_visible is None) != (test_visible is None):
        raise UserError("give train_visible and test_visible, or neither")
    train, test = _parts(train_keypoints, test_keypoints, train_landmarks, test_landmarks, train_visible, test_visible)

    def known(part: _Part, given: Any) -> NDArray[np.bool_]:  # (N, L, 2)
        marked = np.abs(part.landmarks - NOT_VISIBLE) > 1e-6
        return marked if given is None else np.broadcast_to(part.visible[..., None], marked.shape)

    def design(part: _Part) -> Array:
        return np.hstack([part.features * SCALE, np.ones((len(part.features), 1))])

    seen, shown, X, X_test = known(train, train_visible), known(test, test_visible), design(train), design(test)
    total = 0.0
    for joint, axis in np.ndindex(test.landmarks.shape[1:]):
        fitted, tested = seen[:, joint, axis], shown[:, joint, axis]
        if not tested.any():
            raise UserError(f"test_landmarks: joint {joint} is visible in no picture; there is nothing to measure")
        solution = _fit(X[fitted], train.landmarks[fitted, joint, axis])
        total += np.abs(X_test[tested] @ solution - test.landmarks[tested, joint, axis]).mean()
    return float(total)


def deepfashion(train_keypoints: Any, test_keypoints: Any, train_landmarks: Any, test_landmarks: Any) -> float:
    """DeepFashion in-shop: share of landmarks predicted nearer than 6 (PCK); the one protocol where more is better.

    Args:
        train_keypoints, test_keypoints: (N, K, 2), (x, y) in [-1, 1].
        train_landmarks, test_landmarks: (N, L, 2) from 0 to 255.

    Returns:
        The share in [0, 1]; 0.66 is what the paper prints as 66.

    Raises:
        UserError: a shape does not fit, or a number is not finite.
    """
    train, test = _parts(train_keypoints, test_keypoints, train_landmarks, test_landmarks)
    solution = _fit(train.features * SCALE, train.landmarks)
    distances = _distances(_predicted(test.features * SCALE, solution), test.landmarks)
    return float((distances < NEAR).mean())


def _parts(
    train_keypoints: Any,
    test_keypoints: Any,
    train_landmarks: Any,
    test_landmarks: Any,
    train_visible: Any = None,
    test_visible: Any = None,
) -> tuple[_Part, _Part]:
    """Both sides of a split as float64, keypoints in [0, 1].

    Raises:
        UserError: a shape does not fit, or a number that counts is not finite.
    """
    train = _part("train", train_keypoints, train_landmarks, train_visible)
    test = _part("test", test_keypoints, test_landmarks, test_visible)
    for name, kind in (("features", "keypoints"), ("landmarks", "landmarks")):
        first, second = getattr(train, name).shape[1:], getattr(test, name).shape[1:]
        if first != second:
            raise UserError(f"train_{kind} and test_{kind} must have the same number of points")
    return train, test


def _part(side: str, keypoints: Any, landmarks: Any, visible: Any) -> _Part:
    points, targets = (_points(f"{side}_{n}", v) for n, v in (("keypoints", keypoints), ("landmarks", landmarks)))
    if len(points) != len(targets):
        raise UserError(f"{side}_keypoints has {len(points)} pictures and {side}_landmarks {len(targets)}")
    shown = np.ones(targets.shape[:2], bool) if visible is None else np.asarray(visible).astype(bool)
    if shown.shape != targets.shape[:2]:
        raise UserError(f"{side}_visible must be {targets.shape[:2]} as {side}_landmarks says, got {shown.shape}")
    if not np.isfinite(points).all():
        raise UserError(f"{side}_keypoints holds numbers that are not finite; detect the keypoints again")
    if not np.isfinite(targets[shown]).all():
        raise UserError(f"{side}_landmarks holds visible numbers that are not finite; leave those pictures out")
    return _Part((points.reshape(len(points), -1) + 1) / 2, targets, shown)


def _points(name: str, values: Any) -> Array:
    array = np.asarray(values, np.float64)
    if array.ndim != 3 or array.shape[2] != 2 or 0 in array.shape:
        raise UserError(f"{name} must be (N, points, 2) and not empty, got {array.shape}")
    return array


def _fit(features: Array, targets: Array) -> Array:
    """Least squares without a bias: (N, F), (N, ...) -> (F, ...); zeros where there is nothing to fit on."""
    if not len(features):
        return np.zeros((features.shape[1], *targets.shape[1:]))
    solution = np.linalg.lstsq(features, targets.reshape(len(targets), -1), rcond=None)[0]
    return solution.reshape(features.shape[1], *targets.shape[1:])


def _predicted(features: Array, solution: Array) -> Array:
    """(N, F) and (F, L, 2) -> (N, L, 2)."""
    return np.tensordot(features, solution, 1)


def _distances(first: Array, second: Array) -> Array:
    """Euclidean distance of points: (N, L, 2) each -> (N, L)."""
    distances: Array = np.linalg.norm(first - second, axis=2)
    return distances


def _mirror_order(pairs: Pairs) -> NDArray[np.int64]:
    """Which joint each joint takes its place from when left and right are exchanged: (32,)."""
    order = np.arange(32)
    for left, right in HUMAN36M_PAIRS[pairs]:
        order[left], order[right] = right, left
    return order


def _swap_to_nearer(
    landmarks: Array, order: NDArray[np.int64], predict: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Exchange left and right of pictures while that is nearer to the prediction: landmarks and (N,) distances."""
    for _ in range(SWAP_ROUNDS):
        prediction = predict(landmarks)
        distance = _distances(prediction, landmarks).mean(1)
        mirrored = landmarks[:, order]
        nearer = _distances(prediction, mirrored).mean(1) < distance
        if nearer.sum() <= SETTLED:
            return landmarks, distance
        landmarks = np.where(nearer[:, None, None], mirrored, landmarks)
    raise UserError("human36m: exchanging left and right does not converge on these keypoints")
