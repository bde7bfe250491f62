"""The objective of a judge of joints."""

import torch
from torch import Tensor

TARGET_WIDTH = 0.75
"""Standard deviation of the target heatmap, in its pixels."""

DISTANCE_WEIGHT = 5.0
"""Weight of the distance of the joints beside the cross-entropy of their heatmaps."""


def joint_loss(heatmaps: Tensor, truth: Tensor, grid: Tensor) -> Tensor:
    """-Σ q log p + DISTANCE_WEIGHT |E_p[x] - x|_2: q is a Gaussian at the true joint x (Nibali et al., 2018).

    A joint outside the image asks for an even heatmap instead: nothing is to be seen, and confidence shall be low.

    Args:
        heatmaps: (B, J, h * w), log p, as `Judge.forward` gives.
        truth: (B, J, 2), (x, y) in [-1, 1] if inside; joints that are NaN take no part.
        grid: (h * w, 2), positions of the heatmap's pixels.
    """
    annotated = torch.isfinite(truth).all(2)
    inside = (truth.abs() <= 1).all(2)
    truth = torch.where(inside[..., None], truth, 0.0)
    width = TARGET_WIDTH * 2 / (len(grid) ** 0.5 - 1)
    square_distances = (truth[:, :, None] - grid).square().sum(3)
    target = torch.where(inside[..., None], (-square_distances / (2 * width**2)).softmax(2), 1 / len(grid))
    distance = (heatmaps.exp() @ grid - truth).square().sum(2).add(1e-8).sqrt() * inside
    loss = DISTANCE_WEIGHT * distance - (target * heatmaps).sum(2)
    return (loss * annotated).sum() / annotated.sum().clamp(min=1)
