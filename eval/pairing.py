"""Which pictures are compared with which: partners by name, or all within a folder."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import comb, isqrt
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.source import Source
from autolink.device import to_network
from autolink.errors import UsageError, UserError
from autolink.pictures import PictureError

KEPT = 10
"""Decoded pictures held while the pairs of a set are formed: as many as a structure commonly has appearances."""


class Reader:
    """Pictures of a source as tensors."""

    def __init__(self, source: Source, device: torch.device, least_side: int) -> None:
        self.source, self.device, self.least_side = source, device, least_side
        self._decoded = lru_cache(KEPT)(self._decode)

    def picture(self, name: str) -> Tensor:
        """(1, 3, H, W) in [-1, 1].

        Raises:
            UserError: it cannot be read or is too small.
        """
        return to_network(torch.from_numpy(self._decoded(name))[None], self.device)

    def _decode(self, name: str) -> NDArray[np.uint8]:
        """(H, W, 3), RGB.

        Raises:
            UserError: it cannot be read or is too small.
        """
        try:
            picture = self.source.picture(name)
        except PictureError as error:
            raise UserError(f"{self.source.path / name} cannot be read: {error}; mend or remove it") from None
        if min(picture.size) < self.least_side:
            size = f"{picture.width}x{picture.height}"
            raise UserError(f"{self.source.path / name} is {size}; at least {self.least_side} px a side are needed")
        return np.array(picture)


def find_source(option: str, path: Path) -> Source:
    """A picture file, folder or zip.

    Raises:
        UserError: there is nothing of that kind.
    """
    try:
        return Source.of(path)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None


def is_single(path: Path) -> bool:
    """Whether a picture itself is meant, not a folder or zip of them."""
    return path.is_file() and path.suffix.lower() != ".zip"


def matched(real: Source, fake: Source) -> list[tuple[str, str]]:
    """Pairs of names that are equal but for their endings, (real, fake).

    Raises:
        UserError: a picture has no partner, or more than one.
    """
    stems = [{str(PurePosixPath(name).with_suffix("")): name for name in side.names} for side in (real, fake)]
    for side, found in zip((real, fake), stems, strict=True):
        if len(found) < len(side.names):
            counts = Counter(str(PurePosixPath(name).with_suffix("")) for name in side.names)
            raise UserError(f"{side.path} holds {counts.most_common(1)[0][0]} with several endings; keep one of them")
    alone = [sorted(set(stems[n]) - set(stems[1 - n])) for n in (0, 1)]
    if any(alone):
        missing = [
            f"{len(lone)} of {len(side.names)} pictures in {side.path} (first: {found[lone[0]]})"
            for side, found, lone in zip((real, fake), stems, alone, strict=True)
            if lone
        ]
        raise UserError(f"no partner of the same name for {' and '.join(missing)}; give both sides the same names")
    return [(stems[0][stem], stems[1][stem]) for stem in sorted(stems[0])]


def check_same_size(a: Tensor, b: Tensor, first: Path, second: Path) -> None:
    """Refuse pictures of unequal size, whose paths are given.

    Raises:
        UserError: they are.
    """
    if a.shape != b.shape:
        sizes = [f"{path} is {t.shape[3]}x{t.shape[2]}" for t, path in ((a, first), (b, second))]
        raise UserError(f"{' and '.join(sizes)}; bring both to one size first")


def structures(source: Source) -> dict[str, list[str]]:
    """Pictures by the folder they lie in.

    Raises:
        UserError: a folder holds a single one, which differs from nothing.
    """
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in source.names:
        folders[str(PurePosixPath(name).parent)].append(name)
    for folder, names in folders.items():
        if len(names) < 2:
            raise UserError(f"{source.path / folder} holds one picture; diversity needs at least 2 in each folder")
    return dict(folders)


def pairs_of(names: Sequence[str], most: int, seed: int) -> Iterator[tuple[str, str]]:
    """All pairs, or `most` of them, sampled with the seed."""
    count = comb(len(names), 2)
    if count <= most:
        yield from combinations(names, 2)
        return
    for n in sorted(random.Random(seed).sample(range(count), most)):
        later = (1 + isqrt(1 + 8 * n)) // 2  # pair n lies in row `later` of the triangle of pairs
        yield names[n - comb(later, 2)], names[later]
