"""Pictures as video: one file, or a folder of them, one frame after the other."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from autolink.video.container import VideoError
from numpy.typing import NDArray
from PIL import Image as Still
from PIL import ImageOps

Image = NDArray[np.uint8]

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files that are read as one frame, or one after the other where a folder holds them."""


def find_stills(path: Path) -> list[Path]:
    """The picture files that `path` means, a folder's in natural order; none where it is a video.

    Raises:
        VideoError: a folder without pictures.
    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURES else []
    files = [f for f in path.iterdir() if f.suffix.lower() in PICTURES and not f.name.startswith(".")]
    if not files:
        raise VideoError(f"there are no pictures in the folder {path}; give a video or a folder of frames")
    return sorted(files, key=lambda file: (_natural(file.name), file.name))


def _natural(name: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def read_stills(files: list[Path]) -> Iterator[Image]:
    """The pictures one after the other: (H, W, 3), RGB, upright, over white.

    Raises:
        VideoError: one cannot be read, or has another size than the first.
    """
    shape = None
    for file in files:
        image = _read_still(file)
        shape = shape or image.shape
        if image.shape != shape:
            sizes = f"{image.shape[1]}x{image.shape[0]}, {files[0].name} before it {shape[1]}x{shape[0]}"
            raise VideoError(f"{file} is {sizes}; frames of one video must have one size")
        yield image


def _read_still(path: Path) -> Image:
    """Any picture as (H, W, 3) RGB: turned by its EXIF, over white, 16 bits scaled to 8."""
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    try:
        with Still.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # always by the same scale, for a dark frame must not flash
                deep = (np.asarray(picture, np.int64).clip(0, 65535) + 128) // 257
                return np.repeat(deep.astype(np.uint8)[..., None], 3, axis=2)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Still.alpha_composite(Still.new("RGBA", picture.size, "white"), picture)
            return np.array(picture.convert("RGB"))
    except (Still.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise VideoError(f"{path} cannot be read as a picture: {str(error).split(' <')[0]}; save it again") from None
