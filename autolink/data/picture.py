"""The networks' square of a picture, and from there back to its own pixels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["stretch", "crop"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def square(picture: Image.Image, size: int, fit: Fit) -> NDArray[np.uint8]:
    """An RGB picture at the networks' size: (size, size, 3)."""
    box = square_box(*picture.size, fit)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))


def squares(pictures: Sequence[NDArray[np.uint8]], size: int, fit: Fit) -> NDArray[np.uint8]:
    """Pictures (H, W, 3), RGB, of any sizes at the networks' size: (N, size, size, 3)."""
    return np.stack([square(Image.fromarray(picture), size, fit) for picture in pictures])


def square_box(width: int, height: int, fit: Fit) -> Box:
    """The part of a picture that becomes the square image."""
    if fit == "stretch":
        return 0, 0, width, height
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def to_pixels(points: NDArray[np.floating], width: int, height: int, fit: Fit) -> NDArray[np.floating]:
    """(..., 2) in [-1, 1] of the square image, whose outermost pixel centres are at the ends -> pixels of the picture.

    Pixel coordinates have (0, 0) at the centre of the top left pixel.
    """
    left, top, right, bottom = square_box(width, height, fit)
    return (points + 1) / 2 * [right - left - 1, bottom - top - 1] + [left, top]


def from_pixels(points: NDArray[np.floating], width: int, height: int, fit: Fit) -> NDArray[np.floating]:
    """The inverse of `to_pixels`."""
    left, top, right, bottom = square_box(width, height, fit)
    return (points - [left, top]) / [max(1, right - left - 1), max(1, bottom - top - 1)] * 2 - 1
