"""How a subject's keypoints lie in the crops that the detector was trained on: where, how large, in what shape."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autolink.video.crop import Crop
from autolink.video.motion import edge_matrix, radius

LINKED = 0.08
"""A keypoint counts if its strongest edge has this share of the graph's strongest."""
STRAYING = 0.5
"""And if it strays from its mean place in the subject by less than this, in units of the subject's radius (RMS)."""
SMALLEST_VARIANCE = 1e-4
"""Variance that every coordinate of a shape of size one is believed to have at least."""


@dataclass(frozen=True)
class Shape:
    """What the counted keypoints look like together, wherever they are and however large: a normal distribution."""

    mean: NDArray[np.floating]
    """(2n,), the mean shape, centred and of length one."""
    whitening: NDArray[np.floating]
    """(2n, 2n), by which a deviation from it becomes white noise."""

    @classmethod
    def measure(cls, points: NDArray[np.floating]) -> "Shape":
        """The shapes of (N, n, 2)."""
        shapes = cls.of(points)
        covariance = np.cov(shapes.T, bias=True) + SMALLEST_VARIANCE * np.eye(shapes.shape[1])
        return cls(shapes.mean(0), np.linalg.cholesky(np.linalg.inv(covariance)))

    @staticmethod
    def of(points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Centred and scaled to length one: (..., n, 2) -> (..., 2n)."""
        centred = points - points.mean(-2, keepdims=True)
        length = np.sqrt(np.square(centred).sum((-1, -2), keepdims=True))
        shapes: NDArray[np.floating] = (centred / length.clip(1e-9)).reshape(*points.shape[:-2], -1)
        return shapes

    def strangeness(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Mean squared deviation in standard deviations, (..., n, 2) -> (...): about 1 for a subject."""
        with np.errstate(invalid="ignore", over="ignore"):
            white = (self.of(points.astype(np.float64)) - self.mean) @ self.whitening
        deviation: NDArray[np.floating] = np.square(white).mean(-1)
        known: NDArray[np.floating] = np.nan_to_num(deviation, nan=np.inf)
        return known


@dataclass(frozen=True)
class Layout:
    """Where keypoints lie in crops such as the detector was trained on."""

    centre: tuple[float, float]
    """Mean centroid, (x, y) in [-1, 1]."""
    radius: float
    """Mean RMS distance from the centroid, in units of the [-1, 1] plane."""
    chosen: tuple[int, ...]
    """The keypoints that count."""
    shape: Shape | None = field(default=None, compare=False)
    """How these lie to each other, where that is known."""

    @classmethod
    def measure(cls, keypoints: NDArray[np.floating], weights: NDArray[np.floating] | None = None) -> "Layout":
        """The layout of training crops' keypoints, (N, K, 2) in [-1, 1].

        Keypoints that no edge of the graph, weights (E,), links in earnest do not count: they belong to the frame
        rather than of the subject and stay where they are when the crop moves. Nor do those that stray: they jump to
        whatever is beside the subject.
        """
        K = keypoints.shape[1]
        strongest = np.ones(K) if weights is None else edge_matrix(weights, K).max(1)
        chosen = np.flatnonzero(strongest >= LINKED * strongest.max())
        strayed = np.sqrt(
            Shape.of(keypoints[:, chosen].astype(np.float64)).reshape(len(keypoints), -1, 2).var(0).sum(1)
        )
        steady = strayed * math.sqrt(len(chosen)) < STRAYING
        chosen = chosen[steady] if steady.sum() > 1 else chosen
        points = keypoints[:, chosen].astype(np.float64)
        x, y = points.mean((0, 1)).tolist()
        return cls((x, y), float(radius(points).mean()), tuple(chosen.tolist()), Shape.measure(points))

    def where(self, points: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
        """Centroid (2,) and RMS radius of the counted ones of keypoints (K, 2)."""
        counted = points[list(self.chosen)]
        return counted.mean(0), float(radius(counted))

    def strangeness(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """How unlike a subject the counted ones of keypoints (..., K, 2) lie to each other: (...), 1 at least."""
        counted = points[..., list(self.chosen), :]
        return np.ones(counted.shape[:-2]) if self.shape is None else self.shape.strangeness(counted).clip(1)

    def crop(self, centroid: NDArray[np.floating], radius: float) -> Crop:
        """The crop in which a subject with this centroid and radius, in pixels, lies as in training."""
        span = 2 * radius / self.radius
        x, y = (centroid - (np.array(self.centre) + 1) / 2 * span).tolist()
        return Crop(x, y, span + 1)
