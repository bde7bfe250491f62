"""Where a part of the subject lies: a mean layout of keypoints, similarities fitted from it, squares seen through them.

Maps are affine, p -> A p + o, stored as (..., 2, 3); points are (x, y). Pictures are told in pixels, (0, 0) being the
centre of the first one, so that a similarity stays one in pictures that are not square.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

OUTLYING = 0.1
"""A keypoint this far from where the fit expects it, in units of the layout's radius, counts half."""
ROUNDS = 4
"""Fits, each of which weighs keypoints by how well the one before it explains them."""
SHAKIEST = 0.1
"""Deviation that every keypoint is believed to have at least, in units of the layout's radius."""


def moved(maps: Tensor, points: Tensor) -> Tensor:
    """Apply maps to points: (..., 2, 3), (..., P, 2) -> (..., P, 2)."""
    return points @ maps[..., :2].transpose(-1, -2) + maps[..., None, :, 2]


def composed(outer: Tensor, inner: Tensor) -> Tensor:
    """First the inner map, then the outer one: (..., 2, 3) each."""
    matrix = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat([matrix, offset], -1)


def inverted(maps: Tensor) -> Tensor:
    """The map back: (..., 2, 3)."""
    matrix = torch.linalg.inv(maps[..., :2])
    return torch.cat([matrix, -matrix @ maps[..., 2:]], -1)


def similarity(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The turn, scale and shift that take points nearest to targets: (..., K, 2) twice, (..., K) -> (..., 2, 3).

    Least squares, each keypoint weighed; points that all coincide are only shifted.
    """
    share = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-12))[..., None]
    p_mean, t_mean = (share * points).sum(-2, keepdim=True), (share * targets).sum(-2, keepdim=True)
    p, t = points - p_mean, targets - t_mean
    square = (share * p.square()).sum((-1, -2)).clamp(min=1e-12)
    real = (share * p * t).sum((-1, -2)) / square
    imaginary = (share[..., 0] * (p[..., 0] * t[..., 1] - p[..., 1] * t[..., 0])).sum(-1) / square
    matrix = torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], -2)
    return torch.cat([matrix, (t_mean - p_mean @ matrix.transpose(-1, -2)).transpose(-1, -2)], -1)


def scale_of(maps: Tensor) -> Tensor:
    """How many times a similarity enlarges: (..., 2, 3) -> (...)."""
    area: Tensor = torch.linalg.det(maps[..., :2])
    return area.abs().sqrt()


@dataclass(frozen=True)
class MeanLayout:
    """Where keypoints lie on average, and how steadily: what a similarity is fitted from."""

    points: tuple[tuple[float, float], ...]
    """Mean places (x, y), in the [-1, 1] plane of the pictures that they were measured in."""
    weights: tuple[float, ...]
    """How much each counts, by its steadiness; they sum to one."""

    @classmethod
    def measure(cls, keypoints: Tensor, rounds: int = 10) -> "MeanLayout":
        """The mean of many pictures' keypoints (N, K, 2) with place, scale and turn taken out (generalised Procrustes).

        A keypoint's steadiness is the median distance from its place, so that lost ones do not decide.
        """
        keypoints = keypoints.double()
        centroid = keypoints.mean((0, 1))
        size = (keypoints - keypoints.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt().mean()
        mean = keypoints[0]
        weights = torch.full(keypoints.shape[1:2], 1 / keypoints.shape[1], dtype=mean.dtype)
        for _ in range(rounds):
            layout = cls(tuple(map(tuple, mean.tolist())), tuple(weights.tolist()))
            aligned = moved(inverted(layout.fit(keypoints)), keypoints)
            mean = aligned.median(0).values
            mean = mean - weights @ mean
            mean = mean * size / (weights @ mean.square().sum(1)).sqrt().clamp(min=1e-9) + centroid
            away = (aligned - aligned.median(0).values).norm(dim=2).median(0).values
            weights = 1 / (away.square() + (SHAKIEST * size) ** 2)
            weights = weights / weights.sum()
        return cls(tuple(map(tuple, mean.tolist())), tuple(weights.tolist()))

    @cached_property
    def radius(self) -> float:
        """Weighted RMS distance of the places from their centroid."""
        points, weights = torch.tensor(self.points).double(), torch.tensor(self.weights).double()
        return math.sqrt(float(weights @ (points - weights @ points).square().sum(1)))

    def fit(self, keypoints: Tensor) -> Tensor:
        """The similarity from the layout to keypoints, robust to some that are lost: (..., K, 2) -> (..., 2, 3)."""
        points, steady = keypoints.new_tensor(self.points), keypoints.new_tensor(self.weights)
        weights = steady.expand(keypoints.shape[:-1])
        for n in range(ROUNDS + 1):
            found = similarity(points.expand_as(keypoints), keypoints, weights)
            if n < ROUNDS:
                away = (keypoints - moved(found, points)).norm(dim=-1) / scale_of(found)[..., None].clamp(min=1e-9)
                weights = steady / (1 + (away / (OUTLYING * self.radius)).square())
        return found


def square(x: float, y: float, side: float, mirrored: bool = False) -> Tensor:
    """The map from a region's own [-1, 1] plane to its square about (x, y): (2, 3), double."""
    half = side / 2
    return torch.tensor([[-half if mirrored else half, 0.0, x], [0.0, half, y]], dtype=torch.float64)


def seen(pictures: Tensor, maps: Tensor, size: int) -> Tensor:
    """Pictures seen through regions, each pixel the mean over its place: (B, 3, H, W), (B, 2, 3) -> (B, 3, size, size).

    Args:
        pictures: in any range.
        maps: from the regions' [-1, 1] planes to pixels.
        size: side of the result in pixels.
    """
    H, W = pictures.shape[2:]
    largest = float(scale_of(maps.detach()).max()) * 2 / (size - 1)
    finer = min(8, max(1, math.ceil(largest - 1e-3)))  # samples at most a pixel apart, then averaged: no aliasing
    step = 2 / (size - 1)
    axis = torch.linspace(-1, 1, size, dtype=maps.dtype, device=maps.device)
    within = (torch.arange(finer, dtype=maps.dtype, device=maps.device) + 0.5) / finer - 0.5
    axis = (axis[:, None] + within * step).flatten()
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, -1, 2)
    places = moved(maps, grid) / maps.new_tensor([max(1, W - 1), max(1, H - 1)]) * 2 - 1
    side = size * finer
    sampled = F.grid_sample(
        pictures, places.view(-1, side, side, 2).to(pictures.dtype), "bilinear", "border", align_corners=True
    )
    return F.avg_pool2d(sampled, finer) if finer > 1 else sampled


def to_pixels(keypoints: Tensor, width: int, height: int) -> Tensor:
    """(..., 2) in [-1, 1] of a picture -> its pixels."""
    return (keypoints + 1) / 2 * keypoints.new_tensor([width - 1, height - 1])


def from_pixels(points: Tensor, width: int, height: int) -> Tensor:
    """The inverse of `to_pixels`."""
    return points / points.new_tensor([max(1, width - 1), max(1, height - 1)]) * 2 - 1


def inside(maps: Tensor, width: int, height: int) -> Tensor:
    """How wholly regions lie in a picture: (..., 2, 3) -> (...), 1 with nine tenths of it inside, 0 with half."""
    axis = torch.linspace(-1, 1, 9, dtype=maps.dtype, device=maps.device)
    places = moved(maps, torch.cartesian_prod(axis, axis))
    within = ((places >= -0.5) & (places <= places.new_tensor([width - 0.5, height - 0.5]))).all(-1)
    return ((within.to(maps.dtype).mean(-1) - 0.5) / 0.4).clamp(0, 1)
