"""A square of a picture: cut out, looked into in its own coordinates, and put back."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A square of a picture in its pixels, (0, 0) being the centre of the first one; it may leave the picture."""

    x: float
    """Centre of the crop's leftmost pixels: -1 of its [-1, 1] plane."""
    y: float
    """Centre of its topmost pixels."""
    side: float
    """Side in pixels: 1 of the [-1, 1] plane is at x + side - 1."""

    @classmethod
    def centre(cls, width: int, height: int) -> "Crop":
        """The largest square inside a picture, about its centre."""
        side = max(2, min(width, height))  # one pixel alone spans no plane
        return cls((width - side) / 2, (height - side) / 2, side)

    def inside(self, width: int, height: int) -> "Crop":
        """The nearest crop that does not leave a picture of this size, smaller where need be."""
        side = min(self.side, max(2, min(width, height)))
        middle = np.array([self.x, self.y]) + (self.side - side) / 2
        x, y = middle.clip(0, np.maximum(0, np.array([width, height]) - side)).tolist()
        return Crop(x, y, side)

    def to_pixels(self, keypoints: NDArray[np.floating]) -> NDArray[np.floating]:
        """(..., 2), (x, y) in [-1, 1] of the crop -> pixels of the picture."""
        return (keypoints + 1) / 2 * (self.side - 1) + [self.x, self.y]

    def from_pixels(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """The inverse of `to_pixels`."""
        return (points - [self.x, self.y]) / (self.side - 1) * 2 - 1

    def take(self, image: Image, size: int) -> Image:
        """Cut the crop out of (H, W, 3): (size, size, 3), the picture's border repeated outside of it."""
        return _sampled(image, (self.x, self.y), (self.side - 1) / (size - 1), (size, size))

    def paste(self, image: Image, patch: Image, feather: float = 0.08) -> Image:
        """Put a square picture back where the crop was taken: (H, W, 3), the rest untouched.

        Args:
            image: (H, W, 3); not changed.
            patch: (size, size, 3) of any size.
            feather: width of the soft border inside the crop, as a share of its side.
        """
        pasted = image.copy()
        height, width = image.shape[:2]
        left, right = max(0, math.ceil(self.x)), min(width, math.floor(self.x + self.side - 1) + 1)
        top, bottom = max(0, math.ceil(self.y)), min(height, math.floor(self.y + self.side - 1) + 1)
        if left >= right or top >= bottom:
            return pasted
        step = (len(patch) - 1) / (self.side - 1)
        start = ((left - self.x) * step, (top - self.y) * step)
        layer = _sampled(patch, start, step, (bottom - top, right - left))
        across = _opacity(self.x, self.side, width, feather)[left:right]
        down = _opacity(self.y, self.side, height, feather)[top:bottom]
        opacity = (down[:, None] * across)[..., None]
        below = image[top:bottom, left:right]
        pasted[top:bottom, left:right] = np.rint(below + opacity * (layer.astype(np.float32) - below))
        return pasted


def _opacity(start: float, side: float, length: int, feather: float) -> NDArray[np.float32]:
    """How much of the patch shows along one axis of a picture: none beyond the crop, all where the feather ends.

    A border at or beyond the picture's own has no feather; as it moves inside, the feather grows with it.
    """
    position = np.arange(length)
    near, far = position - start + 0.5, start + side - 0.5 - position  # to the outer edges of the crop's end pixels
    widths = np.array([start, length - start - side]).clip(1e-6, max(1e-6, feather * side))
    t: NDArray[np.float64] = np.minimum(near / widths[0], far / widths[1]).clip(0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _sampled(image: Image, start: tuple[float, float], step: float, shape: tuple[int, int]) -> Image:
    """Sample an image at start + step * (column, row), each sample the mean over its step: shape + (3,)."""
    finer = max(1, math.ceil(step - 1e-9))  # samples at most a pixel apart, then averaged: no aliasing
    fine = step / finer
    x, y = (value - fine * (finer - 1) / 2 for value in start)
    rows, columns = shape
    interpolation = cv2.INTER_LINEAR if finer > 1 else cv2.INTER_CUBIC
    sampled = cv2.warpAffine(
        image, np.array([[fine, 0, x], [0, fine, y]]), (columns * finer, rows * finer),
        flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    if finer > 1:
        sampled = cv2.resize(sampled, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(sampled, dtype=np.uint8)


def parse_crop(text: str) -> Crop:
    """The square about a box `x,y,w,h` in pixels.

    Raises:
        ValueError: the text is no box; the message says what to give.
    """
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"a crop is x,y,w,h in pixels, for instance 100,40,256,256; got {text!r}") from None
    if not (math.isfinite(x + y + w + h) and w >= 2 and h >= 2):
        raise ValueError(f"a crop must be at least 2 pixels wide and high and finite; got {text!r}")
    side = max(w, h)
    return Crop(x + (w - side) / 2, y + (h - side) / 2, side)
