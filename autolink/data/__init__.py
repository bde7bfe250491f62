"""Where images come from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data.animal_traits import SPECIES
from autolink.data.animals import animal_images
from autolink.data.figures import figure_images
from autolink.data.images import ImageSet, load_images
from autolink.data.landmarks import Annotation
from autolink.data.picture import Fit
from autolink.data.published import check_root, load_published, read_listing
from autolink.data.shard_pictures import load_shards
from autolink.data.shards import find_shards, names_shards
from autolink.data.source import Source

FIGURES_TRAIN, FIGURES_TEST = 8000, 1000
"""How many rendered people are trained on, and how many others are held out."""

ANIMALS_TRAIN, ANIMALS_TEST = 6000, 600
"""The same for animals, half of them cats and half dogs."""

FIGURES_SEED = ANIMALS_SEED = 0
"""The rendered sets are the same in every run, so that figures can be compared."""

RENDERED = frozenset({"figures", "animals"})
"""Values of `--data` that need no files."""


def check_data(data: str, root: Path | None = None, videos: bool = False) -> None:
    """Refuse what `--data` and `--root` name if there is nothing to read; decodes nothing. `videos` count too, or not.

    Raises:
        UserError: no such folder, zip or tar, no pictures in it, or a published set that is not whole.
    """
    check_root(data, root)
    if root:
        read_listing(data, root)
    elif names_shards(data):
        find_shards(data)
    elif data not in RENDERED:
        Source.find(Path(data), videos)


def load_data(
    data: str,
    size: int,
    fit: Fit,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    root: Path | None = None,
    videos: bool = False,
) -> ImageSet:
    """Read what `--data` names: `figures`, `animals`, a folder, a zip, tar shards, or a published set in `root`.

    Other arguments and errors as in `load_images`.
    """
    check_root(data, root)
    if root:
        return load_published(data, root, size, fit, cache, progress)
    if data == "figures":
        return rendered_figures(FIGURES_TRAIN, FIGURES_TEST, size)
    if data == "animals":
        return rendered_animals(ANIMALS_TRAIN, ANIMALS_TEST, size)
    if names_shards(data):
        return load_shards(data, size, fit, cache, progress)
    return load_images(Path(data), size, fit, cache, progress, videos)


def rendered_figures(train: int, test: int, size: int) -> ImageSet:
    """Rendered people, each in one picture, with their joints as landmarks."""
    images, joints = figure_images(train + test, FIGURES_SEED, size)
    return _rendered(images, joints, [f"figure {n}" for n in range(train + test)], train)


def rendered_animals(train: int, test: int, size: int) -> ImageSet:
    """Rendered animal faces in two classes, with landmarks; named as if each class had a folder."""
    images, points = animal_images(train + test, ANIMALS_SEED, size)
    return _rendered(images, points, [f"{SPECIES[n % len(SPECIES)]}/{n}" for n in range(train + test)], train)


def _rendered(images: NDArray[np.uint8], points: NDArray[np.float32], names: list[str], train: int) -> ImageSet:
    count, size = images.shape[:2]
    pixels = np.full((count, 2), (size - 1) / 2, np.float32)
    return ImageSet(images, names, Annotation(points, np.array(names), pixels, np.arange(count) >= train))
