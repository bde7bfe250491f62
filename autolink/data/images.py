"""Pictures of a folder or a zip, with or without annotation, decoded once into one array."""

import errno
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolink.data.clips import FRAMES_PER_CLIP, read_clip
from autolink.data.landmarks import Annotation, read_annotation
from autolink.data.picture import Fit, read_picture, square
from autolink.data.source import Source, Unreadable
from autolink.errors import UserError
from autolink.pretrained import write_text
from autolink.video.files import VideoError


@dataclass(frozen=True)
class ImageSet:
    """Pictures ready for the networks."""

    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB; may be a memory-mapped file."""
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
    source = Source.find(path, videos)
    images, names, sizes, skipped = load_source(source, size, fit, cache, progress)
    annotation = read_annotation(source, names, sizes, fit) if source.tables else None
    return ImageSet(images, names, annotation, skipped)


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
    key = f"{source.digest()}-{size}-{fit}"
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


def _cached(stored: Path, index: Path) -> tuple[dict, NDArray[np.uint8]] | None:
    """What an earlier run decoded, None where there is nothing or it is damaged."""
    try:
        facts = json.loads(index.read_text())
        images = np.load(stored, mmap_mode="r")
        return (facts, images) if len(images) == len(facts["names"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decode(
    source: Source, size: int, fit: Fit, stored: Path | None, progress: Callable[[int, int], None] | None
) -> tuple[dict, NDArray[np.uint8]]:
    """All pictures of a source: names, sizes and skipped as a JSON-ready dict, and the array."""
    files, room = len(source.names) + len(source.videos), len(source.names) + FRAMES_PER_CLIP * len(source.videos)
    shape = (room, size, size, 3)
    beside = stored.with_name(f".{stored.name}.{os.getpid()}") if stored else None
    images: NDArray[np.uint8]
    if beside:
        beside.parent.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(beside)
    else:
        images = np.empty(shape, np.uint8)
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped: dict[str, str] = {}

    def one(name: str) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
        return _decode_one(source, name, size, fit)

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for done, (name, result) in enumerate(zip(source.names, pool.map(one, source.names), strict=True)):
                if isinstance(result, str):
                    skipped[name] = result
                else:
                    images[len(names)], original = result
                    names.append(name)
                    sizes.append(original)
                if progress:
                    progress(done + 1, files)
        for done, name in enumerate(source.videos, len(source.names)):
            try:
                frames = read_clip(source.path / name, size)
            except VideoError as error:
                skipped[name] = str(error)
            else:
                images[len(names) :][: len(frames)] = frames
                names += [f"{name}#{n}" for n in range(len(frames))]
                sizes += [(size, size)] * len(frames)
            if progress:
                progress(done + 1, files)
        if not names:
            what = " and ".join(
                f"{len(x)} {y}" for x, y in ((source.names, "pictures"), (source.videos, "videos")) if x
            )
            first = next(iter(skipped.values()))
            raise UserError(f"none of the {what} in {source.path} can be read; the first: {first}")
        facts = {"names": names, "sizes": sizes, "skipped": skipped}
        if beside and stored:
            if len(names) < room:
                np.save(beside.with_suffix(".part.npy"), images[: len(names)])
                beside.with_suffix(".part.npy").replace(beside)
            beside.replace(stored)
            return facts, np.load(stored, mmap_mode="r")
        return facts, images[: len(names)]
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Be told now if the disk is too small: writing to a mapped file that finds no room kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            path.unlink()
            if error.errno == errno.ENOSPC:
                raise OSError(error.errno, error.strerror, str(path.parent)) from None


def _decode_one(source: Source, name: str, size: int, fit: Fit) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
    """One picture at the networks' size and its own (width, height), or why it cannot be read."""
    try:
        content = source.read(name)
    except Unreadable as error:
        return str(error)
    changed = name in source.crops or name in source.masks
    picture = read_picture(content, at_least=None if changed else 3 * size)
    if isinstance(picture, str):
        return picture
    if changed:
        prepared = source.prepared(name, picture)
        return prepared if isinstance(prepared, str) else (square(prepared, size, fit), prepared.size)
    width, height = Image.open(io.BytesIO(content)).size
    if (width > height) != (picture.width > picture.height):  # EXIF laid it on its side
        width, height = height, width
    return square(picture, size, fit), (width, height)
