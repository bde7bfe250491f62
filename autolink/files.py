"""Files that appear whole or not at all, and weights that are read without trust in the file."""

import errno
import json
import os
import pickle
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autolink.errors import UserError
from autolink.pictures import DAMAGE

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(r"\..*\.part-([0-9a-f]{8})-(\d+)-[0-9a-f]+(\.\w+)*")
"""Names of what is not finished: machine, process, random digits."""

_NAMELESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""A write that fails so does not say which file it was."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` to write to: it takes that name when the block ends well, else it vanishes.

    The file may be written, replaced or deleted in the block; where it was deleted, nothing appears.

    Raises:
        OSError: the folder cannot be written to or the disk is full; the error names `path`.
    """
    with _naming(path):
        clear_leftovers(path.absolute().parent)
        beside = _temporary_name(path)
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
    try:
        with _naming(path, beside):
            yield beside
            if beside.exists():
                _to_disk(beside)
                beside.replace(path)
                _to_disk(path.absolute().parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to fill: it takes that name when the block ends well, else it vanishes.

    Where `folder` is there already, the files replace those of the same name one by one, and others stay.

    Raises:
        OSError: the folder above cannot be written to or the disk is full; the error names `folder`.
    """
    with ExitStack() as stack:
        with _naming(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            beside = stack.enter_context(temporary_folder(folder))
        with _naming(folder, beside):
            yield beside
            files = [file for file in beside.rglob("*") if file.is_file()]
            for file in files:
                _to_disk(file)
            if folder.exists() and any(folder.iterdir()):
                for file in files:
                    place = folder / file.relative_to(beside)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(place)
            else:
                beside.replace(folder)
            _to_disk(folder.absolute().parent)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path` that is deleted when the block ends, unless it was renamed."""
    clear_leftovers(path.absolute().parent)
    beside = _temporary_name(path)
    beside.mkdir()
    try:
        with _naming(path, beside):
            yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder: by its name it is there whole or not at all."""
    shutil.rmtree(folder.rename(_temporary_name(folder)))


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, so that it is either there whole or not at all."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is damaged, or nested so deeply that Python's own parser gives up.
    """
    try:
        return json.loads(text)  # noqa: TID251  # here alone
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@cache
def clear_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that died while they wrote have left in a folder; once a process."""
    for child in folder.iterdir() if folder.is_dir() else ():
        found = _TEMPORARY.fullmatch(child.name)
        if found and found[1] == _HOST and not psutil.pid_exists(int(found[2])):
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is unfinished and to be renamed, by its name; of whatever machine and process."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody can guess; it holds machine and process, and keeps the suffix."""
    tag = f"{_HOST}-{os.getpid()}-{secrets.token_hex(8)}"
    suffix = path.suffix if re.fullmatch(r"\.\w+", path.suffix) else ""
    return path.with_name(f".{path.stem[:40]}.part-{tag}{suffix}")


def _to_disk(path: Path) -> None:
    """Have the system write a file or folder out, so that a rename never outlives what was renamed."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path, beside: Path | None = None) -> Iterator[None]:
    """System errors name the file that was asked for, not the one beside it, and never no file at all."""
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        ours = named is not None and beside is not None and (named == beside or beside in named.parents)
        if ours or beside is None or (named is None and error.errno in _NAMELESS):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Save as safetensors, whole or not at all; a full disk is an OSError as everywhere else."""
    with atomic_path(path) as beside:
        mode = beside.stat().st_mode
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, beside)
        except SafetensorError as error:
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
            raise
        beside.chmod(mode & 0o777)  # safetensors lets the owner alone read


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes in a safetensors file by its header alone.

    Raises:
        UserError: the file is damaged.
        FileNotFoundError: it is missing.
    """
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file; with `shapes`, refused by the header if it holds other ones.

    Raises:
        UserError: the file is damaged or holds other tensors.
        FileNotFoundError: it is missing.
    """
    with _opened(path) as file:
        if shapes is not None:
            check_shapes(path, tensor_shapes(path), shapes)
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_weights(option: str, path: Path) -> dict[str, Tensor]:
    """Weights from a file that an option names: safetensors, or a .pth of which tensors alone are unpickled.

    Raises:
        UserError: it is missing or damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return tensors
    except pickle.UnpicklingError:
        reason = "it holds more than tensors"
    except (UserError, *DAMAGE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f"{option} {path} cannot be read: {reason}")


def check_shapes(path: Path, held: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that are not those of a network.

    Raises:
        UserError: one is missing, too many or of another shape; it is named.
    """
    for name in sorted(held.keys() | wanted.keys()):
        if name not in held or name not in wanted:
            fault = f"it lacks {name}" if name in wanted else f"it holds {name}, which is not part of the network"
            raise UserError(f"{path} does not fit its config.json: {fault}")
        if tuple(held[name]) != tuple(wanted[name]):
            raise UserError(
                f"{path} does not fit its config.json: {name} is {tuple(held[name])} instead of {tuple(wanted[name])}"
            )


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); copy or train it again") from None
