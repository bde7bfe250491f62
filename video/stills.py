"""Pictures as video: a file, its frames if it is animated, or a folder of them, one frame after the other."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.pictures import (
    PICTURES,
    VIDEOS,
    PictureError,
    decode_frames,
    decode_picture,
    is_animated,
    is_hidden,
    is_picture,
    warn_once,
)
from autolink.video.container import VideoError

Image = NDArray[np.uint8]

STILL_RATE = Fraction(25)
"""Frames a second of pictures, which have none of their own."""

SHORTEST, BROWSERS = 10, Fraction(100)
"""Milliseconds: frames of an animation that are to be shown no longer than the first are shown for the second."""

ROUNDING = 1.5
"""Milliseconds by which times may be off the step on which they lie, for files round them."""


def find_stills(path: Path) -> list[Path]:
    """The picture files that `path` means, a folder's in natural order; none where it is a video.

    An animated GIF is a video; other animated pictures are one file.

    Raises:
        VideoError: a folder without pictures.
    """
    if not path.is_dir():
        return [path] if _is_still(path) else []
    files = sorted(file for file in path.iterdir() if file.is_file() and not is_hidden(file.name))
    found = [file for file in files if file.suffix.lower() in PICTURES or is_picture(file)]
    if not found:
        raise VideoError(f"there are no pictures in the folder {path}; give a video or a folder of frames")
    if others := [file.name for file in files if file not in set(found)]:
        warn_once(f"{path}: {len(others)} files are no pictures and were skipped, such as {others[0]}")
    return sorted(found, key=lambda file: (_natural(file.name), file.name))


def _is_still(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return not is_animated(path) and is_picture(path)
    return suffix in PICTURES or (suffix not in VIDEOS and is_picture(path))


def _natural(name: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def pace_of(files: list[Path]) -> tuple[Fraction, int]:
    """Frames a second of what `read_stills` delivers, and how many those are.

    Raises:
        VideoError: an animated picture cannot be read.
    """
    if not _animated(files):
        return STILL_RATE, len(files)
    times = _times(files[0])
    step = _step(times)
    return 1000 / step, max(1, round(times[-1] / step))


def read_stills(files: list[Path]) -> Iterator[Image]:
    """The pictures one after the other: (H, W, 3), RGB, upright, over white; the frames of a single animated one.

    Raises:
        VideoError: one cannot be read, or has another size than the first.
    """
    if _animated(files):
        yield from _read_animation(files[0])
        return
    shape = None
    for file in files:
        if not file.exists():
            raise VideoError(f"{file} does not exist")
        try:
            image = np.array(decode_picture(file))
        except PictureError as error:
            raise VideoError(f"{file} cannot be read as a picture: {error}") from None
        shape = shape or image.shape
        if image.shape != shape:
            sizes = f"{image.shape[1]}x{image.shape[0]}, {files[0].name} before it {shape[1]}x{shape[0]}"
            raise VideoError(f"{file} is {sizes}; frames of one video must have one size")
        yield image


def _animated(files: list[Path]) -> bool:
    return len(files) == 1 and is_animated(files[0])


def _read_animation(path: Path) -> Iterator[Image]:
    """The frames at the constant rate of `pace_of`, each as often as it lasts."""
    times = _times(path)
    step = _step(times)
    places = [round(time / step) for time in times]
    try:
        for (image, _), before, place in zip(decode_frames(path), [0, *places], places, strict=False):
            for _ in range(place - before):
                yield image
    except PictureError as error:
        raise VideoError(f"{path} is damaged: {error}") from None


def _times(path: Path) -> list[Fraction]:
    """When each frame ends, in milliseconds; of a damaged file as far as it can be read."""
    times = [Fraction(0)]
    try:
        for frame in decode_frames(path):
            times.append(times[-1] + shown_milliseconds(Fraction(frame.milliseconds).limit_denominator(1000)))
    except PictureError as error:
        if len(times) == 1:
            raise VideoError(f"{path} cannot be read as a picture: {error}") from None
    return times[1:]


def shown_milliseconds(delay: Fraction) -> Fraction:
    """How long browsers show a frame of an animation, GIF or other, for which a file says so many milliseconds."""
    return delay if delay > SHORTEST else BROWSERS


def _step(times: list[Fraction]) -> Fraction:
    """The longest step on which all times lie, but for their rounding; where there is none, the shortest frame."""
    for count in range(len(times), 10 * len(times) + 1):
        step = times[-1] / count
        if step > SHORTEST and all(abs(time - round(time / step) * step) <= ROUNDING for time in times):
            return step
    return min(later - earlier for earlier, later in zip([Fraction(0), *times], times, strict=False))
