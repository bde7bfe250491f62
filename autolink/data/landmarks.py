"""Landmarks, identities and the test part of a folder of pictures, read from its landmarks.csv."""

import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.data.folders import read_folders
from autolink.data.picture import Fit, from_pixels, square_box
from autolink.data.source import Source
from autolink.data.split import chosen_by_name
from autolink.errors import UserError
from autolink.pictures import PictureError, warn_once

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
    """(N,), whether the picture is held out: no picture of the same identity is trained on."""

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """(N,), whether a picture has any landmark."""
        return np.logical_not(np.isnan(self.landmarks).any(2).reshape(len(self.landmarks), -1).all(1))

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> "Annotation":
        """The rows of some of the pictures."""
        return Annotation(self.landmarks[chosen], self.identity[chosen], self.pixels[chosen], self.test[chosen])


class Row(NamedTuple):
    """What landmarks.csv says of a picture."""

    identity: str
    split: str
    """train, test or empty."""
    coordinates: list[float]
    """x0, y0, x1, y1, ... in pixels, NaN where not annotated."""


@dataclass(frozen=True)
class Told:
    """What landmarks.csv says of N pictures, before it is known how they become square."""

    identity: NDArray[np.str_]
    """(N,), empty where the csv is silent."""
    split: NDArray[np.str_]
    """(N,), train, test or empty."""
    landmarks: NDArray[np.float64]
    """(N, L, 2), (x, y) in pixels of the picture, NaN where not annotated."""


def without_landmarks(test: NDArray[np.bool_], sizes: Sequence[tuple[int, int]], fit: Fit) -> Annotation:
    """The annotation of pictures without landmarks, of which only the test part is known."""
    none = np.empty((len(test), 0, 2), np.float32)
    return Annotation(none, np.full(len(test), ""), _pixels_per_unit(sizes, fit), test)


def read_annotation(source: Source, names: Sequence[str], sizes: Sequence[tuple[int, int]], fit: Fit) -> Annotation:
    """Every landmarks.csv of a source for the pictures that were read, as `read_told` and `annotate` have it."""
    return annotate(read_told(source, names), names, sizes, fit)


def read_told(source: Source, names: Sequence[str]) -> Told:
    """What every landmarks.csv of a source, which has some, says of pictures; nothing of those without a row.

    Rows without a picture and pictures without a row are counted in the log.

    Raises:
        UserError: a table is wrong, or all are of other pictures.
    """
    tables = [_read_table(source, name) for name in source.tables]
    for table in tables[1:]:
        if table.columns != tables[0].columns:
            counts = " and ".join(f"{t.where} has {t.columns // 2}" for t in (tables[0], table))
            raise UserError(f"{counts} landmarks; all tables of one data set must have the same")
    found = _match(tables, list(dict.fromkeys([*source.names, *names])))
    if not found:
        raise UserError(
            f"{tables[0].where} names none of the pictures beside it; its first column must hold their file names"
        )
    _tell_unmatched(source, tables, found)
    empty = Row("", "", [float("nan")] * tables[0].columns)
    rows = [found[name][1] if name in found else empty for name in names]
    pixels = np.array([row.coordinates for row in rows]).reshape(len(names), -1, 2)
    return Told(np.array([row.identity for row in rows]), np.array([row.split for row in rows]), pixels)


def annotate(told: Told, names: Sequence[str], sizes: Sequence[tuple[int, int]], fit: Fit) -> Annotation:
    """The annotation of pictures that became square.

    Args:
        told: what is said of them.
        names: their names.
        sizes: their (width, height) in pixels.
        fit: how they became square.
    """
    points = np.stack([from_pixels(p, w, h, fit) for p, (w, h) in zip(told.landmarks, sizes, strict=True)])
    by_folder = read_folders(names).test
    chosen = told.split == "test" if by_folder is None or told.split.any() else by_folder
    return Annotation(
        points.astype(np.float32), told.identity, _pixels_per_unit(sizes, fit), held_out(told.identity, chosen, names)
    )


def _pixels_per_unit(sizes: Sequence[tuple[int, int]], fit: Fit) -> NDArray[np.float32]:
    boxes = np.array([square_box(w, h, fit) for w, h in sizes])
    pixels: NDArray[np.float32] = ((boxes[:, 2:] - boxes[:, :2] - 1) / 2).astype(np.float32)
    return pixels


class Table(NamedTuple):
    """One landmarks.csv."""

    where: str
    """Its path, for messages."""
    folder: PurePosixPath
    rows: dict[str, Row]
    """By the first column, as `_plain` writes it."""
    columns: int
    """How many coordinates each row has."""


def _read_table(source: Source, name: str) -> Table:
    where = f"{source.path / name}"
    try:
        content = source.read(name).decode("utf-8-sig", errors="replace")
    except PictureError as error:
        raise UserError(f"{where} cannot be read: {error}") from None
    return Table(where, PurePosixPath(name).parent, *_read_rows(where, content))


def _plain(name: str) -> str:
    """A file name as both tables and folders can write it: composed letters, slashes, no blanks around it."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./"))


def _match(tables: Sequence[Table], names: Sequence[str]) -> dict[str, tuple[tuple[int, str], Row]]:
    """The row of each picture that has one, and which it is: (number of the table, its first column).

    A row names a picture relative to the table, to `images/` beside it, or by the bare file name if that is unique.
    Of several tables the one nearest above the picture is asked first.
    """
    order = sorted(range(len(tables)), key=lambda n: -len(tables[n].folder.parts))
    unique = {name for name, count in Counter(_plain(PurePosixPath(n).name) for n in names).items() if count == 1}
    found: dict[str, tuple[tuple[int, str], Row]] = {}
    for name in names:
        path = PurePosixPath(name)
        for n in order:
            folder, rows = tables[n].folder, tables[n].rows
            near = _plain(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name)
            bare = [_plain(path.name)] if _plain(path.name) in unique else []
            key = next((k for k in (near, near.removeprefix("images/"), *bare) if k in rows), None)
            if key is not None:
                found[name] = (n, key), rows[key]
                break
    return found


def _tell_unmatched(source: Source, tables: Sequence[Table], found: dict[str, tuple[tuple[int, str], Row]]) -> None:
    """Log how many rows name no picture and how many pictures have no row, with an example each."""
    used = {place for place, _ in found.values()}
    for n, table in enumerate(tables):
        alone = [key for key in table.rows if (n, key) not in used]
        if alone:
            warn_once(f"{table.where}: {len(alone)} of {len(table.rows)} rows name no picture, such as {alone[0]}")
    bare = [name for name in source.names if name not in found]
    if bare:
        warn_once(f"{source.path}: {len(bare)} of {len(source.names)} pictures have no landmarks, such as {bare[0]}")


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
        if _plain(row[0]) in rows:
            warn_once(f"{where}, line {line}, names {row[0]} again; the last row counts")
        rows[_plain(row[0])] = Row(row[1], row[2].strip().lower(), values)
    return rows, len(wanted)


def held_out(identity: NDArray[np.str_], test: NDArray[np.bool_], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which pictures are held out: the csv's choice, unless an identity is on both sides of it or it has no test part.

    Then every fifth identity (or picture, where there are none) is held out, chosen by a hash of the name so that the
    split is the same everywhere. One is always left to train on.
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
