"""What the folders of pictures mean: the class, and whether a picture is held out."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLIT = re.compile(r"(?P<train>train(ing)?)|(val(id(ation)?)?|test(ing)?|dev|eval(uation)?)", re.IGNORECASE)
"""Beginnings of the names of folders that divide the pictures; those in others than `train` are held out."""
REST = re.compile(r"[ _-]?(\d+|set|data|images|imgs)?", re.IGNORECASE)
"""What may follow, as in train2017 and test_set."""


class Folders(NamedTuple):
    """What the folders say of N pictures."""

    label: list[str]
    """Class, the folder's name; empty where a picture lies in none."""
    test: NDArray[np.bool_] | None
    """(N,), the pictures in val/ and test/; None where no folders divide them into parts to train and to test on."""


def read_folders(names: Sequence[str]) -> Folders:
    """Classes and test part by the names of pictures, relative, parts apart by slashes.

    Folders that all pictures share say nothing. If those below them, or below the classes, are `train` and `val` or
    `test`, they divide the pictures, and what all pictures of every part share says nothing again.
    """
    parts = _without_shared([tuple(unicodedata.normalize("NFC", name).split("/")) for name in names])
    test = None
    for level in (0, 1):  # train/cat or cat/train
        sides = [_held_out(part[level]) if len(part) > level + 1 else None for part in parts]
        if None not in sides and len({part[level].lower() for part in parts}) > 1:
            test = np.array(sides, bool)
            parts = _without_shared([part[:level] + part[level + 1 :] for part in parts])
            break
    printable = [part[0].encode(errors="backslashreplace").decode() for part in parts]  # names may be no UTF-8
    label = [name if len(part) > 1 else "" for part, name in zip(parts, printable, strict=True)]
    return Folders(label, test if test is not None and not test.all() and test.any() else None)


def _held_out(folder: str) -> bool | None:
    """Whether the pictures of a folder are held out by its name; None where it names no part."""
    found = SPLIT.match(folder)
    if not found or not REST.fullmatch(folder[found.end() :]):
        return None
    return found["train"] is None


def _without_shared(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    while len({part[0] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[1:] for part in parts]
    return parts
