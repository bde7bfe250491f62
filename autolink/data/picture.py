"""One picture: decoded and upright, made the networks' square, and from there back to its own pixels."""

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Fit = Literal["stretch", "crop"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def read_picture(content: bytes, at_least: int | None = None) -> Image.Image | str:
    """A picture file as upright RGB, or why it cannot be read.

    With `at_least`, a JPEG may come at a fraction of its size, but no smaller than this many pixels: much faster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(content))
            if at_least:
                picture.draft("RGB", (at_least, at_least))
            return to_rgb(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        return str(error).split(" <")[0] or type(error).__name__


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB, upright: EXIF rotation applied, transparency over grey, 16-bit scaled to 8."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float32)
        top = 65535 if values.max() > 255 else 255
        picture = Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def square(picture: Image.Image, size: int, fit: Fit) -> NDArray[np.uint8]:
    """An RGB picture at the networks' size: (size, size, 3)."""
    box = square_box(*picture.size, fit)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))


def square_box(width: int, height: int, fit: Fit) -> Box:
    """The part of a picture that becomes the square image."""
    if fit == "stretch":
        return 0, 0, width, height
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def to_pixels(points: NDArray, width: int, height: int, fit: Fit) -> NDArray:
    """(..., 2) in [-1, 1] of the square image, whose outermost pixel centres are at the ends -> pixels of the picture.

    Pixel coordinates have (0, 0) at the centre of the top left pixel.
    """
    left, top, right, bottom = square_box(width, height, fit)
    return (points + 1) / 2 * [right - left - 1, bottom - top - 1] + [left, top]


def from_pixels(points: NDArray, width: int, height: int, fit: Fit) -> NDArray:
    """The inverse of `to_pixels`."""
    left, top, right, bottom = square_box(width, height, fit)
    return (points - [left, top]) / [max(1, right - left - 1), max(1, bottom - top - 1)] * 2 - 1
