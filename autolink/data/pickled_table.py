"""Names and joints from the pickled pandas tables of Tai-Chi-HD, without running what a pickle may hold.

Nothing of the file is ever executed, and NumPy's own way to fill an array from a pickle, which trusts what it is given,
is never called: stand-ins record what the pickle says, and arrays are made from that if types and lengths agree.
"""

import io
import pickle
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from autolink.errors import UserError
from autolink.pictures import DAMAGE

NUMBERS = frozenset(f"{kind}{size}" for kind, sizes in (("f", "48"), ("i", "1248"), ("u", "1248")) for size in sizes)
"""Types of numbers that are read, as a pickled dtype names them; `O8` and `O` are lists of anything."""


MOST = 10**8
"""Entries of all arrays together at the most: a small file can name one array any number of times."""


class _Inert:
    """Stands for whatever class or function a pickle names: it keeps what it is given and does nothing."""

    given: tuple[Any, ...]
    held: list[Any]

    def __new__(cls, *given: Any, **options: Any) -> Self:
        """Here, for pickles make objects without initialising them."""
        made = super().__new__(cls)
        made.given, made.held = given, [*given, *options.values()]
        return made

    def __setstate__(self, state: Any) -> None:
        self.held.append(state)


class _Type(_Inert):
    """Stands for a dtype."""


class _Array(_Inert):
    """Stands for an array that is made empty and then filled by its state."""

    def parts(self) -> tuple[Any, ...]:
        """Shape, type, whether columns come first, and content, as the file says."""
        state = self.held[-1]
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without content")
        return state[1:]


class _Buffer(_Array):
    """Stands for an array that is made of its content at once, as pickle protocol 5 does."""

    def parts(self) -> tuple[Any, ...]:
        content, kind, shape, order = self.given
        return shape, kind, order == "F", content


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes as old pickle protocols write them."""
    if encoding != "latin1":
        raise ValueError(f"text in the encoding {encoding}")
    return text.encode(encoding)


class _Reader(pickle._Unpickler):  # in Python: the one in C allots what a file asks for
    """Knows no class but the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in."""
        if (module, name) == ("numpy", "dtype"):
            return _Type
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Array
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _Buffer
        return _Inert


def read_names_and_points(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The file names, N, and joints, (N, L, 2), of a pickled table with the columns file_name and value.

    Raises:
        UserError: the file is missing, damaged, or holds no such columns.
    """
    try:
        table = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        columns = [column for array in _object_arrays(table) for column in array.reshape(-1, array.shape[-1])]
        names = next((c.tolist() for c in columns if len(c) and all(isinstance(v, str) and "." in v for v in c)), None)
        points = next((stacked for stacked in map(_stacked, columns) if stacked is not None), None)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (pickle.UnpicklingError, *DAMAGE) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is damaged ({reason}); download it again") from None
    if names is None or points is None or len(names) != len(points):
        raise UserError(f"{path} holds no columns file_name and value; download it again")
    return names, points


def _object_arrays(table: Any) -> Iterator[NDArray[Any]]:
    """Every array of objects that hangs somewhere below a value, in the order of the file."""
    waiting, seen, entries = [table], set(), 0
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _Array):
            made = _made(value)
            entries += made.size
            if entries > MOST:
                raise ValueError("more entries than any data set has")
            if made.dtype == object and made.ndim and made.size:
                yield made
        elif isinstance(value, _Inert):
            waiting += reversed(value.held)
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, (list, tuple)):
            waiting += reversed(value)


def _made(array: _Array) -> NDArray[Any]:
    """The array that a stand-in describes.

    Raises:
        ValueError: its type is none that is read, or its content has not the length that its shape needs.
    """
    shape, kind, columns_first, content = array.parts()
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array whose shape is none")
    code, order = _code(kind)
    count = prod(shape)
    if code in ("O", "O8"):
        if not isinstance(content, list) or len(content) != count:
            raise ValueError("an array with more or fewer entries than its shape")
        flat = np.empty(count, object)
        for n, value in enumerate(content):
            flat[n] = value
    else:
        size = int(code[1:])
        content = content.encode("latin1") if isinstance(content, str) else content  # of Python 2
        if not isinstance(content, (bytes, bytearray)) or len(content) != count * size:
            raise ValueError("an array with more or fewer bytes than its shape")
        flat = np.frombuffer(bytes(content), f"{order}{code}")
    return flat.reshape(shape, order="F" if columns_first else "C")


def _code(kind: Any) -> tuple[str, str]:
    """What a dtype's stand-in names, and its byte order.

    Raises:
        ValueError: it is none of those that are read.
    """
    code = kind.given[0] if isinstance(kind, _Type) and kind.given else None
    if not isinstance(code, str) or (code not in NUMBERS and code not in ("O", "O8")):
        raise ValueError(f"an array of the type {code!r}" if isinstance(code, str) else "an array without a type")
    state = kind.held[-1]
    order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "="
    return code, order


def _stacked(column: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column of (L, 2) tables as one array, None if it is something else."""
    if not all(isinstance(value, _Array) for value in column):
        return None
    first = _made(column[0])
    if first.dtype == object or first.ndim != 2 or first.shape[1] != 2 or first.size * len(column) > MOST:
        return None
    points = np.empty((len(column), *first.shape))
    for n, value in enumerate(column):
        table = _made(value)
        if table.shape != first.shape or table.dtype == object:
            return None
        points[n] = table
    return points
