"""Which checkpoints a report is about, and what is known of their training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolink.checkpoints import bundled, find_checkpoint
from autolink.data import RENDERED, check_data
from autolink.data.published import PUBLISHED
from autolink.data.source import TABLE
from autolink.errors import UsageError, UserError
from autolink.eval.clips import is_clips, videos_in
from autolink.eval.reporting.content import Curve, Training
from autolink.files import parse_json
from autolink.pictures import DAMAGE

KINDS = {
    "autolink": "keypoints and graph",
    "transfer": "pose transfer",
    "gan": "conditional GAN",
    "judge": "judge of joints",
}
"""`model_type` of a checkpoint, and what to call it."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint to report on."""

    name: str
    folder: Path
    """Where config.json and model.safetensors are."""
    kind: str
    model: dict[str, Any]
    """Its config.json."""
    run: Path | None
    """The run folder that it came from, if that is there."""
    data: str
    """What it is measured on."""

    def training(self) -> Training | None:
        """Configuration, versions and curves of the run, if the run folder is there."""
        if self.run is None:
            return None
        versions = self.run / "versions.json"
        return Training(
            _read(self.run / "config.json"), _read(versions) if versions.exists() else {},
            read_curves(self.run / "metrics.jsonl"),
        )  # fmt: skip


def read_curves(path: Path) -> dict[str, Curve]:
    """Every scalar of a run as (step, value) pairs; a damaged line is left out."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            values = parse_json(line)
            step = float(values.pop("step"))
            numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        except DAMAGE:
            continue
        for name, value in numbers.items():
            if math.isfinite(value) and math.isfinite(step):
                curves.setdefault(name, []).append((step, value))
    return {name: tuple(curve) for name, curve in curves.items()}


def find_subjects(checkpoints: Sequence[str], data: str, root: Path | None) -> list[Subject]:
    """The checkpoints of --checkpoints, or the bundled ones that fit the data, each with data it can be measured on.

    Raises:
        UserError: a folder is no checkpoint, the data are not there, or do not fit.
    """
    folders = [Path(c) for c in checkpoints] or bundled_for(data)
    found: list[Subject] = []
    for folder in folders:
        subject = _subject(folder, data, {s.name for s in found})
        check_fit(subject, root)
        found.append(subject)
    return found


def bundled_for(data: str) -> list[Path]:
    """The bundled checkpoints that know the data: rendered ones by name, faces by their 68 landmarks, or videos.

    Raises:
        UsageError: there is none.
    """
    known = "figures" if data == "auto" else data
    if known not in RENDERED:
        known = "faces" if _has_faces(Path(data)) or videos_in(Path(data)) else ""
    folders = [folder for name, folder in bundled().items() if known and name.startswith(known)]
    chosen = [folder for folder in folders if _kind(folder) != "judge"]
    if known == "faces":
        wanted = ("transfer",) if videos_in(Path(data)) else ("autolink",)
        chosen = [folder for folder in chosen if _kind(folder) in wanted]
    if not chosen:
        raise UsageError(f"no bundled checkpoint is known to fit --data {data}; name yours with --checkpoints FOLDER")
    return chosen


def _has_faces(folder: Path) -> bool:
    """Whether a folder is annotated as faces are."""
    table = folder / TABLE
    if not table.is_file():
        return False
    with table.open() as lines:
        return lines.readline().rstrip().endswith("x67,y67")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no checkpoint and no run folder: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} cannot be read: it holds no object")
    return values


def _kind(folder: Path) -> str:
    return str(_read(folder / "config.json").get("model_type", ""))


def _subject(given: Path, data: str, taken: set[str]) -> Subject:
    """What a folder given by the user is.

    Raises:
        UserError: it is no checkpoint and no run that has one.
    """
    if not given.is_dir():
        given = find_checkpoint(given)
    folder, run = given, None
    inner = given / "model" / "config.json"
    if not (given / "config.json").exists() and inner.exists():
        folder = given / "model"
    elif "model_type" not in _read(given / "config.json"):
        folder, run = given / "model", given
        if not inner.exists():
            raise UserError(f"{given} is no checkpoint, and no run that has saved a model: there is no {folder}")
    elif given.name == "model" and (given.parent / "metrics.jsonl").exists():
        run = given.parent
    model = _read(folder / "config.json")
    kind = model.get("model_type", "")
    if kind not in KINDS:
        raise UserError(
            f"{folder} is no checkpoint that a report knows: its model_type is {kind!r}, known are {', '.join(KINDS)}"
        )
    if not (folder / "model.safetensors").exists():
        raise UserError(f"{folder} is no whole checkpoint: model.safetensors is missing")
    if data == "auto":
        data = str(_read(run / "config.json").get("data") or "figures") if run else "figures"
    return Subject(_free_name(given.resolve(), taken), folder, kind, model, run, data)


def _free_name(folder: Path, taken: set[str]) -> str:
    """The folder's name, its parent's for `model`, with a number where it is taken."""
    name = folder.parent.name if folder.name == "model" else folder.name
    numbered = (f"{name}-{n}" for n in range(2, 10_000))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def check_fit(subject: Subject, root: Path | None) -> None:
    """Refuse data of another kind than the checkpoint needs.

    Raises:
        UserError: the data are not there or do not fit; the message says what fits.
    """
    data, what = (
        subject.data,
        f"{subject.name}, {'an' if subject.kind == 'autolink' else 'a'} {subject.kind} checkpoint",
    )
    if subject.kind == "transfer":
        if data in PUBLISHED or not is_clips(data):
            raise UsageError(
                f"--data {data} does not fit {what}: give figures, a folder of videos, or one with landmarks.csv"
            )
        return
    if subject.kind == "judge" and data in PUBLISHED:
        raise UsageError(f"--data {data} does not fit {what}: give figures or a folder with landmarks.csv")
    try:
        check_data(data, root)
    except UserError as error:
        raise type(error)(f"--data {data} does not fit {what}: {error}") from None
