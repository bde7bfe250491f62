"""What the page may ask to be run, as options of `autolink`; values are checked here, and by the command once more."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from autolink.errors import UserError
from autolink.files import parse_json
from autolink.studio.jobs import Job, Jobs
from autolink.studio.session import Session


class _Asked(BaseModel):
    """What a page sent: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")


class Transfer(_Asked):
    """A source moved as a driver."""

    source: str
    driver: str
    motion: Literal["relative", "absolute", "retarget"] = "relative"
    lips: float = Field(default=1.0, ge=0, le=3)
    eyes: float = Field(default=1.0, ge=0, le=3)
    pose: float = Field(default=1.0, ge=0, le=3)
    smooth: float = Field(default=0.0, ge=0, le=50)
    start: float = Field(default=0.0, ge=0)
    end: float = Field(default=0.0, ge=0)
    crop: tuple[float, float, float, float] | None = None
    """x, y, width and height in pixels of the source."""
    paste_back: bool = False
    watermark: bool = False

    def add_to(self, jobs: Jobs, session: Session) -> Job:
        """Queue it.

        Raises:
            UserError: an upload is gone or of the wrong kind.
        """
        source, driver = session.upload(self.source), session.upload(self.driver)
        if source.kind == "motion":
            raise UserError(f"{source.name} is a motion; give a picture or video that shows whose appearance")
        if driver.kind == "picture":
            raise UserError(f"{driver.name} is a picture and does not move; give a video of whose motion to take")
        options = ["--motion", self.motion, *_switches(self, ("paste_back", "watermark"))]
        for name in ("lips", "eyes", "pose", "smooth", "start", "end"):
            options += [f"--{name}", f"{getattr(self, name):g}"]
        if self.crop:
            options += ["--crop", ",".join(f"{value:g}" for value in self.crop)]
        files = ["--src", str(session.file_of(source.id)), "--driver", str(session.file_of(driver.id))]
        return jobs.add(
            "transfer", f"{source.name} moved as {driver.name}",
            lambda folder: [
                "transfer", *files, "--out", str(folder / "result.mp4"), "--keypoints", str(folder / "motion.json"),
                *options,
            ],
            {**self.model_dump(), "source_kind": source.kind, "driver_kind": driver.kind},
        )  # fmt: skip


class Train(_Asked):
    """A stage one learned from a folder of pictures."""

    data: str = "figures"
    """figures, animals, or a folder or zip on this machine."""
    preset: str = "figures"
    keypoints: int = Field(default=16, ge=2, le=64)
    steps: int = Field(default=1700, ge=1, le=1_000_000)
    size: int = Field(default=64, ge=16, le=512)
    batch: int = Field(default=32, ge=1, le=1024)
    seed: int = Field(default=0, ge=0)
    sample_minutes: float = Field(default=0.5, gt=0, le=60)
    estimate: bool = False
    """Only say how long it would take."""

    def add_to(self, jobs: Jobs, session: Session) -> Job:
        """Queue it.

        Raises:
            UserError: there is no such folder or preset.
        """
        data = self.data.strip()
        if data not in ("figures", "animals"):
            path = Path(data).expanduser()
            if not path.is_absolute() or not path.exists():
                raise UserError(
                    f"there is no folder {data}; give its whole path, such as {Path.home() / 'my_pictures'}"
                )
            data = str(path)
        known = presets()
        if self.preset not in known:
            raise UserError(f"there is no preset {self.preset}; there are {', '.join(known)}")
        options = ["train", "--preset", self.preset, "--data", data, "--log-with", "none"]
        for name in ("keypoints", "steps", "size", "batch", "seed", "sample_minutes"):
            options += [f"--{name.replace('_', '-')}", f"{getattr(self, name):g}"]
        options[options.index("--steps") + 1] = str(self.steps)  # without an exponent
        name = Path(data).name
        if self.estimate:
            return jobs.add("estimate", f"How long {name} takes", lambda _: [*options, "--dry-run"], self.model_dump())
        return jobs.add(
            "train", f"Keypoints of {name}", lambda folder: [*options, "--out", str(session.runs / folder.name)],
            self.model_dump(),
        )  # fmt: skip


def presets() -> dict[str, dict[str, int]]:
    """The presets of stage one that are not of one published set, and what they choose for the form's fields."""
    from autolink.config import EXPERIMENTS, PRESETS  # imported here, for it imports torch

    return {
        name: {"keypoints": p.model.keypoints, "size": p.model.size, "steps": p.steps, "batch": p.batch}
        for name, p in PRESETS.items()
        if name not in EXPERIMENTS
    }


def resume(job: Job, jobs: Jobs, session: Session) -> Job:
    """Queue a training that was stopped once more, from where it was.

    Raises:
        UserError: it is no training, or nothing of it was saved.
    """
    folder = session.runs / job.id
    if job.kind != "train" or not (folder / "config.json").exists():
        raise UserError("nothing of it was saved, so it cannot be resumed; start it again")
    return jobs.again(job, ["train", "--resume", "--out", str(folder)])


class MeasureReport(_Asked):
    """Checkpoints measured and told on one page."""

    checkpoints: list[str] = Field(min_length=1, max_length=8)
    data: str = "auto"
    clips: int = Field(default=8, ge=2, le=40)
    frames: int = Field(default=4, ge=2, le=10)
    pictures: int = Field(default=64, ge=1, le=256)
    generated: int = Field(default=100, ge=8, le=500)

    def add_to(self, jobs: Jobs, session: Session, known: list[str]) -> Job:
        """Queue it.

        Raises:
            UserError: there is no such checkpoint or folder.
        """
        for name in self.checkpoints:
            if name not in known:
                raise UserError(f"there is no checkpoint {name} here; choose one of the list")
        data = self.data.strip()
        if data not in ("auto", "figures", "animals") and not Path(data).expanduser().is_absolute():
            raise UserError(f"there is no folder {data}; give its whole path, or leave it at auto")
        options = ["--data", data]
        for name in ("clips", "frames", "pictures", "generated"):
            options += [f"--{name}", str(getattr(self, name))]
        return jobs.add(
            "report", f"Report on {', '.join(self.checkpoints)}",
            lambda folder: ["eval", "report", "--checkpoints", *self.checkpoints, *options, "--out",
                            str(folder / "report")],
            self.model_dump(),
        )  # fmt: skip


def _switches(asked: BaseModel, names: tuple[str, ...]) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in names if getattr(asked, name)]


def run_facts(folder: Path) -> dict[str, Any]:
    """Curves and samples of a training's run folder, as far as they are there."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
    rows = [parse_json(line) for line in lines if line.endswith("}\n")]  # the last may be being written
    thinned = rows[:: max(1, len(rows) // 600)]
    samples = sorted(path.name for path in (folder / "samples").glob("*.png"))
    return {"metrics": thinned, "samples": samples, "model": (folder / "model" / "config.json").exists()}
