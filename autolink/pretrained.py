"""A trained model as a folder: config.json, model.safetensors and a card, the layout of the Hugging Face Hub."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from autolink import __version__
from autolink.checkpoints import check_kind
from autolink.errors import UsageError, UserError
from autolink.files import atomic_folder, check_shapes, parse_json, read_tensors, save_tensors, tensor_shapes
from autolink.pictures import DAMAGE

FORMAT = 1
"""The `format_version` of config.json that is written, and the newest that is read.

0, or none, is of before 1.0, where some tensors have other names (`earlier_keys`). Raise it when folders change so that
earlier releases would misread them, and let `read_config` or a hook like `rename_earlier_keys` migrate what is older.
"""

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)

SPARE = 2
"""How many times the numbers in a file a network may hold while it is built: some are not stored."""


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


def check_output_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder for a checkpoint that is none, holds something else, or would be replaced.

    Raises:
        UsageError: it is a file, or holds files.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "config.json").exists():
            raise UsageError(f"{folder} holds files that are no checkpoint; choose a new folder")
        if not overwrite:
            raise UsageError(f"{folder} holds a checkpoint; choose another folder or add --overwrite")


def save_folder(kind: str, module: nn.Module, config: Any, folder: Path, card: str, half: bool) -> None:
    """Write weights, configuration (a dataclass) and card, whole or not at all; a card that is there is kept."""
    tensors = module.state_dict()
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    with atomic_folder(folder) as beside:
        save_tensors(tensors, beside / "model.safetensors")
        values = {"model_type": kind, "format_version": FORMAT, **asdict(config)}
        (beside / "config.json").write_text(json.dumps(values, indent=2) + "\n")
        if not (folder / "README.md").exists():
            (beside / "README.md").write_text(card, encoding="utf-8")


def read_config(kind: str, config_type: type[Config], folder: Path) -> Config:
    """The configuration of a checkpoint of one kind.

    Raises:
        UserError: config.json is missing, damaged, of another kind of model, or in a newer format.
    """
    path = folder / "config.json"
    try:
        values = parse_json(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        raise UserError(f"{folder} is no checkpoint: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    _check_format(path, values.pop("format_version", 0))
    check_kind(folder, values.pop("model_type", None), kind)
    wrong = [name for name, value in values.items() if not _like(value, getattr(config_type(), name, value))]
    if wrong:
        raise UserError(f"{path} does not describe a {kind} model: {wrong[0]} is {values[wrong[0]]!r}")
    unknown = set(values) - {f.name for f in fields(config_type)}  # type: ignore[arg-type]
    try:
        if unknown:
            raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")
        return config_type(**values)
    except DAMAGE as error:
        raise UserError(f"{path} does not describe a {kind} model: {error}") from None


def _check_format(path: Path, found: object) -> None:
    """Refuse a checkpoint that a newer AutoLink wrote.

    Raises:
        UserError: so, or the number is none.
    """
    if type(found) is not int or found < 0:
        raise UserError(f"{path} is damaged: format_version is {found!r}, a whole number is wanted")
    if found > FORMAT:
        raise UserError(
            f"{path} is in checkpoint format {found}, AutoLink {__version__} reads formats up to {FORMAT}; install a "
            "newer one with pip install --upgrade autolink-keypoints"
        )


def _like(value: Any, default: Any) -> bool:
    """Whether a value from JSON is of the default's type; whole numbers may stand for others."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(_like(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


class _Building(TorchFunctionMode):
    """A network to be filled from a file: it is not initialised, and may hold so many numbers and no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if function.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return arguments[0] if arguments else named["tensor"]
        if function in (torch.empty, torch.zeros, torch.ones, torch.randn):
            sizes = arguments[0] if isinstance(arguments[0], (tuple, list)) else arguments
            self.left -= math.prod(sizes)
            if self.left < 0:
                raise MemoryError(f"it asks for a tensor of {' x '.join(map(str, sizes))}")
        return function(*arguments, **(named or {}))


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a module with a checkpoint's weights, whose shapes are known to fit.

    Raises:
        UserError: the weights are damaged or not finite.
    """
    path = folder / "model.safetensors"
    tensors = read_tensors(path)
    module.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    if not all(torch.isfinite(p).all() for p in module.parameters()):
        raise UserError(f"{path} holds weights that are not finite; train it again")


def current_name(module: nn.Module, name: str) -> str:
    """What a tensor is called now that a checkpoint holds under an earlier name, by the module's `earlier_keys`."""
    earlier: Mapping[str, str] = getattr(module, "earlier_keys", {})
    return next((now + name.removeprefix(old) for old, now in earlier.items() if name.startswith(old)), name)


def rename_earlier_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A hook for `register_load_state_dict_pre_hook`: tensors under `earlier_keys` load, from run folders too."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + current_name(module, key.removeprefix(prefix))] = state.pop(key)


def load_folder(kind: str, config_type: type[Config], network: Callable[[Config], Network], folder: Path) -> Network:
    """The network of a checkpoint folder, ready to use.

    Weights that do not fit the configuration are refused before anything of its size is allocated. Not on the meta
    device, which would tell shapes as well: to compute there, torch loads its compiler, two seconds.

    Raises:
        UserError: it is damaged or of another kind.
    """
    config = read_config(kind, config_type, folder)
    path = folder / "model.safetensors"
    try:
        held = tensor_shapes(path)
    except FileNotFoundError:
        raise UserError(f"{folder} is no whole checkpoint: model.safetensors is missing") from None
    numbers = sum(map(math.prod, held.values()))
    try:
        with _Building(SPARE * numbers):
            module = network(config)
    except MemoryError as error:
        raise UserError(f"{path} does not fit its config.json: {error}, more than the file holds") from None
    except DAMAGE as error:
        raise UserError(f"{folder / 'config.json'} describes a network that cannot be ({error})") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check_shapes(path, {current_name(module, name): shape for name, shape in held.items()}, wanted)
    load_weights(module, folder)
    return module.eval()


def check_same_shape(start_from: str, has: Any, wanted: Any, names: Collection[str]) -> None:
    """Refuse --start-from where some of its configuration differs from the one asked for.

    Raises:
        UserError: the first value that differs.
    """
    for name in names:
        if getattr(has, name) != getattr(wanted, name):
            raise UserError(
                f"--start-from {start_from} has --{name.replace('_', '-')} {getattr(has, name)}, here it is "
                f"{getattr(wanted, name)}"
            )
