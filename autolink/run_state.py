"""What a training run leaves on disk: configuration, checkpoints to resume from, and the model."""

import json
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from autolink import __version__
from autolink.errors import UsageError, UserError
from autolink.files import (
    atomic_folder,
    clear_leftovers,
    is_temporary,
    parse_json,
    read_tensors,
    remove_folder,
    save_tensors,
    write_text,
)
from autolink.run_config import RunConfig

Config = TypeVar("Config", bound=RunConfig)

HANDLING = frozenset(
    {"out", "resume", "overwrite", "dry_run", "threads", "log_every", "log_with", "sample_minutes", "save_minutes"}
)
"""Options that say how a run is handled, not what it computes: they may differ on --resume."""

KEPT_CHECKPOINTS = 2

WRITTEN = (
    "config.json", "versions.json", "metrics.jsonl", "samples", "checkpoints", "model", "tensorboard", "wandb",
)  # fmt: skip
"""What a run writes into its folder, and --overwrite deletes, config.json first: without it there is no run.

`cache` is kept, for it is worth the same to any run.
"""

WRONG = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What comes of JSON that says something else than it should."""


def config_to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    values: dict[str, Any] = parse_json(json.dumps(asdict(config), default=str))
    return values


def config_from_json(like: Config, values: dict[str, Any]) -> Config:
    """The inverse of `config_to_json` for configurations of one kind; options unknown to this version are left out."""
    known = {f.name for f in fields(like)}
    plain = {name: value for name, value in values.items() if name in known}
    for name, value in vars(like).items():
        if is_dataclass(value) and not isinstance(value, type):
            plain[name] = type(value)(**plain[name])
    for name, hint in get_type_hints(type(like)).items():
        if Path in get_args(hint) and plain.get(name):
            plain[name] = Path(plain[name])
    return type(like)(**plain)


def read_run_config(like: Config, folder: Path) -> Config:
    """The configuration that a run was started with, of the same kind as `like`.

    Raises:
        UserError: there is no run in the folder, or its configuration cannot be read.
    """
    path = folder / "config.json"
    try:
        return config_from_json(like, parse_json(path.read_text()))
    except FileNotFoundError:
        raise UsageError(f"--resume: there is no run in {folder}; leave --resume out to start one") from None
    except WRONG as error:
        raise UserError(f"{path} is not a run's configuration: {error}") from None


def check_same_run(config: RunConfig, started: RunConfig) -> None:
    """Refuse to resume with another configuration than the run was started with.

    Raises:
        UsageError: the first option that differs, with both values.
    """
    now, then = _flat(config), _flat(started)
    changed = [name for name in now if name not in HANDLING and now[name] != then[name]]
    if changed:
        name = changed[0]
        raise UsageError(
            f"--resume takes the run's own configuration: --{name.replace('_', '-')} is {then[name]} in "
            f"{config.run_folder} and {now[name]} here; leave it out, or start another run with another --out"
        )


def _flat(config: RunConfig) -> dict[str, Any]:
    values = config_to_json(config)
    model: dict[str, Any] = values.pop("model", {})
    return values | model


def versions() -> dict[str, str]:
    """What produced a result: Python, packages and the commit where there is one."""
    found = {"python": platform.python_version(), "autolink": __version__}
    for package in ("torch", "torchvision", "accelerate", "numpy", "opencv-python"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return found
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    return found | ({"commit": commit} if commit else {})


class RunFolder:
    """The folder of one run: config.json, metrics.jsonl, samples/, checkpoints/, model/, cache/, tensorboard/.

    There is a run where there is a config.json. A folder that holds our lock and nothing but our files, yet no
    config.json, is of a process that was killed before its run began or while it deleted one: it counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path / ".lock")
        self.fresh = False

    def open(self, config: RunConfig) -> None:
        """Create or enter the folder, alone; nothing that is of use in it is touched yet.

        Raises:
            UserError: another process trains in it, or it holds something and neither --resume nor --overwrite is set.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; give a folder")
        clear_leftovers(self.path)
        self.fresh = not self.path.exists() or not any(child.name != ".lock" for child in self.path.iterdir())
        if not self.fresh and not config.resume and not self._abandoned():
            try:
                read_run_config(config, self.path)
            except UserError:
                raise UsageError(f"--out {self.path} holds files that are no run; choose a new folder") from None
            if not config.overwrite:
                raise UsageError(f"{self.path} holds a run: --resume continues it, --overwrite deletes it")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._clear_leftovers()

    def _abandoned(self) -> bool:
        """Whether there is no run here, only what a killed process of ours has left."""
        names = {child.name for child in self.path.iterdir() if not is_temporary(child)}
        return ".lock" in names and "config.json" not in names and names <= {".lock", "cache", *WRITTEN}

    def _clear_leftovers(self) -> None:
        """Remove what killed processes have left unfinished, of other machines too: the lock is ours."""
        for pattern in (".*", "checkpoints/.*", "samples/.*", "cache/.*"):
            for left in filter(is_temporary, self.path.glob(pattern)):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def begin(self, config: RunConfig) -> None:
        """Delete the run that is to be overwritten, and say what the new one is."""
        for name in WRITTEN:
            child = self.path / name
            if child.is_dir():
                shutil.rmtree(child)
            else:
                child.unlink(missing_ok=True)
        write_text(self.path / "versions.json", json.dumps(versions(), indent=2) + "\n")
        write_text(self.path / "config.json", json.dumps(config_to_json(config), indent=2) + "\n")

    def _take_lock(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.path} is in use by another training; wait for it or choose another --out") from None

    def close(self) -> None:
        """Let others use the folder."""
        self.lock.release()

    def discard(self) -> None:
        """Leave the folder as it was before `open`, for no training could begin."""
        if self.lock.is_locked:
            self.close()
            if self.fresh:
                shutil.rmtree(self.path, ignore_errors=True)

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        """Write a checkpoint whole or not at all, and drop old ones; one that is there already is the same."""
        final = self.path / "checkpoints" / f"step-{step:07d}"
        if not final.exists():
            with atomic_folder(final) as beside:
                save_tensors(tensors, beside / "training.safetensors")
                (beside / "state.json").write_text(json.dumps({"step": step, **state}, indent=2) + "\n")
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            remove_folder(old)
        return final

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The newest checkpoint's tensors and state.

        Raises:
            UserError: there is none, or it is damaged.
        """
        found = self.checkpoints()
        if not found:
            raise UserError(f"{self.path} has no checkpoint yet; start again with --overwrite")
        try:
            tensors = read_tensors(found[-1] / "training.safetensors")
            state = parse_json((found[-1] / "state.json").read_text())
            return tensors, {**state, "step": int(state["step"])}
        except (UserError, OSError, *WRONG) as error:
            raise self.damaged("" if isinstance(error, UserError) else str(error)) from None

    def damaged(self, reason: str) -> UserError:
        """What to say of the newest checkpoint when it cannot be resumed from."""
        why = f" ({reason})" if reason else ""
        return UserError(f"{self.checkpoints()[-1]} is damaged{why}; delete it to resume from the one before")


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts by parameter number, under a prefix."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{n}.{name}": value for n, values in state.items() for name, value in values.items()}


def load_optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            _, n, name = key.split(".")
            whole["state"].setdefault(int(n), {})[name] = value
    optimizer.load_state_dict(whole)


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's weights and statistics under a prefix."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def load_module_tensors(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `module_tensors`."""
    start = f"{prefix}."
    module.load_state_dict({key.removeprefix(start): v for key, v in tensors.items() if key.startswith(start)})
