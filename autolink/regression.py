"""Keypoint regression error: how well human landmarks follow linearly from keypoints found without labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autolink.data.landmarks import Annotation

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
"""The eyes in the 68-point face annotation."""
MOUTH = slice(48, 68)
"""The lips in it."""


@dataclass(frozen=True)
class RegressionError:
    """Mean distances in per cent of the normalising length, on held-out pictures."""

    with_bias: float
    without_bias: float
    mean_pose: float
    """The baseline that predicts the mean landmark positions of the fit for every picture."""
    distances: NDArray[np.floating]
    """(N_test, L), with bias, NaN where not annotated."""


def regression_error(
    keypoints: NDArray[np.floating], annotation: Annotation, fitted: NDArray[np.bool_], lengths: NDArray[np.floating]
) -> RegressionError:
    """Fit landmarks to keypoints by least squares on one part of the pictures and measure on the rest.

    Args:
        keypoints: (N, K, 2), (x, y) in [-1, 1].
        annotation: landmarks of the same N pictures; points with NaN take no part.
        fitted: (N,), True for the pictures of the fit.
        lengths: (N,), what a distance is divided by, in pixels of the pictures.

    Raises:
        ValueError: a landmark is never annotated in one of the two parts.
    """
    unit = (keypoints.reshape(len(keypoints), -1).astype(np.float64) + 1) / 2
    ones = np.ones((len(unit), 1))
    landmarks = (annotation.landmarks.astype(np.float64) + 1) / 2  # the same origin: without a bias it matters

    def distances(design: NDArray[np.floating]) -> NDArray[np.floating]:
        residual = (_predict(design, landmarks, fitted) - landmarks) * 2 * annotation.pixels[:, None]
        shares: NDArray[np.floating] = np.linalg.norm(residual, axis=2) / lengths[:, None] * 100
        return shares[~fitted]

    with_bias = distances(np.hstack([unit, ones]))
    without_bias, mean_pose = (float(np.nanmean(distances(design))) for design in (unit, ones))
    return RegressionError(float(np.nanmean(with_bias)), without_bias, mean_pose, with_bias)


def _predict(
    design: NDArray[np.floating], landmarks: NDArray[np.floating], fitted: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Least squares of each landmark on the pictures of the fit where it is visible: (N, L, 2) for all pictures."""
    visible = ~np.isnan(landmarks).any(2)
    if not visible[fitted].any(0).all() or not visible[~fitted].any(0).all():
        raise ValueError("a landmark is annotated on no picture of the train or of the test part")
    prediction = np.empty_like(landmarks)
    patterns, group = np.unique(visible[fitted], axis=1, return_inverse=True)
    for n in range(patterns.shape[1]):
        members = np.flatnonzero(group.ravel() == n)
        rows = np.flatnonzero(fitted)[patterns[:, n]]
        target = landmarks[np.ix_(rows, members)].reshape(len(rows), -1)
        solution = np.linalg.lstsq(design[rows], target, rcond=None)[0]
        prediction[:, members] = (design @ solution).reshape(len(design), len(members), 2)
    return prediction


def inter_ocular_lengths(annotation: Annotation) -> NDArray[np.floating]:
    """Distance between the eye centres of 68-point faces in pixels: (N,)."""
    return _distance(annotation, LEFT_EYE, RIGHT_EYE)


def pair_lengths(annotation: Annotation, first: int, second: int) -> NDArray[np.floating]:
    """Distance between two landmarks in pixels: (N,)."""
    return _distance(annotation, slice(first, first + 1), slice(second, second + 1))


def side_lengths(annotation: Annotation) -> NDArray[np.floating]:
    """Longer side of what is seen of each picture, in pixels: (N,)."""
    longer: NDArray[np.floating] = annotation.pixels.max(1)
    return 2 * longer + 1


def _distance(annotation: Annotation, first: slice, second: slice) -> NDArray[np.floating]:
    centres = [annotation.landmarks[:, part].mean(1) * annotation.pixels for part in (first, second)]
    lengths: NDArray[np.floating] = np.linalg.norm(centres[0] - centres[1], axis=1)
    return lengths


def default_lengths(annotation: Annotation) -> tuple[str, NDArray[np.floating]]:
    """What the field normalises by: inter-ocular distance for 68-point faces, else the image side."""
    if annotation.landmarks.shape[1] == 68:
        return "inter-ocular distance", inter_ocular_lengths(annotation)
    return "image side", side_lengths(annotation)
