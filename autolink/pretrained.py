"""A trained model as a folder: config.json, model.safetensors and a card, the layout of the Hugging Face Hub."""

import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autolink.checkpoints import check_kind
from autolink.errors import UsageError, UserError

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Save as safetensors; a full disk is an OSError as everywhere else."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
        path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets the owner alone read
    except SafetensorError as error:
        if "no space" in str(error).lower():
            raise OSError(28, "No space left on device", str(path)) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_output(option: str, path: Path | None, overwrite: bool, suffixes: Collection[str] = ()) -> None:
    """Refuse an output file that cannot be written or would replace another.

    Raises:
        UsageError: it is a folder, ends in none of the suffixes, is there already, or its folder is not.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; give a file name")
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {path}: give a name that ends in {' or '.join(suffixes)}")
    if path.exists() and not overwrite:
        raise UsageError(f"{option} {path} exists; choose another name or add --overwrite")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: the folder {path.parent} does not exist; create it first")


def save_folder(kind: str, module: nn.Module, config: Any, folder: Path, card: str, half: bool) -> None:
    """Write weights, configuration (a dataclass) and card, whole or not at all; a card that is there is kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        tensors = module.state_dict()
        if half:
            tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
        save_tensors(tensors, beside / "model.safetensors")
        (beside / "config.json").write_text(json.dumps({"model_type": kind, **asdict(config)}, indent=2) + "\n")
        (beside / "README.md").write_text(card)
        folder.mkdir(exist_ok=True)
        if (folder / "README.md").exists():
            (beside / "README.md").unlink()
        for file in beside.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_config(kind: str, config_type: type[Config], folder: Path) -> Config:
    """The configuration of a checkpoint of one kind.

    Raises:
        UserError: config.json is missing, damaged, or of another kind of model.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        raise UserError(f"{folder} is no checkpoint: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    check_kind(folder, values.pop("model_type", None), kind)
    wrong = [name for name, value in values.items() if not _like(value, getattr(config_type(), name, value))]
    if wrong:
        raise UserError(f"{path} does not describe a {kind} model: {wrong[0]} is {values[wrong[0]]!r}")
    unknown = set(values) - {f.name for f in fields(config_type)}  # type: ignore[arg-type]
    try:
        if unknown:
            raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")
        return config_type(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} does not describe a {kind} model: {error}") from None


def _like(value: Any, default: Any) -> bool:
    """Whether a value from JSON is of the default's type; whole numbers may stand for others."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(_like(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a module with a checkpoint's weights.

    Raises:
        UserError: the weights are missing, truncated or of another shape.
    """
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{folder} is no whole checkpoint: model.safetensors is missing") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); copy or train it again") from None
    try:
        module.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path} does not fit its config.json: {reason}") from None
    if not all(torch.isfinite(p).all() for p in module.parameters()):
        raise UserError(f"{path} holds weights that are not finite; train it again")


def load_folder(kind: str, config_type: type[Config], network: Callable[[Config], Network], folder: Path) -> Network:
    """The network of a checkpoint folder, ready to use.

    Raises:
        UserError: it is damaged or of another kind.
    """
    module = network(read_config(kind, config_type, folder))
    load_weights(module, folder)
    return module.eval()


def check_same_shape(start_from: str, has: Any, wanted: Any, names: Collection[str]) -> None:
    """Refuse to begin with a model whose configuration differs from the one asked for in some of its values.

    Raises:
        UserError: the first value that differs.
    """
    for name in names:
        if getattr(has, name) != getattr(wanted, name):
            raise UserError(
                f"--start-from {start_from} has --{name.replace('_', '-')} {getattr(has, name)}, here it is "
                f"{getattr(wanted, name)}"
            )
