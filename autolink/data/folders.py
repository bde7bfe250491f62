"""What the folders of pictures mean: the class, and whether a picture is held out."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLITS = {
    "train": False, "training": False, "val": True, "valid": True, "validation": True, "test": True, "testing": True,
}  # fmt: skip
"""Names of folders above all others that divide the pictures, and whether those in them are held out."""


class Folders(NamedTuple):
    """What the folders say of N pictures."""

    label: list[str]
    """Class, the folder's name; empty where a picture lies in none."""
    test: NDArray[np.bool_] | None
    """(N,), the pictures in val/ and test/; None where no folders divide them into parts to train and to test on."""


def read_folders(names: Sequence[str]) -> Folders:
    """Classes and test part by the names of pictures, relative, parts apart by slashes.

    Folders that all pictures share say nothing. If those below them are `train` and `val` or `test`, they divide the
    pictures, and what all pictures of every part share says nothing again.
    """
    parts = [tuple(unicodedata.normalize("NFC", name).split("/")) for name in names]
    parts = _without_shared(parts)
    sides = {part[0].lower() if len(part) > 1 else "" for part in parts}
    test = None
    if len(sides) > 1 and sides <= SPLITS.keys():
        test = np.array([SPLITS[part[0].lower()] for part in parts])
        parts = _without_shared([part[1:] for part in parts])
    label = [part[0] if len(part) > 1 else "" for part in parts]
    return Folders(label, test if test is not None and not test.all() and test.any() else None)


def _without_shared(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    while len({part[0] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[1:] for part in parts]
    return parts
