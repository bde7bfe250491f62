"""Logging of scalars during a run: metrics.jsonl and a tracker."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from autolink.errors import UsageError
from autolink.files import parse_json, write_text
from autolink.run_config import RunConfig


def tracked_by(config: RunConfig) -> dict[str, Any]:
    """Arguments of the Accelerator for the tracker of --log-with.

    Raises:
        UsageError: it is not installed.
    """
    if config.log_with == "none" or config.dry_run:
        return {}
    if find_spec(config.log_with) is None:
        raise UsageError(f"--log-with {config.log_with} needs a package: pip install {config.log_with}")
    folder = str(config.run_folder)
    return {"log_with": config.log_with, "project_config": ProjectConfiguration(folder, logging_dir=folder)}


class Log:
    """Scalars to metrics.jsonl and to the Accelerator's tracker; of the main process alone."""

    def __init__(self, folder: Path, step: int, accelerator: Accelerator) -> None:
        path = folder / "metrics.jsonl"
        if path.exists():  # a run that was killed had gone beyond its checkpoint, or in the middle of a line
            lines = [line for line in path.read_text(errors="replace").splitlines() if _holds(line, step)]
            write_text(path, "".join(line + "\n" for line in lines))
        self.file = path.open("a")
        self.accelerator = accelerator
        accelerator.init_trackers(
            "autolink" if "wandb" in map(str, accelerator.log_with) else "tensorboard",
            init_kwargs={"tensorboard": {"purge_step": step + 1}, "wandb": wandb_run(folder)},
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self.file.write(json.dumps({"step": step, **{name: round(v, 6) for name, v in values.items()}}) + "\n")
        self.file.flush()
        self.accelerator.log(values, step)

    def close(self) -> None:
        """Finish the file and the tracker."""
        self.file.close()
        while self.accelerator.trackers:
            self.accelerator.trackers.pop().finish()


def wandb_run(folder: Path) -> dict[str, Any]:
    """Arguments of `wandb.init`; a resumed run has the same id."""
    path = folder / "config.json"
    begun = path.stat().st_mtime_ns if path.exists() else 0
    key = hashlib.sha256(f"{folder.absolute()} {begun}".encode()).hexdigest()[:16]
    return {"dir": str(folder), "name": folder.name, "id": key, "resume": "allow"}


def _holds(line: str, step: int) -> bool:
    """Whether a line of metrics.jsonl is whole and of a step that the run still has."""
    try:
        return bool(parse_json(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
