"""CUB-200-2011: all birds, the first three species, and the aligned subset of Lorenz et al. (2019)."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data.listing import Listing, find, picture_sizes, read_table
from autolink.data.picture import Box
from autolink.errors import UserError
from autolink.pictures import DAMAGE

PARTS = 15
"""Annotated parts of a bird."""

TRIM = 16
"""The authors cut pictures to a multiple of this before the box is taken."""


def read_all(root: Path) -> Listing:
    """Every bird, cut out by its box."""
    return _read(root, lambda species, test: True)


def read_species(number: int) -> Callable[[Path], Listing]:
    """Trained and fitted on the first three species, tested on one of them."""
    return lambda root: _read(root, lambda species, test: species == number if test else species <= 3)


def _read(root: Path, wanted: Callable[[int, bool], bool]) -> Listing:
    """The birds of a species and side of the split that are wanted."""
    folder = find(root, "images.txt", ("", "CUB_200_2011")).parent
    files = dict(read_table(folder / "images.txt", "image_id image_name", lambda c: (int(c[0]), c[1])))

    def table(name: str, columns: str) -> dict[int, list[float]]:
        rows = read_table(find(folder, name), columns, lambda c: (int(c[0]), [float(v) for v in c[1:]]))
        lacking = next((number for number in files if number not in dict(rows)), None)
        if lacking is not None:
            raise UserError(f"{folder / name} says nothing of image {lacking}; unpack it again")
        return dict(rows)

    train = table("train_test_split.txt", "image_id is_training_image")
    species = table("image_class_labels.txt", "image_id class_id")
    boxes = table("bounding_boxes.txt", "image_id x y width height")
    chosen = [n for n in files if wanted(int(species[n][0]), not train[n][0])]
    if not chosen:
        raise UserError(f"{folder / 'image_class_labels.txt'} lists no bird of the species asked for; unpack it again")
    parts = _read_parts(folder)
    names = [f"{(folder / 'images').relative_to(root).as_posix()}/{files[n]}" for n in chosen]
    landmarks = np.full((len(chosen), PARTS, 2), np.nan)
    crops: dict[str, Box] = {}
    for row, (name, number, size) in enumerate(zip(names, chosen, picture_sizes(root, names), strict=True)):
        crops[name], inside = _crop(boxes[number], size)
        points = parts.get(number, landmarks[row])
        left, top, right, bottom = crops[name]
        points[~inside(points)] = np.nan
        landmarks[row] = (points - [left, top]) / [right - left, bottom - top]
    test = np.array([not train[n][0] for n in chosen])
    return Listing(names, test, landmarks, crops=crops)


def _read_parts(folder: Path) -> dict[int, NDArray[np.float64]]:
    """Positions of the visible parts in pixels, (15, 2) for each image number."""
    path = find(folder, "parts/part_locs.txt")
    found: dict[int, NDArray[np.float64]] = {}
    for number, part, x, y, visible in read_table(
        path, "image_id part_id x y visible", lambda c: (int(c[0]), int(c[1]), float(c[2]), float(c[3]), c[4] == "1")
    ):
        if not 1 <= part <= PARTS:
            raise UserError(f"{path} names part {part} of image {number}; there are {PARTS}")
        if visible:
            found.setdefault(number, np.full((PARTS, 2), np.nan))[part - 1] = x, y
    return found


def _crop(box: list[float], size: tuple[int, int]) -> tuple[Box, Callable[[NDArray[np.floating]], NDArray[np.bool_]]]:
    """The square around a bird's box as far as it lies in the trimmed picture, and which points lie in that picture.

    As the authors prepare it; that right and bottom are not moved by the trimmed border is theirs, too.
    """
    border = np.array(size) % TRIM
    trimmed, shift = np.array(size) - border, border // 2
    x, y, width, height = box
    centre, half = np.array([x + width / 2, y + height / 2]), max(width, height) / 2
    low = np.maximum(0, np.maximum(0, centre - half) - shift)
    high = np.minimum(trimmed, np.minimum(size, centre + half))
    left, top = low + shift
    right, bottom = np.maximum(low + 1, high) + shift

    def inside(points: NDArray[np.floating]) -> NDArray[np.bool_]:
        moved = points - shift
        within: NDArray[np.bool_] = ((moved >= 0) & (moved < trimmed)).all(1)
        return within

    return (float(left), float(top), float(right), float(bottom)), inside


def read_aligned(root: Path) -> Listing:
    """The subset whose birds look to the left with the eye at one place, as Lorenz et al. distribute it."""
    names: list[str] = []
    landmarks, test = [], []
    for side in ("train", "test"):
        path = find(root, f"{side}.csv")
        with path.open(newline="", errors="replace") as file:
            rows = csv.DictReader(file)
            if "fname" not in (rows.fieldnames or ()):
                raise UserError(f"{path} has no column fname; its columns are idx,fname,fname_original,category")
            listed = [row["fname"] for row in rows if row["fname"]]
        path = find(root, f"{side}_kp.npy")
        try:
            points = np.load(path, allow_pickle=False)
        except DAMAGE as error:
            raise UserError(f"{path} is damaged ({error}); download it again") from None
        if points.shape != (len(listed), PARTS, 3):
            raise UserError(f"{path} must be ({len(listed)}, {PARTS}, 3) as {side}.csv says, it is {points.shape}")
        names += listed
        landmarks.append(np.where(points[..., 2:] > 0.5, points[..., :2], np.nan))
        test += [side == "test"] * len(listed)
    return Listing(names, np.array(test), np.concatenate(landmarks))
