"""One report on checkpoints or runs: python eval/report.py [--checkpoints DIR ... --data DATA --out DIR]."""

import hashlib
import json
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro
from safetensors import safe_open

from autolink import __version__, draw
from autolink.data.published import check_root
from autolink.device import pick_device, prepare_cpu
from autolink.draw import Image
from autolink.errors import UsageError, command
from autolink.eval.reporting.compare import compare, read_report
from autolink.eval.reporting.content import Checkpoint, OverSeeds, Report
from autolink.eval.reporting.inputs import KINDS, Subject, find_subjects
from autolink.eval.reporting.literature import beside
from autolink.eval.reporting.measures import Measured, measure_gan, measure_judge, measure_keypoints, measure_transfer
from autolink.eval.reporting.render import comparison_text, put_into, report_page, summary_text
from autolink.eval.results import as_text, data_name, from_json, to_json
from autolink.files import atomic_folder
from autolink.run_state import HANDLING, versions
from autolink.video.synthetic import tags

REPORT = frozenset({"report.json", "report.md", "report.html", "pictures"})  # version 0.1 wrote report.md too
COMPARISON = frozenset({"comparison.md"})
"""What lies in the folder that is written, and --overwrite replaces."""

OPTIONS = ("clips", "frames", "pictures", "generated", "judge", "structure_judge")
"""The options that a report records."""


@dataclass(frozen=True)
class ReportConfig:
    """Measure checkpoints and write report.json, its pictures and a self-contained report.html."""

    checkpoints: tuple[str, ...] = ()
    """Checkpoint or run folders; by default the bundled ones that fit --data."""
    data: str = "auto"
    """What to measure on: rendered `figures` or `animals`, a folder or zip of pictures, a folder of videos or of
    people's pictures (pose transfer), a published set; auto is what a run was trained on, and figures for other
    checkpoints."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    out: Path | None = None
    """Folder to write; report if left out. A comparison is written only if this is given."""
    compare: tuple[Path, Path] | None = None
    """Measure nothing; put two report.json side by side."""
    summary: tuple[Path, ...] = ()
    """Measure nothing; print the main figures of these report.json as Markdown."""
    into: Path | None = None
    """Markdown file that takes the summary, between its lines `<!-- results -->` and `<!-- /results -->`."""
    clips: int = 40
    """Clips that a pose transfer is measured on, at most."""
    frames: int = 10
    """Pairs of frames measured in each clip."""
    pictures: int = 256
    """Pictures that are rebuilt from their edge maps, at most."""
    generated: int = 500
    """Pictures that a GAN generates, and real ones they are compared with, at most."""
    judge: str = "auto"
    """Judge of joints for pose transfer: a checkpoint, auto (the bundled one) or none."""
    structure_judge: str = "none"
    """Judge of structure for a GAN: checkpoint of a stage one of another seed."""
    seed: int = 0
    """Seed of all measurements."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the report in --out."""

    def __post_init__(self) -> None:
        for name, least in (("clips", 2), ("frames", 2), ("pictures", 1), ("generated", 8)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"--seed cannot be negative, got {self.seed}")
        reads = "--compare" if self.compare else "--summary" if self.summary else ""
        if self.compare and self.summary:
            raise UsageError("--compare and --summary are two things; choose one")
        if reads and (self.checkpoints or self.root or self.data != "auto"):
            raise UsageError(f"{reads} measures nothing; leave out --checkpoints, --data and --root")
        if self.into and not self.summary:
            raise UsageError("--into takes a summary; add --summary REPORT.json ...")
        if self.summary and self.out:
            raise UsageError("--summary writes no folder; give --into FILE.md, or nothing to have it printed")

    @property
    def folder(self) -> Path:
        """Where the report is written."""
        return self.out or Path("report")


def check_folder(folder: Path, written: frozenset[str], overwrite: bool) -> None:
    """Refuse to write where something else lies.

    Raises:
        UsageError: the folder is a file, has no parent, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; give a folder")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"--out {folder}: the folder {folder.parent} does not exist")
    held = {child.name for child in folder.iterdir()} if folder.exists() else set()
    if held - written:
        raise UsageError(
            f"--out {folder} holds files that are no report, such as {min(held - written)}; choose another"
        )
    if held and not overwrite:
        raise UsageError(f"--out {folder} holds a report; choose another folder or add --overwrite")


def write_folder(folder: Path, texts: dict[str, str], pictures: dict[str, Image]) -> None:
    """Write a report's files, each whole; those of an earlier report go when the new ones are there."""
    with atomic_folder(folder) as beside:
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8")
        for name, image in pictures.items():
            (beside / name).parent.mkdir(exist_ok=True)
            draw.write_picture(beside / name, image, tags(f"AutoLink {__version__}", "pictures"))
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder).as_posix() not in texts.keys() | pictures.keys():
            file.unlink()


def measure(subject: Subject, config: ReportConfig, device: torch.device) -> Measured:
    """All that can be said of a checkpoint on its data, and sheets of pictures."""
    if subject.kind == "transfer":
        return measure_transfer(subject, config.clips, config.frames, config.judge, config.seed, device)
    if subject.kind == "gan":
        return measure_gan(subject, config.root, config.generated, config.structure_judge, config.seed, device)
    if subject.kind == "judge":
        return measure_judge(subject, config.seed, device)
    return measure_keypoints(subject, config.root, config.pictures, config.seed, device)


def parameters(folder: Path) -> int:
    """How many numbers the checkpoint's own weights are."""
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        sizes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
    return sum(torch.Size(size).numel() for size in sizes)


def measured_checkpoint(
    subject: Subject, number: int, config: ReportConfig, device: torch.device
) -> tuple[Checkpoint, dict[str, Image]]:
    """A checkpoint's part of the report, and its pictures by file name."""
    start = time.monotonic()
    section, sheets = measure(subject, config, device)
    training = subject.training()
    trained_on = training.config.get("data") if training else None
    if trained_on not in (None, subject.data, str(Path(subject.data).absolute())):
        note = f"Trained on {Path(str(trained_on)).name}, measured on {data_name(subject.data)}."
        section = replace(section, notes=(*section.notes, note))
    checkpoint = Checkpoint(
        name=subject.name, slug=f"{number}-{re.sub('[^A-Za-z0-9_.-]+', '-', subject.name)}", kind=subject.kind,
        kind_name=KINDS[subject.kind], parameters=parameters(subject.folder), model=subject.model, training=training,
        weights_sha256=hashlib.sha256((subject.folder / "model.safetensors").read_bytes()).hexdigest(),
        seconds=round(time.monotonic() - start, 1), measured=section,
    )  # fmt: skip
    pictures = [checkpoint.picture_file(picture.name) for picture in section.pictures]
    return checkpoint, dict(zip(pictures, sheets, strict=True))


def over_seeds(checkpoints: Iterable[Checkpoint]) -> tuple[OverSeeds, ...]:
    """Mean and standard deviation of each figure over runs whose configurations differ in the seed only."""
    groups: dict[str, list[tuple[Checkpoint, int]]] = {}
    for checkpoint in checkpoints:
        if checkpoint.training and "seed" in checkpoint.training.config:
            config = {k: v for k, v in checkpoint.training.config.items() if k not in HANDLING | {"seed"}}
            key = json.dumps([checkpoint.kind, config], sort_keys=True)
            groups.setdefault(key, []).append((checkpoint, checkpoint.training.config["seed"]))
    rows = []
    for members in groups.values():
        runs, seeds = zip(*members, strict=True)
        if len(set(seeds)) < 2:
            continue
        for figure in runs[0].measured.figures:
            same = [f for run in runs for f in run.measured.figures if f.key == figure.key]
            values = [f.value for f in same if f.value is not None]
            if len(values) == len(runs) and len({f.measured_on for f in same}) == 1:
                mean, spread = statistics.mean(values), statistics.stdev(values)
                mean_figure = replace(figure, value=mean, spread=spread, spread_over="seeds", interval_95=None)
                rows.append(OverSeeds(tuple(run.name for run in runs), seeds, mean_figure))
    return tuple(rows)


def build(config: ReportConfig, arguments: list[str]) -> tuple[Report, dict[str, Image]]:
    """Measure every checkpoint; the report and its pictures by file name.

    Raises:
        UserError: a checkpoint is none, or the data do not fit it.
    """
    start = time.monotonic()
    subjects = find_subjects(config.checkpoints, config.data, config.root)
    device = pick_device(config.device)
    prepare_cpu(device)
    checkpoints: list[Checkpoint] = []
    pictures: dict[str, Image] = {}
    for number, subject in enumerate(subjects, 1):
        print(f"{subject.name}: {subject.kind} checkpoint, measured on {subject.data}", flush=True)
        checkpoint, drawn = measured_checkpoint(subject, number, config, device)
        checkpoints.append(checkpoint)
        pictures |= drawn
        print(as_text(checkpoint.headlines or checkpoint.measured.figures), flush=True)
    options = {name: getattr(config, name) for name in OPTIONS}
    return Report(
        title="AutoLink: " + ", ".join(subject.name for subject in subjects),
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), seconds=round(time.monotonic() - start, 1),
        command=shlex.join(["python", "eval/report.py", *arguments]), seed=config.seed,
        options=options | {"device": str(device)}, versions=versions(), checkpoints=tuple(checkpoints),
        over_seeds=over_seeds(checkpoints), published=beside(checkpoints),
    ), pictures  # fmt: skip


def run(config: ReportConfig, arguments: list[str]) -> None:
    """The command: measure, compare or sum up; print, write."""
    if config.compare:
        if config.out:
            check_folder(config.out, COMPARISON, config.overwrite)
        text = comparison_text(compare(*config.compare))
        print(text, end="")
        if config.out:
            write_folder(config.out, {"comparison.md": text}, {})
        return
    if config.summary:
        text = summary_text([read_report(path, "--summary") for path in config.summary])
        if config.into:
            put_into(config.into, text)
        print(f"{config.into}: the figures of {len(config.summary)} reports" if config.into else text.rstrip())
        return
    check_root(config.data, config.root)
    check_folder(config.folder, REPORT, config.overwrite)
    report, pictures = build(config, arguments)
    written = to_json(report)
    report = from_json(Report, written)  # the pages show what the file holds
    texts = {"report.json": written, "report.html": report_page(report, pictures)}
    write_folder(config.folder, texts, pictures)
    print(f"{config.folder / 'report.html'} and report.json, in {report.seconds:.0f} s")


def main() -> None:
    """Entry point of `python eval/report.py`."""
    command(lambda: run(tyro.cli(ReportConfig), sys.argv[1:]))


if __name__ == "__main__":
    main()
