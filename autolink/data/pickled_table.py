"""Names and joints from the pickled pandas tables of Tai-Chi-HD, without running what a pickle may hold."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolink.errors import UserError

_REAL = {("numpy", "ndarray"), ("numpy", "dtype")}


class _Inert:
    """Stands for whatever class or function a pickle names: it keeps what it is given and does nothing."""

    def __init__(self, *given: Any, **options: Any) -> None:
        self.held: list[Any] = [given, options]

    def __setstate__(self, state: Any) -> None:
        self.held = [*getattr(self, "held", []), state]


class _Reader(pickle.Unpickler):
    """Knows NumPy's arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """An array's parts as they are, an inert stand-in for all else."""
        if (module, name) in _REAL:
            return getattr(np, name)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        return _Inert


def _empty_array(kind: Any, shape: tuple[int, ...], code: bytes) -> NDArray:
    """What an array's pickled state is filled into."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def read_names_and_points(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The file names, N, and joints, (N, L, 2), of a pickled table with the columns file_name and value.

    Raises:
        UserError: the file is missing, damaged, or holds no such columns.
    """
    try:
        table = _Reader(io.BytesIO(path.read_bytes())).load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:  # a damaged pickle raises almost anything
        raise UserError(f"{path} is damaged ({error}); download it again") from None
    columns = [column for array in _object_arrays(table) for column in np.atleast_2d(array)]
    names = next((c for c in columns if len(c) and all(isinstance(v, str) and "." in v for v in c)), None)
    points = next((stacked for stacked in map(_stacked, columns) if stacked is not None), None)
    if names is None or points is None or len(names) != len(points):
        raise UserError(f"{path} holds no columns file_name and value; download it again")
    return [str(name) for name in names], points


def _object_arrays(value: Any) -> Iterator[NDArray]:
    """Every array of objects that hangs somewhere below a value."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            yield value
    elif isinstance(value, _Inert):
        yield from _object_arrays(value.held)
    elif isinstance(value, dict):
        yield from _object_arrays(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _object_arrays(part)


def _stacked(column: NDArray) -> NDArray[np.float64] | None:
    """A column of (L, 2) tables as one array, None if it is something else."""
    try:
        points = np.array([np.asarray(value, np.float64) for value in column])
    except (ValueError, TypeError):
        return None
    return points if points.ndim == 3 and points.shape[2] == 2 else None
