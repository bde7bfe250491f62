"""Pictures in another light, which must not matter to their keypoints, and moved, with which these must move."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LIMITS = (0.6, 0.5, 1.0, 0.35 * math.pi)
"""Largest change of brightness (added), contrast and saturation (relative) and hue (radians)."""

NEGATIVES = 0.25
"""Share of pictures shown as negatives at full strength: without, dark and light fur are still told apart."""


def draw_lights(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Random changes of light, (count, 5): brightness, contrast, saturation, hue, each in [-1, 1] times strength.

    The last is 1, or -1 for a negative.
    """
    dice = torch.rand(count, 5, generator=generator)
    sign = torch.where(dice[:, 4:] < NEGATIVES * strength, -1.0, 1.0)
    return torch.cat([(dice[:, :4] * 2 - 1) * strength, sign], 1)


def relit(images: Tensor, lights: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] in the lights (B, 5) of `draw_lights`, clipped to [-1, 1] as cameras do.

    Hue and saturation turn and scale colours about the axis of greys, contrast scales about the mean of the picture.
    """
    lights = lights.to(images)
    brightness, contrast, saturation, hue = (lights[:, :4] * images.new_tensor(LIMITS)).T
    grey = images.new_full((3, 3), 1 / 3)
    colour = torch.eye(3, device=images.device, dtype=images.dtype) - grey
    turn = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # a quarter turn about that axis
    turned = hue.cos()[:, None, None] * colour + hue.sin()[:, None, None] * turn
    colours = lights[:, 4, None, None] * (grey + (1 + saturation)[:, None, None] * turned)
    x: Tensor = torch.einsum("bij,bjhw->bihw", colours, images)
    level = x.mean((1, 2, 3), keepdim=True)
    x = level + (1 + contrast)[:, None, None, None] * (x - level) + brightness[:, None, None, None]
    return x.clamp(-1, 1)


MOVES = (0.3, 0.2, 0.15, 0.15)
"""Largest turn (radians), change of scale (relative) and shift along x and y ([-1, 1] units) of `draw_moves`."""


def draw_moves(count: int, generator: torch.Generator) -> Tensor:
    """Random turns, scales and shifts, (count, 2, 3): of a point of the moved image, (x, y, 1), where it was before."""
    turn, scale, x, y = ((torch.rand(count, 4, generator=generator) * 2 - 1) * torch.tensor(MOVES)).T
    cosine, sine = (1 + scale) * turn.cos(), (1 + scale) * turn.sin()
    return torch.stack([cosine, -sine, x, sine, cosine, y], 1).view(-1, 2, 3)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (B, 3, H, W) moved as (B, 2, 3) of `draw_moves` says, their borders mirrored."""
    grid = F.affine_grid(moves.to(images), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True, padding_mode="reflection")
