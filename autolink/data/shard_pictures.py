"""Pictures of tar shards, decoded when they are asked for: data larger than memory."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolink.data.folders import read_folders
from autolink.data.images import CroppedPictures, ImageSet, Pictures
from autolink.data.landmarks import annotate, without_landmarks
from autolink.data.picture import Fit, square
from autolink.data.shards import Index, find_shards, joined, read_index
from autolink.device import usable_cores
from autolink.errors import UserError
from autolink.pictures import PictureError, decode_reduced

Rows = NDArray[np.int64]


class ShardPictures:
    """Pictures of shards, indexed along the first axis like the array (N, size, size, 3) that they would be."""

    def __init__(
        self, paths: list[Path], counts: list[int], index: Index, names: list[str], size: int, fit: Fit
    ) -> None:
        """As `load_shards` finds them; shard n has `counts[n]` of the pictures in `index`."""
        self.paths, self.size, self.fit = paths, size, fit
        self.ends = np.cumsum(counts)
        self.offsets, self.lengths = index.offsets, index.lengths
        self.names = names
        self.threads = usable_cores()
        self.expected: tuple[bytes, list[Future[NDArray[np.uint8]]]] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, size, size, 3)."""
        return len(self), self.size, self.size, 3

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """(n, size, size, 3) of a slice or n numbers, (size, size, 3) of one number; decoded anew each time.

        Raises:
            UserError: a picture cannot be read.
        """
        if isinstance(rows, (int, np.integer)):
            return self.decoded(int(rows))
        chosen = self.numbers(rows)
        parts = self.taken(chosen) or [self.work(part) for part in self.parts(chosen)]
        found = [part.result() for part in parts]
        return np.concatenate(found) if found else np.empty((0, *self.shape[1:]), np.uint8)

    def expect(self, rows: Rows) -> None:
        """Begin to decode what is asked for next, in the background; one batch at a time is held."""
        self.expected = rows.tobytes(), [self.work(part) for part in self.parts(rows)]

    def taken(self, rows: Rows) -> list[Future[NDArray[np.uint8]]] | None:
        """What was expected, if these are the rows."""
        expected, self.expected = self.expected, None
        return expected[1] if expected and expected[0] == rows.tobytes() else None

    def numbers(self, rows: Any) -> Rows:
        """The rows' numbers, from 0."""
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        numbers = np.asarray(rows)
        return np.flatnonzero(numbers) if numbers.dtype == bool else numbers.astype(np.int64)

    def parts(self, rows: Rows) -> list[Rows]:
        """Rows shared out among the threads."""
        return np.array_split(rows, min(self.threads, len(rows))) if len(rows) else []

    def work(self, rows: Rows) -> Future[NDArray[np.uint8]]:
        """Pictures that a thread decodes."""
        return self.pool.submit(lambda: np.stack([self.decoded(row) for row in rows.tolist()]))

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads; they do not survive a copy or a fork."""
        return ThreadPoolExecutor(self.threads, "decode")

    def decoded(self, row: int) -> NDArray[np.uint8]:
        """One picture, (size, size, 3).

        Raises:
            UserError: it cannot be read.
        """
        row = range(len(self))[row]  # from the end where negative
        path = self.paths[int(np.searchsorted(self.ends, row, "right"))]
        with path.open("rb") as file:  # opened anew: no limit on open files, and no place that threads share
            file.seek(int(self.offsets[row]))
            content = file.read(int(self.lengths[row]))
        try:
            return square(decode_reduced(content, at_least=3 * self.size)[0], self.size, self.fit)
        except PictureError as error:
            raise UserError(f"{path}: {self.names[row]} cannot be read: {error}; pack it again") from None


def expect(images: Pictures, rows: Rows) -> None:
    """Say which pictures are asked for next; those of shards are decoded meanwhile."""
    if isinstance(images, CroppedPictures):
        images = images.whole
    if isinstance(images, ShardPictures):
        images.expect(rows)


def load_shards(
    data: str, size: int, fit: Fit, cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> ImageSet:
    """The pictures that `--data` names by tars; decoded when they are asked for, annotated as those of a folder.

    With `cache`, a folder, what was found in tars without an index is kept there.

    Raises:
        UserError: a tar is missing or damaged, or none holds a picture.
    """
    paths, indices = find_shards(data), list[Index]()
    for path in paths:
        indices.append(read_index(path, cache))
        if progress:
            progress(len(indices), len(paths))
    if not any(map(len, indices)):
        raise UserError(f"none of the {len(paths)} shards of --data {data} holds a picture; pack them again")
    index = joined(indices, paths)
    names: list[str] = index.names.tolist()
    sizes: list[tuple[int, int]] = [(width, height) for width, height in index.sizes.tolist()]
    annotation = None
    if told := index.told:
        annotation = annotate(told, names, sizes, fit)
    elif (test := read_folders(names).test) is not None:
        annotation = without_landmarks(test, sizes, fit)
    return ImageSet(ShardPictures(paths, [len(i) for i in indices], index, names, size, fit), names, annotation)
