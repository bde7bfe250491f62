"""What a stage one's keypoints tell besides structure: python eval/leak.py --checkpoint DIR --data FOLDER."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import tyro
from numpy.typing import NDArray

from autolink.data import check_data, load_data
from autolink.device import pick_device, prepare_cpu
from autolink.errors import UsageError, UserError, command
from autolink.eval.gan_figures import FigureMaker, groups, keypoint_leak_figures
from autolink.eval.gan_measures import Pictures
from autolink.eval.leak_measures import FEWEST_FITTED, explained, off_subject, subject_masks
from autolink.eval.results import Figure, Section, as_text, data_name, write_results
from autolink.generation.classes import class_names, classes_of
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.pretrained import check_output
from autolink.run_state import versions

PICTURES = (
    "Real pictures of --data at stage one's size, evenly chosen where --count is less, training pictures included. "
)
MASKED = 200
"""Pictures on which the subject is told from the background, which takes long."""

TOLD = (
    "R2 of a ridge, within classes, ten-fold cross-validated, from the keypoints to those of another stage one "
    "(--judge) on the same pictures; 95 % interval by bootstrap over pictures. 1: all of its structure is told."
)
OFF_SUBJECT = (
    "Mean share of the edges, weight times length, that lies outside of the picture or of the subject, which GrabCut "
    f"(Rother et al. 2004) finds from a central disc, on at most {MASKED} pictures of each group; for pictures "
    "cropped to their subject. The baseline is the share of the picture that is no subject: what edges strewn evenly "
    "would score. Where subject and background look alike, GrabCut takes both for the subject."
)


@dataclass(frozen=True)
class LeakConfig:
    """Measure how much a stage one's keypoints tell of colour and of structure, and how many edges miss the subject."""

    checkpoint: str
    """A checkpoint folder of a stage one, the name of a bundled one, or hf:owner/name."""
    data: str = "animals"
    """A folder or zip of pictures, a class in each subfolder; `animals`, `figures`, or a published set."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    judge: str = "none"
    """Checkpoint of a stage one of another seed, whose keypoints are the structure to be told; none: without."""
    count: int = 3000
    """Pictures, at most."""
    seed: int = 0
    """Of the folds and the bootstrap."""
    json: Path | None = None
    """Write the figures to this file as well."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the file given by --json."""

    def __post_init__(self) -> None:
        if self.count < FEWEST_FITTED:
            raise UsageError(f"--count must be at least {FEWEST_FITTED}, got {self.count}")
        if self.seed < 0:
            raise UsageError(f"--seed cannot be negative, got {self.seed}")
        check_output("--json", self.json, self.overwrite)


def evaluate(model: AutoLink, judge: AutoLink | None, config: LeakConfig) -> Section:
    """All figures, for all pictures and for each class.

    Raises:
        UserError: the data cannot be read, or are too few.
    """
    check_data(config.data, config.root)
    data = load_data(config.data, model.config.size, model.config.fit, root=config.root)
    if len(data) < FEWEST_FITTED:
        raise UserError(f"--data {config.data} holds {len(data)} pictures; at least {FEWEST_FITTED} are needed")
    chosen = np.linspace(0, len(data) - 1, min(config.count, len(data))).astype(int)
    pictures = np.ascontiguousarray(data.images[chosen])
    names = class_names(data.names)
    classes = classes_of(data.names, names)[chosen]
    device = model.edge_logits.device
    keypoints = detect_all(model, pictures, device)
    judged = detect_all(judge, pictures, device) if judge else None
    samples = f"pictures, {model.config.size} px"
    every = FigureMaker("all", data_name(config.data), len(pictures), samples, config.seed, PICTURES)
    figures: list[Figure] = []
    for rows, made in groups(classes, names, every):
        figures += keypoint_leak_figures(made, keypoints[rows], pictures[rows], classes[rows])
        if judged is not None:
            figures += structure_figures(made, keypoints[rows], judged[rows], classes[rows])
        figures.append(off_subject_figure(made, model, keypoints[rows], pictures[rows]))
    return Section(tuple(figures), notes=tuple(f"skipped {name}: {reason}" for name, reason in data.skipped.items()))


def structure_figures(
    made: FigureMaker, keypoints: NDArray[np.floating], judged: NDArray[np.floating], classes: NDArray[np.int64]
) -> Iterator[Figure]:
    """How much keypoints (N, K, 2) tell of another stage one's (N, J, 2); none where there are too few."""
    known, wanted = (points.reshape(len(points), -1) for points in (keypoints, judged))
    if found := explained(known, wanted, classes, made.seed):
        yield made(
            "structure_told", "Structure, keypoints -> another stage one's, R2", found.r2, TOLD, digits=3,
            better="higher", interval_95=found.interval_95, headline=made.name == "all",
        )  # fmt: skip


def off_subject_figure(
    made: FigureMaker, model: AutoLink, keypoints: NDArray[np.floating], pictures: Pictures
) -> Figure:
    """How much of the graph's edges lies off the subject."""
    some = np.linspace(0, len(pictures) - 1, min(MASKED, len(pictures))).astype(int)
    masks = subject_masks(pictures[some])
    shares = off_subject(keypoints[some], model.edge_weights.detach().cpu().numpy(), masks)
    return made(
        "off_subject", "Edges off the subject", float(shares.mean() * 100), OFF_SUBJECT, unit="% of weight x length",
        digits=1, better="lower", count=len(some), baseline=float((~masks).mean() * 100),
        baseline_name="background", headline=made.name == "all",
    )  # fmt: skip


def run(config: LeakConfig) -> None:
    """The command: measure, print, write."""
    device = pick_device(config.device)
    prepare_cpu(device)
    model = AutoLink.from_pretrained(config.checkpoint).to(device)
    judge = None if config.judge == "none" else AutoLink.from_pretrained(config.judge).to(device)
    section = evaluate(model, judge, config)
    print(as_text(section.figures))
    print("\n".join(dict.fromkeys(figure.protocol for figure in section.figures)))
    for note in section.notes:
        print(note, file=sys.stderr)
    if config.json:
        facts = {"checkpoint": config.checkpoint, "data": config.data, "judge": config.judge, "seed": config.seed}
        write_results(config.json, section, **facts, keypoints=model.config.keypoints, versions=versions())


def main() -> None:
    """Entry point of `autolink eval leak` and `python eval/leak.py`."""
    command(lambda: run(tyro.cli(LeakConfig)))


if __name__ == "__main__":
    main()
