"""Which class a picture is of, and whether it is kept for testing: both follow from its name."""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data import RENDERED
from autolink.data.animal_traits import SPECIES
from autolink.data.folders import read_folders
from autolink.data.images import ImageSet
from autolink.data.source import Source

HELD_OUT = 20
"""Every so manieth picture is never trained on, and its structure is asked for when measuring."""


def data_classes(data: str, root: Path | None) -> tuple[str, ...]:
    """The classes of what `--data` names; a published set is one class."""
    if data == "animals":
        return SPECIES
    return ("all",) if data in RENDERED or root else class_names(Source.find(Path(data)).names)


def class_names(names: list[str]) -> tuple[str, ...]:
    """The classes of pictures by their names: the folders, where all pictures are in more than one, else `all`."""
    folders = set(read_folders(names).label)
    return tuple(sorted(folders)) if len(folders) > 1 and "" not in folders else ("all",)


def classes_of(names: list[str], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """The class of each picture, (N,)."""
    if classes == ("all",):
        return np.zeros(len(names), np.int64)
    number = {name: n for n, name in enumerate(classes)}
    return np.array([number[label] for label in read_folders(names).label], np.int64)


def kept_for_testing(data: ImageSet) -> NDArray[np.bool_]:
    """Which pictures are kept for testing, (N,): as their annotation says, or by their names."""
    return data.annotation.test if data.annotation else np.array([_held_out(name) for name in data.names])


def _held_out(name: str) -> bool:
    """Whether a picture is kept for testing, by a hash so that the choice is the same everywhere."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4], "big") % HELD_OUT == 0
