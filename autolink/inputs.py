"""Input of a model: files, PIL images, arrays or tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.errors import UserError
from autolink.pictures import PictureError, decode_picture, to_rgb

Image = NDArray[np.uint8]

Picture: TypeAlias = str | Path | PIL.Image.Image | Image
"""A file, a PIL image, or an 8-bit RGB array (H, W, 3)."""

Pictures: TypeAlias = Picture | Sequence[Picture]


def read_pictures(pictures: Pictures) -> list[Image]:
    """Pictures as upright 8-bit RGB arrays, (H, W, 3) each.

    Raises:
        UserError: a file cannot be read, or an array is no 8-bit RGB picture; the message says what to give.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        return [_as_array(picture) for picture in pictures]
    if isinstance(pictures, (str, Path, PIL.Image.Image, np.ndarray)):
        return [_as_array(pictures)]
    if not isinstance(pictures, Sequence) or not pictures:
        raise UserError(
            f"give a picture file, a PIL image, an 8-bit array (H, W, 3), or a list of those; got {_told(pictures)}"
        )
    return [_as_array(picture) for picture in pictures]


def _as_array(picture: Picture) -> Image:
    if isinstance(picture, (str, Path)):
        if not Path(picture).is_file():
            raise UserError(f"there is no picture {picture}")
        try:
            return np.asarray(decode_picture(Path(picture)))
        except PictureError as error:
            raise UserError(f"{picture} cannot be read as a picture: {error}") from None
    if isinstance(picture, PIL.Image.Image):
        return np.asarray(to_rgb(picture))
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    raise UserError(
        f"a picture is a file, a PIL image or an 8-bit RGB array (H, W, 3); got {_told(picture)}. Values in [0, 1] "
        "become 8-bit by (values * 255).round().astype('uint8')"
    )


def _told(value: object) -> str:
    if isinstance(value, (np.ndarray, Tensor)):
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    return type(value).__name__


def check_range(images: Tensor) -> None:
    """Refuse a batch of images that is not (B, 3, H, W) in [-1, 1], so that a wrong scale never passes in silence.

    Raises:
        UserError: another shape or type, values that are not finite or beyond [-1, 1], or none below zero, as in
            images of [0, 1]; the message says how to convert.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise UserError(f"a tensor of images is (B, 3, H, W); got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise UserError(f"a tensor of images is floating point in [-1, 1]; got {images.dtype}: use images / 127.5 - 1")
    low, high = (value.item() for value in torch.aminmax(images))
    if not -1.1 <= low <= high <= 1.1:  # antialiased resizing may overshoot a little; not finite fails, too
        remedy = "use images / 127.5 - 1" if low >= 0 else "scale them to [-1, 1]"
        raise UserError(f"a tensor of images is in [-1, 1]; these values are {low:.4g} to {high:.4g}: {remedy}")
    if 0 <= low < high:
        raise UserError(
            f"a tensor of images is in [-1, 1]; these values are {low:.4g} to {high:.4g}, as if in [0, 1]: use images "
            "* 2 - 1 (where they are in [-1, 1] and so bright, `AutoLink.keypoints` takes them unchecked)"
        )
