"""Landmarks, identities and the test part of a folder of pictures, as its landmarks.csv tells them."""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.data.picture import Fit, from_pixels, square_box
from autolink.data.source import Source, Unreadable
from autolink.data.split import chosen_by_name
from autolink.errors import UserError

LARGEST_COORDINATE = 1e6
"""Landmarks beyond so many pixels are mistakes."""


@dataclass(frozen=True)
class Annotation:
    """What landmarks.csv says, one row a picture; points in [-1, 1] of the square image, NaN where not annotated."""

    landmarks: NDArray[np.float32]
    """(N, L, 2), (x, y)."""
    identity: NDArray[np.str_]
    """(N,), empty where the csv is silent."""
    pixels: NDArray[np.float32]
    """(N, 2), pixels of the picture per unit of the [-1, 1] plane, (x, y)."""
    test: NDArray[np.bool_]
    """(N,), whether the picture is kept for testing: people in it are never trained on."""

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """(N,), whether a picture has any landmark."""
        return np.logical_not(np.isnan(self.landmarks).any(2).reshape(len(self.landmarks), -1).all(1))

    def __getitem__(self, chosen: NDArray) -> "Annotation":
        """The rows of some of the pictures."""
        return Annotation(self.landmarks[chosen], self.identity[chosen], self.pixels[chosen], self.test[chosen])


class Row(NamedTuple):
    """What landmarks.csv says of a picture."""

    identity: str
    split: str
    coordinates: list[float]
    """x0, y0, x1, y1, ... in pixels, NaN where not annotated."""


def read_annotation(source: Source, names: Sequence[str], sizes: Sequence[tuple[int, int]], fit: Fit) -> Annotation:
    """landmarks.csv for the pictures that were read; those without a row are not annotated.

    Args:
        source: what the pictures are from; it has a table.
        names: the pictures.
        sizes: their (width, height) in pixels.
        fit: how they became square.

    Raises:
        UserError: the table is wrong, or of other pictures.
    """
    table = source.tables[0]
    where = f"{source.path / table}"
    try:
        content = source.read(table).decode("utf-8-sig", errors="replace")
    except Unreadable as error:
        raise UserError(f"{where} cannot be read: {error}") from None
    rows, columns = _read_rows(where, content)
    folder = PurePosixPath(table).parent
    unique = {name for name, count in Counter(PurePosixPath(n).name for n in names).items() if count == 1}
    keys = [_row_name(name, folder, rows, unique) for name in names]
    if not any(keys):
        raise UserError(f"{where} names none of the pictures beside it; its first column must hold their file names")
    empty = Row("", "train", [float("nan")] * columns)
    found = [rows[key] if key else empty for key in keys]
    pixels = np.array([row.coordinates for row in found]).reshape(len(names), -1, 2)
    points = np.stack([from_pixels(p, w, h, fit) for p, (w, h) in zip(pixels, sizes, strict=True)])
    identity = np.array([row.identity for row in found])
    test = held_out(identity, np.array([row.split.strip().lower() == "test" for row in found]), names)
    boxes = np.array([square_box(w, h, fit) for w, h in sizes])
    scale = (boxes[:, 2:] - boxes[:, :2] - 1) / 2
    return Annotation(points.astype(np.float32), identity, scale.astype(np.float32), test)


def _read_rows(where: str, content: str) -> tuple[dict[str, Row], int]:
    """The rows of landmarks.csv by its first column, and how many coordinates each has; `where` names it in errors."""
    reader = csv.reader(io.StringIO(content))
    header = next(reader, [])
    if header[:3] != ["image", "identity", "split"] or len(header) < 5 or len(header) % 2 == 0:
        begins = ",".join(header[:5]) or "nothing"
        raise UserError(f"{where} must begin with the columns image,identity,split,x0,y0,..., it begins with {begins}")
    wanted = [f"{axis}{n}" for n in range((len(header) - 3) // 2) for axis in "xy"]
    if header[3:] != wanted:
        missing = next((w for w, h in zip(wanted, header[3:], strict=True) if w != h), "")
        raise UserError(f"{where} misses the column {missing}; landmark columns are x0,y0,x1,y1,... in this order")
    rows: dict[str, Row] = {}
    for line, row in enumerate(reader, 2):
        if not row:
            continue
        cells = row[3:] + [""] * (len(wanted) - len(row[3:]))
        if len(row) < 3 or len(cells) != len(wanted):
            raise UserError(f"{where}, line {line}, has {len(row)} cells instead of {len(header)}")
        try:
            values = [float(cell) if cell.strip() else float("nan") for cell in cells]
        except ValueError as error:
            raise UserError(f"{where}, line {line}: {error}") from None
        if any(math.isinf(value) or abs(value) > LARGEST_COORDINATE for value in values):
            raise UserError(f"{where}, line {line}: a coordinate is infinite or far outside any picture")
        if row[2].strip().lower() not in ("train", "test", ""):
            raise UserError(f"{where}, line {line}: split is train, test or empty, got {row[2]}")
        rows[row[0]] = Row(row[1], row[2], values)
    return rows, len(wanted)


def _row_name(name: str, folder: PurePosixPath, rows: dict, unique: set[str]) -> str | None:
    """The csv's name for a picture: relative to the csv, to `images/` beside it, or the bare file name if unique."""
    path = PurePosixPath(name)
    near = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name
    for candidate in (near, near.removeprefix("images/")):
        if candidate in rows:
            return candidate
    return path.name if path.name in rows and path.name in unique else None


def held_out(identity: NDArray[np.str_], test: NDArray[np.bool_], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which pictures are for testing: the csv's choice, unless a person is on both sides of it or it has no test part.

    Then every fifth person (or picture, where there are no identities) is held out, chosen by a hash of the name so
    that the choice is the same everywhere. Somebody is always left to learn from.
    """
    named = identity != ""
    shared = np.isin(identity[test & named], identity[~test & named]).any()
    if test.any() and not shared:
        return test
    keys = identity if named.any() else np.array(names)
    chosen = {key for key in set(keys.tolist()) if chosen_by_name(key, 5, hashed=1)}
    if chosen == set(keys.tolist()):
        return np.zeros(len(keys), bool)
    return np.array([key in chosen for key in keys])
