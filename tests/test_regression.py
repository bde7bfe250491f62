import numpy as np
import pytest

from autolink.data.landmarks import Annotation
from autolink.regression import (
    default_lengths,
    inter_ocular_lengths,
    pair_lengths,
    regression_error,
    side_lengths,
)  # fmt: skip

N, K, L = 80, 4, 5
FITTED = np.arange(N) < 60


def example(seed: int = 0) -> tuple[np.ndarray, Annotation]:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(-1, 1, (N, K, 2))
    mixing = rng.normal(size=(2 * K, 2 * L))
    landmarks = (keypoints.reshape(N, -1) @ mixing + 3).reshape(N, L, 2) + rng.normal(scale=0.1, size=(N, L, 2))
    pixels = np.tile([30.0, 20.0], (N, 1))
    return keypoints, Annotation(landmarks.astype(np.float32), np.full(N, ""), pixels.astype(np.float32), ~FITTED)


def oracle(design: np.ndarray, annotation: Annotation, lengths: np.ndarray) -> float:
    """Normal equations by the pseudo-inverse, landmark by landmark and picture by picture."""
    total, count = 0.0, 0
    for n in range(annotation.landmarks.shape[1]):
        target = (annotation.landmarks[:, n] + 1) / 2  # like the keypoints: zero is the same corner
        seen = ~np.isnan(target[:, 0])
        solution = np.linalg.pinv(design[FITTED & seen]) @ target[FITTED & seen]
        for m in np.flatnonzero(~FITTED & seen):
            x, y = (design[m] @ solution - target[m]) * 2 * annotation.pixels[m]
            total += np.hypot(x, y) / lengths[m] * 100
            count += 1
    return total / count


@pytest.mark.parametrize("gaps", [False, True])
def test_equals_the_pseudo_inverse(gaps: bool) -> None:
    keypoints, annotation = example()
    if gaps:
        annotation.landmarks[np.random.default_rng(1).random((N, L)) < 0.3] = np.nan
    lengths = np.linspace(10, 60, N)
    error = regression_error(keypoints, annotation, FITTED, lengths)
    unit = (keypoints.reshape(N, -1) + 1) / 2
    ones = np.ones((N, 1))
    assert error.with_bias == pytest.approx(oracle(np.hstack([unit, ones]), annotation, lengths), rel=1e-6)
    assert error.without_bias == pytest.approx(oracle(unit, annotation, lengths), rel=1e-6)
    assert error.mean_pose == pytest.approx(oracle(ones, annotation, lengths), rel=1e-6)
    assert error.distances.shape == (20, L)


def test_affine_landmarks_are_recovered_exactly() -> None:
    keypoints, annotation = example()
    exact = keypoints[:, :1] * [2.0, -1.0] + [0.3, 0.1]
    error = regression_error(
        keypoints, Annotation(exact, annotation.identity, annotation.pixels, ~FITTED), FITTED, np.ones(N)
    )
    assert error.with_bias < 1e-8 < error.mean_pose


def test_an_affine_change_of_keypoints_changes_nothing() -> None:
    keypoints, annotation = example()
    turned = keypoints @ np.array([[0.3, -0.8], [0.9, 0.2]]) + [0.2, -0.4]
    first, second = (regression_error(k, annotation, FITTED, np.ones(N)).with_bias for k in (keypoints, turned))
    assert first == pytest.approx(second, rel=1e-6)


def test_a_landmark_seen_on_one_side_only_is_told() -> None:
    keypoints, annotation = example()
    annotation.landmarks[FITTED, 2] = np.nan
    with pytest.raises(ValueError, match="annotated on no picture"):
        regression_error(keypoints, annotation, FITTED, np.ones(N))


def test_lengths_are_pixels_of_the_picture() -> None:
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[:, 36:42] = [-0.5, 0]
    landmarks[:, 42:48] = [0.5, 0.5]
    face = Annotation(landmarks, np.array([""]), np.array([[30.0, 20.0]], np.float32), np.array([True]))
    assert inter_ocular_lengths(face)[0] == pytest.approx(np.hypot(30, 10))
    assert pair_lengths(face, 36, 0)[0] == pytest.approx(15)
    assert side_lengths(face)[0] == pytest.approx(61)
    assert default_lengths(face)[0] == "inter-ocular distance"
    assert default_lengths(example()[1])[0] == "image side"
