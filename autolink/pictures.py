"""Which files are pictures, and their pixels: one way for training, detection, transfer and measures."""

import io
import logging
import lzma
import os
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "JPEG2000", "PPM")
"""What is ever decoded, as Pillow names it. Others are not: some of its readers start programs or trust the file."""

PICTURES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pgm", ".png"}
    | {".pnm", ".ppm", ".tif", ".tiff", ".webp", ".heic", ".heif"}
)
"""Endings of pictures. Files with other endings are looked into; the last two are known in order to be refused."""

VIDEOS = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
"""Endings of videos; an animated GIF is one, another is a picture."""

ANIMATED = frozenset({"PNG", "WEBP", "AVIF", "GIF"})
"""Formats whose further pictures are frames; those of JPEG and TIFF are previews, depths or pages."""

MOST_PIXELS = 2**27
"""Larger pictures, of which decoding would take gigabytes, are refused."""

LARGE = 2**24
"""Pictures of more pixels are decoded one at a time, whatever the number of threads."""

HIDDEN = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"})
"""What systems leave in folders, in small letters."""

_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What brings a picture upright, by its EXIF orientation."""

_SIDEWAYS = frozenset(turn for orientation, turn in _TURNS.items() if orientation >= 5)

DAMAGE = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError,
    SyntaxError, AssertionError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    Image.DecompressionBombError,
)  # fmt: skip
"""What readers of files raise on damaged ones."""

_one_large = threading.Lock()

warnings.filterwarnings("ignore", module=r"PIL\.")  # here, for a filter set around each picture is no thread's own


class PictureError(Exception):
    """A picture that cannot be read; the message gives the reason, the caller adds the name."""


class Frame(NamedTuple):
    """One picture of an animation."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    milliseconds: float
    """How long it is shown."""


def decode_picture(file: Path | bytes) -> Image.Image:
    """A picture as RGB, upright by its EXIF, over white where it is transparent, 16 bits scaled to 8.

    Raises:
        PictureError: it is of no known format, damaged or too large.
    """
    return decode_reduced(file)[0]


def decode_reduced(file: Path | bytes, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """As `decode_picture`, and the (width, height) that the upright picture has in the file.

    With `at_least`, a JPEG may come at a fraction of its size, but no smaller than this many pixels: much faster.
    """
    try:
        with _opened(file) as picture:
            width, height = picture.size
            if at_least:
                picture.draft("RGB", (at_least, at_least))
            with _one_large if picture.width * picture.height > LARGE else nullcontext():
                picture.load()
                turn = _turn(picture)
                rgb = _over_white(picture)
                if turn is not None:
                    rgb = rgb.transpose(turn)
    except PictureError:
        raise
    except DAMAGE as error:
        raise PictureError(_reason(error)) from None
    return rgb, (height, width) if turn in _SIDEWAYS else (width, height)


def upright_size(file: Path | bytes) -> tuple[int, int]:
    """(width, height) of a picture by its header, upright by its EXIF.

    Raises:
        PictureError: it is of no known format or too large.
    """
    with _opened(file) as picture:
        width, height = picture.size
        return (height, width) if _turn(picture) in _SIDEWAYS else (width, height)


def is_animated(path: Path) -> bool:
    """Whether a file is a picture of several frames."""
    try:
        with _opened(path) as picture:
            return picture.format in ANIMATED and getattr(picture, "n_frames", 1) > 1
    except (PictureError, *DAMAGE):
        return False


def decode_frames(path: Path) -> Iterator[Frame]:
    """The frames of an animated picture one after the other, over white.

    Raises:
        PictureError: one cannot be read; those before it were delivered.
    """
    try:
        with _opened(path) as picture:
            first = 1 if getattr(picture, "default_image", False) else 0  # of an APNG, for viewers that do not animate
            for n in range(first, getattr(picture, "n_frames", 1)):
                picture.seek(n)
                picture.load()
                rgb = _over_white(picture, alpha_means=True)
                yield Frame(np.asarray(rgb), float(picture.info.get("duration") or 0))
    except PictureError:
        raise
    except DAMAGE as error:
        raise PictureError(_reason(error)) from None


def _opened(file: Path | bytes) -> ImageFile.ImageFile:
    """A picture whose header has been read.

    Raises:
        PictureError: it is of no known format or too large.
    """
    if isinstance(file, Path) and file.exists() and not file.is_file():
        raise PictureError("it is no regular file")
    try:
        picture = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    except UnidentifiedImageError:
        head = file[:12] if isinstance(file, bytes) else _head(file)
        if _is_heic(head):
            raise PictureError("HEIC is not read here; convert it to JPEG or PNG") from None
        known = ", ".join(FORMATS)
        raise PictureError(f"it is no picture of a known format ({known})" if head else "it is empty") from None
    except Image.DecompressionBombError:
        raise PictureError(f"it has more than {MOST_PIXELS / 1e6:.0f} million pixels; make it smaller") from None
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise PictureError(
            f"it is {picture.width}x{picture.height}, more than {MOST_PIXELS / 1e6:.0f} million pixels; make it smaller"
        )
    return picture


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged: {str(error).split(' <')[0] or type(error).__name__}"


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright; nothing where its EXIF cannot be read."""
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation) or 1)
    except DAMAGE:  # of its EXIF
        return None


def to_rgb(picture: Image.Image) -> Image.Image:
    """A PIL image as `decode_picture` gives one of a file."""
    turn = _turn(picture)
    rgb = _over_white(picture)
    return rgb if turn is None else rgb.transpose(turn)


def _over_white(picture: Image.Image, alpha_means: bool = False) -> Image.Image:
    """Any mode to RGB over white; unless `alpha_means` something for certain, one that is zero throughout is unused."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep(picture)
    if picture.has_transparency_data:
        picture = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        if alpha_means or picture.getchannel("A").getextrema() != (0, 0):
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _from_deep(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits. The scale follows from the type, never from the picture: a dim one stays dim.

    Only where the type allows several is the smallest taken that holds all values: 1, 255 or 65535 for fractions,
    65535 or 31 bits for whole numbers.
    """
    values = np.asarray(picture)
    largest = float(np.nanmax(values, initial=0))
    if picture.mode == "F":
        scale = next((top for top in (1, 255) if largest <= top), 65535)
    else:
        scale = 65535 if largest <= 65535 else 2**31 - 1
    grey = np.rint(np.nan_to_num(values).clip(0, scale) * np.float32(255 / scale)).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int) and (values != clear).any():
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def is_picture(file: Path | IO[bytes]) -> bool:
    """Whether a file begins as a picture, one that is refused by its name included, whatever its own name."""
    if isinstance(file, Path) and not file.is_file():
        return False
    try:
        with Image.open(file, formats=FORMATS):
            return True
    except UnidentifiedImageError:
        if isinstance(file, Path):
            return _is_heic(_head(file))
        file.seek(0)
        return _is_heic(file.read(12))
    except OSError:
        return False
    except DAMAGE:  # a known format, but damaged or too large: said when it is decoded
        return True


def is_hidden(name: str) -> bool:
    """Whether a relative path, separated by slashes, is or lies in a hidden or system file or folder."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != ".") or part.lower() in HIDDEN for part in parts)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones, through links to folders too, each folder once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (Path(here) / name for name in files if not is_hidden(name))


@cache
def warn_once(message: str) -> None:
    """Log a warning, each message once a process, though the same files are read again."""
    logging.getLogger("autolink").warning("%s", message)
