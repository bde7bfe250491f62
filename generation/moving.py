"""The error of moved pictures where something moves: elsewhere, copying the source is right already."""

from torch import Tensor

MOVES = 0.1
"""A pixel moves where real frame and source differ by more than this, averaged over the channels, in [-1, 1] units."""


def moving(real: Tensor, sources: Tensor) -> Tensor:
    """Where the real frame differs from the source: (N, 3, H, W) in [-1, 1] twice -> (N, H, W), true or false."""
    return (real - sources).abs().mean(1) > MOVES


def moving_error(images: Tensor, real: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
    """L1 in [0, 1] units summed over the moving pixels, and how many those are; all (N, 3, H, W) in [-1, 1] -> (N,)."""
    mask = moving(real, sources)
    return ((images - real).abs().mean(1) * mask).sum((1, 2)) / 2, mask.sum((1, 2))


def moving_l1(images: Tensor, real: Tensor, sources: Tensor) -> Tensor:
    """Mean L1 in [0, 1] units over the moving pixels; all (N, 3, H, W) in [-1, 1] -> (N,), NaN where nothing moves.

    Weighed by the number of moving pixels, the mean over frames is the mean over all moving pixels.
    """
    error, count = moving_error(images, real, sources)
    return error / count
