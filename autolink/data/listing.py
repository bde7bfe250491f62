"""What the annotation of a published data set says, and how its text files are read."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolink.data.picture import Box
from autolink.errors import UserError
from autolink.pictures import DAMAGE, FORMATS, PICTURES, files_below

Value = TypeVar("Value")


@dataclass(frozen=True)
class Listing:
    """The pictures of a published set in order, N, and what is known of them; nothing is decoded yet."""

    names: list[str]
    """Relative to the set's folder."""
    test: NDArray[np.bool_]
    """(N,), the test part; all others are trained on."""
    landmarks: NDArray[np.float64]
    """(N, L, 2), (x, y) in [0, 1] of the (cropped) picture as the set's authors scale them, NaN where not visible."""
    identity: list[str] = field(default_factory=list)
    """Who is in the picture, where that is known."""
    crops: dict[str, Box] = field(default_factory=dict)
    """The part of a picture that is used."""
    masks: dict[str, str] = field(default_factory=dict)
    """The picture that is white where another one is kept; grey takes the place of the rest."""

    def chosen(self, rows: NDArray[np.bool_]) -> "Listing":
        """Only some of the pictures."""
        kept = np.flatnonzero(rows).tolist()
        names = [self.names[n] for n in kept]
        identity = [self.identity[n] for n in kept] if self.identity else []
        crops = {name: self.crops[name] for name in names if name in self.crops}
        masks = {name: self.masks[name] for name in names if name in self.masks}
        return Listing(names, self.test[rows], self.landmarks[rows], identity, crops, masks)


def without_landmarks(train: Sequence[str], test: Sequence[str] = (), identity: Sequence[str] = ()) -> Listing:
    """A listing without landmarks."""
    count = len(train) + len(test)
    split = np.arange(count) >= len(train)
    return Listing([*train, *test], split, np.empty((count, 0, 2)), list(identity))


def find(root: Path, name: str, folders: Iterable[str] = ("",)) -> Path:
    """A file or folder of the set, in the first of several places where it may lie.

    Raises:
        UserError: it lies in none of them.
    """
    places = [root / folder / name for folder in folders]
    for place in places:
        if place.exists():
            return place
    if not root.is_dir():
        raise UserError(f"--root {root} is no folder; give the folder of the unpacked data set")
    others = ", nor is " + ", nor ".join(map(str, places[1:])) if len(places) > 1 else ""
    raise UserError(f"{places[0]} is missing{others}; docs/data-sets.md says what the folder must hold")


def read_table(path: Path, columns: str, parse: Callable[[list[str]], Value], header: int = 0) -> list[Value]:
    """The rows of a text table whose cells stand apart by blanks.

    Args:
        path: the file.
        columns: the columns' names, as shown to the user when a row is wrong.
        parse: makes a row of its cells; a ValueError means that the row is wrong.
        header: lines to leave out at the start.

    Raises:
        UserError: a row has another number of cells or cannot be parsed, or there are no rows.
    """
    count = len(columns.split())
    rows = []
    for line, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        cells = text.split()
        if line <= header or not cells:
            continue
        try:
            if len(cells) != count:
                raise ValueError
            rows.append(parse(cells))
        except ValueError:
            raise UserError(f"{path}, line {line}, is not `{columns}` but `{text[:80]}`") from None
    if not rows:
        raise UserError(f"{path} is empty; unpack it again")
    return rows


def read_mat(path: Path, name: str) -> NDArray[Any]:
    """One array of a MATLAB file.

    Raises:
        UserError: the file is missing or damaged, or holds no array of that name.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise UserError(f"{path} is missing; docs/data-sets.md says what the folder must hold")
    try:
        array: NDArray[Any] = loadmat(path, variable_names=[name])[name]
    except KeyError:
        raise UserError(f"{path} holds no array {name}; it is another file than docs/data-sets.md asks for") from None
    except (MatReadError, *DAMAGE) as error:
        raise UserError(f"{path} is damaged ({error}); unpack it again") from None
    return array


def pictures(root: Path, folder: str) -> list[str]:
    """All pictures below a folder of the set, sorted, relative to the set.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    here = find(root, folder)
    found = [f.relative_to(root).as_posix() for f in files_below(here) if f.suffix.lower() in PICTURES]
    if not found:
        raise UserError(f"{here} holds no pictures; unpack it again")
    return sorted(found)


def picture_sizes(root: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """(width, height) of pictures, without decoding them.

    Raises:
        UserError: a picture is missing or is none.
    """

    def size(name: str) -> tuple[int, int]:
        try:
            with Image.open(root / name, formats=FORMATS) as picture:
                return picture.size
        except FileNotFoundError:
            raise UserError(f"{root / name} is missing; unpack the pictures again") from None
        except DAMAGE:
            raise UserError(f"{root / name} is no picture; unpack the pictures again") from None

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(size, names))
