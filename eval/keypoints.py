"""Keypoint regression error of a checkpoint: python eval/keypoints.py --checkpoint DIR --data DIR [--json FILE]."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.data import load_data
from autolink.data.animals import LANDMARKS
from autolink.data.figures import JOINTS
from autolink.data.images import ImageSet
from autolink.data.landmarks import Annotation
from autolink.data.published import PUBLISHED, check_root, load_published
from autolink.device import pick_device
from autolink.errors import UsageError, UserError, command
from autolink.eval import published
from autolink.eval.expression import FEWEST
from autolink.eval.mediapipe import MediaPipeJudge
from autolink.eval.readout import read_frames, readout_figures
from autolink.eval.results import Figure, Landmark, Section, as_text, data_name, write_results
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.nested import NestedAutoLink
from autolink.pretrained import check_output
from autolink.regression import default_lengths, inter_ocular_lengths, pair_lengths, regression_error, side_lengths
from autolink.run_state import versions


@dataclass(frozen=True)
class KeypointsConfig:
    """Regress human landmarks linearly from a checkpoint's keypoints and report the error on held-out people."""

    checkpoint: str = "figures"
    """A checkpoint folder of a stage one, the name of a bundled one, or hf:owner/name."""
    data: str = "figures"
    """A folder or zip of pictures with landmarks.csv, `figures`, or a published set, measured by its own protocol; with
    --judge mediapipe a folder of videos of heads."""
    json: Path | None = None
    """Write the figures to this file as well."""
    normalise: str = "auto"
    """What distances are divided by: auto, eyes (68-point faces), side (longer image side), or a pair such as 36,45."""
    bias: bool = True
    """Whether the headline figure uses a bias; both are reported."""
    seed: int = 0
    """Seed of the bootstrap that gives the confidence interval."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the file given by --json."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    judge: Literal["landmarks", "mediapipe"] = "landmarks"
    """What is regressed: landmarks of the data, or the openings of mouth and eyes, as published networks see them
    (docs/evaluation.md)."""
    frames: int = 24
    """Frames of each clip, at most, with --judge mediapipe."""


def normalising_lengths(annotation: Annotation, choice: str) -> tuple[str, NDArray[np.floating]]:
    """Name and lengths, (N,) in pixels, of what `--normalise` asks for.

    Raises:
        UsageError: the choice is unknown or does not fit the landmarks.
    """
    count = annotation.landmarks.shape[1]
    if choice == "auto":
        return default_lengths(annotation)
    if choice == "eyes":
        if count != 68:
            raise UsageError(f"--normalise eyes needs 68-point faces; these pictures have {count} landmarks")
        return "inter-ocular distance", inter_ocular_lengths(annotation)
    if choice == "side":
        return "image side", side_lengths(annotation)
    pair = choice.split(",")
    if len(pair) != 2 or not all(p.strip().isdecimal() and int(p) < count for p in pair):
        raise UsageError(f"--normalise is auto, eyes, side or two landmark numbers below {count}, got {choice}")
    return f"landmarks {choice}", pair_lengths(annotation, int(pair[0]), int(pair[1]))


PROTOCOL = (
    "Least squares from keypoints in [0, 1] to landmarks on the train part; mean distance over points and images of "
    "the test part"
)

LANDMARK_NAMES = {"figures": JOINTS, "animals": LANDMARKS}


def evaluate(model: AutoLink, data: ImageSet, config: KeypointsConfig, device: torch.device) -> Section:
    """The regression error of a checkpoint on annotated pictures, in all and for each landmark and keypoint.

    Raises:
        UserError: there are no landmarks, or too few pictures for a fit.
    """
    annotation = data.annotation
    if annotation is None or not annotation.landmarks.shape[1]:
        raise UserError(f"{config.data} has no landmarks.csv; the regression error needs annotated pictures")
    name, lengths = normalising_lengths(annotation, config.normalise)
    rows = np.flatnonzero(annotation.annotated & (lengths > 0))
    part, lengths = annotation[rows], lengths[rows]
    train, test = int((~part.test).sum()), int(part.test.sum())
    needed = 2 * model.config.keypoints + 1
    if train < needed or test < 1:
        raise UserError(
            f"{config.data} has {train} annotated pictures to fit on and {test} to test on; "
            f"at least {needed} and 1 are needed"
        )
    keypoints = detect_all(model, data.images[rows], device)
    try:
        error = regression_error(keypoints, part, ~part.test, lengths)
    except ValueError as reason:
        raise UserError(f"{config.data}: {reason}") from None
    interval = bootstrap_interval(error.distances, part.identity[part.test], config.seed)
    apart = ", whose people are not in the train part" if set(part.identity[part.test].tolist()) - {""} else ""
    unit = f"% of the {name}"
    figure = partial(
        Figure, data=data_name(config.data), count=test, samples=f"test pictures, fitted on {train:,}",
        protocol=f"{PROTOCOL}{apart}.", unit=unit, better="lower", group="Landmarks regressed from the keypoints",
        seed=config.seed, baseline=error.mean_pose, baseline_name="mean pose",
    )  # fmt: skip
    figures = (
        figure("error_with_bias", "Regression error", error.with_bias, interval_95=interval, headline=config.bias),
        figure("error_without_bias", "Regression error without bias", error.without_bias, headline=not config.bias),
    )
    names = LANDMARK_NAMES.get(config.data, ())
    names += tuple(f"landmark {n}" for n in range(len(names), part.landmarks.shape[1]))
    by_landmark, by_keypoint = in_detail(keypoints, part, lengths, error.distances)
    return Section(
        figures,
        tuple(Landmark(names[row.landmark], row.error, unit, row.mean_pose_error) for row in by_landmark),
        tuple(Landmark(names[row.landmark], row.error, unit, row.mean_pose_error) for row in by_keypoint),
        notes=skipped_notes(data),
    )


def skipped_notes(data: ImageSet) -> tuple[str, ...]:
    """Pictures that could not be read, and why."""
    return tuple(f"skipped {name}: {reason}" for name, reason in data.skipped.items())


class Detail(NamedTuple):
    """The error of one landmark, in per cent of the normalising length."""

    landmark: int
    error: float
    mean_pose_error: float


def in_detail(
    keypoints: NDArray[np.floating], part: Annotation, lengths: NDArray[np.floating], distances: NDArray[np.floating]
) -> tuple[list[Detail], list[Detail]]:
    """The error of each landmark; and for each keypoint the landmark that it predicts best by itself.

    Args:
        keypoints: (N, K, 2), (x, y) in [-1, 1].
        part: the same N pictures, all annotated.
        lengths: (N,), what a distance is divided by, in pixels.
        distances: (N_test, L), from all keypoints with bias.
    """

    def alone(points: NDArray[np.floating]) -> NDArray[np.floating]:
        distances = regression_error(points[:, None], part, ~part.test, lengths).distances
        return np.asarray(np.nanmean(distances, 0))

    mean_pose = alone(np.zeros_like(keypoints[:, 0]))
    by_landmark = [Detail(n, float(e), float(mean_pose[n])) for n, e in enumerate(np.nanmean(distances, 0))]
    by_keypoint = []
    for errors in map(alone, keypoints.swapaxes(0, 1)):
        best = int(np.argmin(errors / np.maximum(mean_pose, 1e-12)))
        by_keypoint.append(Detail(best, float(errors[best]), float(mean_pose[best])))
    return by_landmark, by_keypoint


def bootstrap_interval(
    distances: NDArray[np.floating], groups: NDArray[np.str_], seed: int, draws: int = 1000
) -> tuple[float, float]:
    """95 % interval of the mean of (N, L) distances, whole groups of pictures (people) drawn with replacement."""
    rng = np.random.default_rng(seed)
    keys = groups if (groups != "").any() else np.arange(len(groups)).astype(str)
    _, member = np.unique(keys, return_inverse=True)
    sums = np.bincount(member, np.nansum(distances, 1))
    counts = np.bincount(member, (~np.isnan(distances)).sum(1))
    drawn = rng.integers(len(sums), size=(draws, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def evaluate_published(model: AutoLink, config: KeypointsConfig, data: ImageSet, device: torch.device) -> Section:
    """The published figure of a checkpoint on a published set, of which the annotated pictures are given.

    Raises:
        UserError: the set is too small.
    """
    assert data.annotation is not None
    keypoints = detect_all(model, data.images, device)
    return Section(published.measure(config.data, keypoints, data.annotation), notes=skipped_notes(data))


def load_annotated(model: AutoLink, config: KeypointsConfig, root: Path) -> ImageSet:
    """The annotated pictures of a published set.

    Raises:
        UserError: the set has no landmarks, or is not whole.
    """
    if not PUBLISHED[config.data].protocol:
        raise UsageError(f"--data {config.data} has no landmarks; the regression error needs annotated pictures")
    if config.normalise != "auto" or not config.bias:
        raise UsageError(f"--normalise and --no-bias do not go with --data {config.data}: its protocol fixes both")
    return load_published(config.data, root, model.config.size, model.config.fit, annotated_only=True)


def evaluate_openings(config: KeypointsConfig, device: torch.device) -> Section:
    """What a stage one and its children, if any, know of mouth and eyes.

    Raises:
        UserError: the judge is not prepared, or the data are no videos of enough people.
    """
    if config.root or config.data == "figures":
        raise UsageError("--judge mediapipe needs --data FOLDER of videos of heads")
    model = NestedAutoLink.from_pretrained(config.checkpoint).to(device)
    judge = MediaPipeJudge()
    with tqdm(unit="clip", dynamic_ncols=True) as bar:
        frames = read_frames(model, config.data, config.frames, judge, device, bar.update)
    notes = tuple(f"skipped {name}: fewer than {FEWEST} frames show a face" for name in frames.skipped)
    return Section(tuple(readout_figures(frames, config.data, config.seed)), notes=notes)


def run(config: KeypointsConfig) -> None:
    """The command: measure, print, write."""
    check_root(config.data, config.root)
    if config.seed < 0:
        raise UsageError(f"--seed cannot be negative, got {config.seed}")
    if config.frames < FEWEST:
        raise UsageError(f"--frames must be at least {FEWEST}, got {config.frames}")
    check_output("--json", config.json, config.overwrite)
    device = pick_device(config.device)
    model = AutoLink.from_pretrained(config.checkpoint).to(device)
    if config.judge == "mediapipe":
        section = evaluate_openings(config, device)
    elif config.root:
        section = evaluate_published(model, config, load_annotated(model, config, config.root), device)
    else:
        data = load_data(config.data, model.config.size, model.config.fit)
        section = evaluate(model, data, config, device)
    for note in section.notes:
        print(note, file=sys.stderr)
    print(as_text(section.figures))
    print("\n".join(dict.fromkeys(figure.protocol for figure in section.figures)))
    if config.json:
        facts = {"checkpoint": config.checkpoint, "data": config.data, "keypoints": model.config.keypoints}
        write_results(config.json, section, **facts, seed=config.seed, versions=versions())


def main() -> None:
    """Entry point of `python eval/keypoints.py`."""
    command(lambda: run(tyro.cli(KeypointsConfig)))


if __name__ == "__main__":
    main()
