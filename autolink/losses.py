"""Stage one's objective."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autolink.model import AutoLinkOutput


def feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Equation 5 of the paper, sum_l |Γ_l(I') - Γ_l(I)|_1: features of a feature network, a mean within each layer."""
    return torch.stack([F.l1_loss(f.float(), w.float()) for f, w in zip(found, wanted, strict=True)]).sum()


def relative_feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Equation 5 with each layer divided by its mean magnitude on the target, a mean over layers.

    For networks whose features differ by orders of magnitude from layer to layer.
    """
    return torch.stack(
        [F.l1_loss(f.float(), w.float()) / w.float().abs().mean() for f, w in zip(found, wanted, strict=True)]
    ).mean()


def reconstruction_loss(
    output: AutoLinkOutput,
    images: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor],
    pixel_weight: float,
    vignette: float = 0.0,
) -> Tensor:
    """Equation 5 of the paper, and L1 of the pixels beside it: images (B, 3, H, W) in [-1, 1] -> a scalar.

    With `vignette`, both images fade to grey beyond this distance from the centre (`vignette_window`).
    """
    rebuilt = output.reconstruction
    if vignette:
        window = vignette_window(images.shape[-1], vignette).to(images)
        rebuilt, images = rebuilt * window, images * window
    loss = perceptual(rebuilt, images)
    if pixel_weight:
        loss = loss + pixel_weight * F.l1_loss(rebuilt, images)
    return loss


FADE = 0.3
"""A vignette falls from 1 to 0 over this distance, in [-1, 1] units."""


def vignette_window(size: int, radius: float) -> Tensor:
    """1 up to `radius` from the centre, in [-1, 1] units, then linearly to 0: (size, size)."""
    axis = torch.linspace(-1, 1, size)
    return ((radius + FADE - torch.hypot(axis[:, None], axis)) / FADE).clamp(0, 1)


TURN, SCALE, SHIFT = 0.3, 0.2, 0.25
"""Largest turn (radians), change of scale (relative) and shift ([-1, 1] units) of `draw_moves`."""


def draw_moves(count: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Random turns, scales and shifts of the plane: (count, 2, 3), from points of a moved image to the unmoved one."""
    dice = (torch.rand(count, 4, generator=generator) * 2 - 1) * strength
    turn, scale, x, y = (dice * dice.new_tensor([TURN, SCALE, SHIFT, SHIFT])).T
    return similarity(turn, 1 + scale, x, y)


def similarity(turn: Tensor, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Turns (radians), factors and shifts ([-1, 1] units), all (B,), as maps of the plane: (B, 2, 3)."""
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    return torch.stack([cosine, -sine, x, sine, cosine, y], 1).view(-1, 2, 3)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (B, 3, H, W) moved as (B, 2, 3) of `draw_moves` says, mirrored at their borders."""
    grid = F.affine_grid(moves.to(images), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True, padding_mode="reflection")


def equivariance_loss(keypoints: Tensor, moved_keypoints: Tensor, moves: Tensor) -> Tensor:
    """|A k(I o A) - k(I)|_1 (Thewlis et al., 2017): keypoints, both (B, K, 2), and A (B, 2, 3), moves -> a scalar."""
    moves = moves.to(keypoints)
    away: Tensor = moved_keypoints @ moves[:, :, :2].mT + moves[:, None, :, 2] - keypoints
    return away.abs().mean()
