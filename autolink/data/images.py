"""Pictures of a folder or a zip, with or without annotation, decoded once into one array."""

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from autolink.data.clips import FRAMES_PER_CLIP, read_clip
from autolink.data.folders import read_folders
from autolink.data.landmarks import Annotation, read_annotation, without_landmarks
from autolink.data.picture import Fit, square
from autolink.data.source import Source
from autolink.errors import UserError
from autolink.files import atomic_path, parse_json, write_text
from autolink.pictures import DAMAGE, PictureError, decode_reduced
from autolink.video.container import VideoError

DECODING = 2
"""Changes when pictures are decoded otherwise, so that no array of before is taken from a cache."""


class Pictures(Protocol):
    """An array (N, size, size, 3), RGB, or what is indexed along the first axis as if it were one."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, size, size, 3)."""

    def __getitem__(self, rows: Any, /) -> Any:
        """The pictures of some rows, an array."""


@dataclass(frozen=True)
class CroppedPictures:
    """A square of every picture, (N, size, size, 3), cropped when it is asked for."""

    whole: Pictures
    left: int
    top: int
    size: int

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, size, size, 3)."""
        return len(self), self.size, self.size, 3

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.whole[rows]
        return found[..., self.top : self.top + self.size, self.left : self.left + self.size, :]


@dataclass(frozen=True)
class ImageSet:
    """Pictures ready for the networks."""

    images: Pictures
    """(N, size, size, 3), RGB; may be a memory-mapped file, or shards that are decoded when they are asked for."""
    names: list[str]
    """Where each came from, relative to the folder."""
    annotation: Annotation | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    """Pictures that could not be read, and why."""

    def __len__(self) -> int:
        return len(self.images)


def load_images(
    path: Path,
    size: int,
    fit: Fit,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    videos: bool = False,
) -> ImageSet:
    """Decode every picture of a folder or zip once, at the networks' size; with `videos`, frames of a folder's too.

    What cannot be read is named in `skipped`. With `cache`, a folder, the array is kept there as a memory-mapped file
    that processes share and later runs reuse.

    Raises:
        UserError: nothing there, nothing readable, or landmarks.csv is wrong.
    """
    return load_found(Source.find(path, videos), size, fit, cache, progress)


def load_found(
    source: Source, size: int, fit: Fit, cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> ImageSet:
    """As `load_images`, of what `Source.find` found."""
    images, names, sizes, skipped = load_source(source, size, fit, cache, progress)
    annotation = None
    if source.tables:
        annotation = read_annotation(source, names, sizes, fit)
    elif (test := read_folders(names).test) is not None:
        annotation = without_landmarks(test, sizes, fit)
    return ImageSet(images, names, annotation, skipped)


class Decoded(TypedDict):
    """What is kept of decoded pictures beside the array, as JSON."""

    names: list[str]
    sizes: list[tuple[int, int]]
    skipped: dict[str, str]


class Loaded(NamedTuple):
    """The pictures of a source that can be read."""

    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB; may be a memory-mapped file."""
    names: list[str]
    sizes: list[tuple[int, int]]
    """(width, height) of each as it lies on disk, cut as `Source.crops` says."""
    skipped: dict[str, str]
    """Pictures that cannot be read, and why."""


def load_source(
    source: Source, size: int, fit: Fit, cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Loaded:
    """Decode the pictures of a source, or take them from the cache; arguments and errors as in `load_images`."""
    key = f"{DECODING}-{source.digest()}-{size}-{fit}"
    stored = cache / f"pictures-{key}.npy" if cache else None
    index = cache / f"pictures-{key}.json" if cache else None
    kept = _cached(stored, index) if stored and index else None
    if kept:
        facts, images = kept
    else:
        facts, images = _decode(source, size, fit, stored, progress)
        if index:
            write_text(index, json.dumps(facts))
    return Loaded(images, facts["names"], facts["sizes"], facts["skipped"])


def _cached(stored: Path, index: Path) -> tuple[Decoded, NDArray[np.uint8]] | None:
    """What an earlier run decoded, None where there is nothing or it is damaged."""
    try:
        facts: Decoded = parse_json(index.read_text())
        images = np.load(stored, mmap_mode="r")
        return (facts, images) if len(images) == len(facts["names"]) else None
    except DAMAGE:
        return None


def _decode(
    source: Source, size: int, fit: Fit, stored: Path | None, progress: Callable[[int, int], None] | None
) -> tuple[Decoded, NDArray[np.uint8]]:
    """All pictures of a source: names, sizes and skipped, and the array."""
    shape = (len(source.names) + FRAMES_PER_CLIP * len(source.videos), size, size, 3)
    if stored is None:
        images = np.empty(shape, np.uint8)
        facts = _fill(images, source, size, fit, progress)
        return facts, images[: len(facts["names"])]
    stored.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(stored) as beside:
        images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(beside)
        facts = _fill(images, source, size, fit, progress)
        images.flush()
        if len(facts["names"]) < len(images):
            _shorten(beside, images, len(facts["names"]))
    return facts, np.load(stored, mmap_mode="r")


def _fill(
    images: NDArray[np.uint8], source: Source, size: int, fit: Fit, progress: Callable[[int, int], None] | None
) -> Decoded:
    """Decode a source into an array that has room for all; names, sizes and skipped.

    Raises:
        UserError: nothing can be read.
    """
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped: dict[str, str] = {}
    files = len(source.names) + len(source.videos)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        waiting = pool.map(lambda name: _attempt(source, name, size, fit), source.names)
        for done, (name, result) in enumerate(zip(source.names, waiting, strict=True), 1):
            if isinstance(result, PictureError):
                skipped[name] = str(result)
            else:
                images[len(names)], original = result
                names.append(name)
                sizes.append(original)
            if progress:
                progress(done, files)
    for done, name in enumerate(source.videos, len(source.names) + 1):
        try:
            frames = read_clip(source.path / name, size)
        except VideoError as error:
            skipped[name] = str(error)
        else:
            images[len(names) :][: len(frames)] = frames
            names += [f"{name}#{n}" for n in range(len(frames))]
            sizes += [(size, size)] * len(frames)
        if progress:
            progress(done, files)
    if not names:
        what = " and ".join(f"{len(x)} {y}" for x, y in ((source.names, "pictures"), (source.videos, "videos")) if x)
        name, reason = next(iter(skipped.items()))
        raise UserError(f"none of the {what} in {source.path} can be read; the first, {name}: {reason}")
    return {"names": names, "sizes": sizes, "skipped": skipped}


def _shorten(path: Path, images: NDArray[np.uint8], count: int) -> None:
    """Keep the first pictures only of an array that is mapped from a file."""
    rest = path.with_suffix(".short.npy")
    try:
        np.save(rest, images[:count])
        rest.replace(path)
    finally:
        rest.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Fail now if the disk is too small: writing to a mapped file that finds no room kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others: it cannot be asked for there
                    raise


def _attempt(
    source: Source, name: str, size: int, fit: Fit
) -> tuple[NDArray[np.uint8], tuple[int, int]] | PictureError:
    """As `_decode_one`, the error as a value: one that is raised in a pool ends all that follow."""
    try:
        return _decode_one(source, name, size, fit)
    except PictureError as error:
        return error


def _decode_one(source: Source, name: str, size: int, fit: Fit) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """One picture at the networks' size and its own (width, height).

    Raises:
        PictureError: it cannot be read.
    """
    if name in source.crops or name in source.masks:
        picture = source.prepared(name, source.picture(name))
        return square(picture, size, fit), picture.size
    picture, original = decode_reduced(source.read(name), at_least=3 * size)
    return square(picture, size, fit), original
