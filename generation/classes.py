"""Which class a picture is of, and whether it is held out: both follow from its name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data import RENDERED
from autolink.data.animal_traits import SPECIES
from autolink.data.folders import read_folders
from autolink.data.images import ImageSet
from autolink.data.shards import names_shards, shard_names
from autolink.data.source import Source
from autolink.data.split import chosen_by_name

HELD_OUT = 20
"""One picture in this many is held out, and its structure is used for measuring."""


def data_classes(data: str, root: Path | None) -> tuple[str, ...]:
    """The classes of what `--data` names; a published set is one class."""
    if data == "animals":
        return SPECIES
    if data in RENDERED or root:
        return ("all",)
    return class_names(shard_names(data) if names_shards(data) else Source.find(Path(data)).names)


def class_names(names: list[str]) -> tuple[str, ...]:
    """The classes of pictures by their names: the folders, where all pictures are in more than one, else `all`."""
    folders = set(read_folders(names).label)
    return tuple(sorted(folders)) if len(folders) > 1 and "" not in folders else ("all",)


def classes_of(names: list[str], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """The class of each picture, (N,)."""
    if classes == ("all",):
        return np.zeros(len(names), np.int64)
    number = {name: n for n, name in enumerate(classes)}
    labels = read_folders(names).label
    if not any(labels):  # all of one class
        labels = [name.split("/")[0] for name in names]
    return np.array([number[label] for label in labels], np.int64)


def held_out_pictures(data: ImageSet) -> NDArray[np.bool_]:
    """Which pictures are held out, (N,): as their annotation says, or by their names."""
    if data.annotation:
        return data.annotation.test
    return np.array([chosen_by_name(name, HELD_OUT) for name in data.names])


def without_class_means(
    values: NDArray[np.floating], classes: NDArray[np.int64], fitted: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Values (N, D) less the mean of their class among the fitted ones, or of all where the class has none."""
    centred = np.asarray(values - values[fitted].mean(0))
    for c in np.unique(classes[fitted]):
        centred[classes == c] = values[classes == c] - values[fitted & (classes == c)].mean(0)
    return centred
