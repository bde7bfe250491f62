"""Light and colour of pictures: what must not matter to where a keypoint is."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LIMITS = (0.6, 0.5, 1.0, 0.35 * math.pi)
"""Largest change of brightness (added), contrast and saturation (relative) and hue (radians)."""


def draw_lights(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Random changes of light, (count, 4) in [-1, 1] times strength: brightness, contrast, saturation, hue."""
    return (torch.rand(count, 4, generator=generator) * 2 - 1) * strength


def relit(images: Tensor, lights: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] in the lights (B, 4) of `draw_lights`, clipped to [-1, 1] as cameras do.

    Hue and saturation turn and scale colours about the axis of greys, contrast scales about the mean of the picture.
    """
    brightness, contrast, saturation, hue = (lights.to(images) * images.new_tensor(LIMITS)).T
    grey = images.new_full((3, 3), 1 / 3)
    colour = torch.eye(3, device=images.device, dtype=images.dtype) - grey
    turn = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # a quarter turn about that axis
    turned = hue.cos()[:, None, None] * colour + hue.sin()[:, None, None] * turn
    colours = grey + (1 + saturation)[:, None, None] * turned
    x: Tensor = torch.einsum("bij,bjhw->bihw", colours, images)
    level = x.mean((1, 2, 3), keepdim=True)
    x = level + (1 + contrast)[:, None, None, None] * (x - level) + brightness[:, None, None, None]
    return x.clamp(-1, 1)


WINDOW = 0.25
"""Side of the window of `local_contrast`, as a share of the picture's."""

FAINTEST = 0.08
"""Spread, of a picture in [-1, 1], below which noise is not raised to full contrast."""


def local_contrast(images: Tensor) -> Tensor:
    """What no light changes: colours less their mean around, over how much they vary there (Jarrett et al., 2009).

    Args:
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 3, H, W) in (-1, 1): local mean about 0, local spread a third, the same for black fur as for white.
    """
    away = images - _smooth(images)
    spread = _smooth(away.square().mean(1, keepdim=True)).sqrt()
    return torch.tanh(away / (3 * (spread + FAINTEST / 3)))


def _smooth(x: Tensor) -> Tensor:
    """A mean about each pixel, twice of a square window: its weight falls with distance."""
    reach = max(1, round(x.shape[-1] * WINDOW / 2))
    side = 2 * reach + 1
    for _ in range(2):
        x = F.avg_pool2d(x, (side, 1), 1, (reach, 0), count_include_pad=False)  # a row and a column: faster than both
        x = F.avg_pool2d(x, (1, side), 1, (0, reach), count_include_pad=False)
    return x


def centre_colours(pictures: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Mean CIE Lab of the central square of half the side: (N, size, size, 3) RGB -> (N, 3), lightness 0 to 100."""
    side = pictures.shape[1]
    centre = np.ascontiguousarray(pictures[:, side // 4 : side - side // 4, side // 4 : side - side // 4])
    pixels = centre.reshape(len(centre), -1, 3).astype(np.float32) / 255
    lab: NDArray[np.floating] = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))
    return np.asarray(lab.mean(1))
