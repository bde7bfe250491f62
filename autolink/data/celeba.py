"""CelebA in the wild and aligned, with MAFL's lists for the regression."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data.listing import Listing, find, picture_sizes, read_table
from autolink.errors import UserError

SMALLEST_FACE = 0.3
"""In the wild, faces whose box covers less of the picture are left out, as the authors do."""

ANNOTATION = ("", "Anno", "Eval")
"""Where the text files may lie: side by side, or in the folders that they are distributed in."""


def read_wild(root: Path) -> Listing:
    """Faces as photographed, those that fill enough of the picture."""
    names, test, landmarks = _read(root, "img_celeba", "list_landmarks_celeba.txt")
    path = find(root, "list_bbox_celeba.txt", ANNOTATION)
    areas = dict(read_table(path, "image_id x_1 y_1 width height", lambda c: (c[0], int(c[3]) * int(c[4])), header=2))
    unknown = next((name for name in names if Path(name).name not in areas), None)
    if unknown:
        raise UserError(f"{path} does not list {Path(unknown).name}; download it again")
    sizes = np.array(picture_sizes(root, names), np.float64)
    covered = np.array([areas[Path(name).name] for name in names])
    listing = Listing(names, test, landmarks / sizes[:, None])
    return listing.chosen(covered >= SMALLEST_FACE * sizes.prod(1))


def read_aligned(root: Path) -> Listing:
    """Faces moved, turned and scaled to one place by their landmarks."""
    names, test, landmarks = _read(root, "img_align_celeba", "list_landmarks_align_celeba.txt")
    annotated = np.flatnonzero(~np.isnan(landmarks).any((1, 2)))
    landmarks[annotated] /= np.array(picture_sizes(root, [names[n] for n in annotated]))[:, None]
    return Listing(names, test, landmarks)


def _read(root: Path, folder: str, annotation: str) -> tuple[list[str], NDArray[np.bool_], NDArray[np.float64]]:
    """Names, test part and landmarks in pixels, known for MAFL's pictures only: its train part is what is fitted on."""
    pictures = find(root, folder, ("", "Img")).relative_to(root)
    path = find(root, annotation, ANNOTATION)
    columns = "image_id lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x "
    rows = read_table(path, columns + "rightmouth_y", lambda c: (c[0], [int(v) for v in c[1:]]), header=2)
    points = dict(rows)
    fitted, tested = (_names(find(root, name, ("MAFL", ""))) for name in ("training.txt", "testing.txt"))
    missing = next((name for name in (*fitted, *tested) if name not in points), None)
    if missing:
        raise UserError(f"{path} does not list {missing} of MAFL; download it again")
    held = set(tested)
    train = [name for name in _train_names(root) if name not in held]
    names = [*dict.fromkeys([*train, *fitted]), *tested]
    known = {*fitted, *tested}
    landmarks = np.array([points[name] if name in known else [np.nan] * 10 for name in names], np.float64)
    test = np.arange(len(names)) >= len(names) - len(tested)
    return [(pictures / name).as_posix() for name in names], test, landmarks.reshape(-1, 5, 2)


def _train_names(root: Path) -> list[str]:
    """The pictures to train on: the list that comes with MAFL where it is there, else CelebA's own train part."""
    own = root / "MAFL" / "celebA_training.txt"
    if own.exists():
        return _names(own)
    path = find(root, "list_eval_partition.txt", ANNOTATION)
    return [name for name, part in read_table(path, "image_id partition", lambda c: (c[0], int(c[1]))) if part == 0]


def _names(path: Path) -> list[str]:
    """The first cell of every line."""
    names = [line.split()[0] for line in path.read_text(errors="replace").splitlines() if line.strip()]
    if not names:
        raise UserError(f"{path} is empty; download it again")
    return names
