"""The published data sets by name: `--data NAME --root FOLDER`; docs/data-sets.md says what the folder must hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from autolink.data import birds, celeba, people, unlabelled
from autolink.data.images import ImageSet, load_source
from autolink.data.landmarks import Annotation
from autolink.data.listing import Listing
from autolink.data.picture import Fit, square_box
from autolink.data.source import Source
from autolink.errors import UsageError, UserError

Protocol = Literal["", "celeba", "cub", "human36m", "taichi", "deepfashion"]


@dataclass(frozen=True)
class Published:
    """How a published set is read and measured."""

    read: Callable[[Path], Listing]
    protocol: Protocol = ""
    """Which function of eval/protocols.py; empty where there are no landmarks."""
    scale: float = 1.0
    """What that function's landmarks reach to."""


PUBLISHED: dict[str, Published] = {
    "celeba-wild": Published(celeba.read_wild, "celeba"),
    "celeba-aligned": Published(celeba.read_aligned, "celeba"),
    "cub-all": Published(birds.read_all, "cub"),
    "cub-001": Published(birds.read_species(1), "cub"),
    "cub-002": Published(birds.read_species(2), "cub"),
    "cub-003": Published(birds.read_species(3), "cub"),
    "cub-aligned": Published(birds.read_aligned, "cub"),
    "human36m": Published(people.read_human36m, "human36m"),
    "human36m-masked": Published(people.read_human36m_masked, "human36m"),
    "taichi": Published(people.read_taichi, "taichi", people.SCALE),
    "deepfashion": Published(people.read_deepfashion, "deepfashion", people.SCALE),
    "hands": Published(unlabelled.read_hands),
    "horse": Published(unlabelled.read_horse2zebra("A")),
    "zebra": Published(unlabelled.read_horse2zebra("B")),
    "flowers": Published(unlabelled.read_flowers),
    "afhq-cat": Published(unlabelled.read_afhq("cat")),
    "afhq-dog": Published(unlabelled.read_afhq("dog")),
    "afhq-wild": Published(unlabelled.read_afhq("wild")),
    "voxceleb": Published(unlabelled.read_voxceleb),
}


def check_root(data: str, root: Path | None) -> None:
    """Refuse a published set without its folder, and a folder without a published set.

    Raises:
        UsageError: --data and --root do not belong together.
    """
    if data in PUBLISHED and root is None:
        raise UsageError(
            f"--data {data} needs --root FOLDER, where the set is unpacked (docs/data-sets.md); "
            f"for a folder of your own give ./{data}"
        )
    if data not in PUBLISHED and root is not None:
        raise UsageError(f"--root is for the published sets, --data {' '.join(PUBLISHED)}; --data {data} is none")
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is no folder; give the folder where {data} is unpacked")


def read_listing(data: str, root: Path) -> Listing:
    """What a published set holds, every picture of it being there.

    Raises:
        UserError: a file is missing or wrong; the message names it.
    """
    listing = PUBLISHED[data].read(root)
    missing = [name for name in [*listing.names, *listing.masks.values()] if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{root / missing[0]} is missing, and {len(missing) - 1} other pictures of {data}; unpack them again"
        )
    if listing.test.all():
        raise UserError(f"{root} holds no picture of {data} to train on; unpack it again")
    return listing


def load_published(
    data: str,
    root: Path,
    size: int,
    fit: Fit,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    annotated_only: bool = False,
) -> ImageSet:
    """Decode a published set; arguments and errors as in `load_images`.

    Landmarks keep their authors' scale: -1 and 1 are where those put 0 and the picture's side. With `annotated_only`,
    pictures that serve training alone are left out.
    """
    listing = read_listing(data, root)
    if annotated_only:
        listing = listing.chosen(np.any(np.isfinite(listing.landmarks.sum(2)), axis=1))
    source = Source(root, listing.names, [], crops=listing.crops, masks=listing.masks)
    images, names, sizes, skipped = load_source(source, size, fit, cache, progress)
    row = {name: n for n, name in enumerate(listing.names)}
    rows = np.array([row[name] for name in names])
    boxes = np.array([square_box(w, h, fit) for w, h in sizes])
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    unit = (listing.landmarks[rows] * np.array(sizes)[:, None] - corner[:, None]) / sides[:, None]
    identity = np.array(listing.identity or [""] * len(listing.names))[rows]
    return ImageSet(
        images,
        names,
        Annotation(
            (2 * unit - 1).astype(np.float32), identity, ((sides - 1) / 2).astype(np.float32), listing.test[rows]
        ),
        skipped,
    )
