"""What is measured of each kind of checkpoint: its figures, and sheets of pictures where there are some."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from autolink.data import load_data
from autolink.data.figures import JOINTS
from autolink.data.published import PUBLISHED, load_published
from autolink.draw import Image
from autolink.errors import UserError
from autolink.eval import gan, transfer
from autolink.eval.gan import GanEvalConfig
from autolink.eval.judge_data import figure_data, folder_data, measured
from autolink.eval.judge_model import Judge
from autolink.eval.keypoints import KeypointsConfig, evaluate, evaluate_published, skipped_notes
from autolink.eval.reconstruction import measure_reconstruction
from autolink.eval.reporting.inputs import Subject
from autolink.eval.results import Figure, Landmark, Section, data_name
from autolink.eval.transfer import TransferConfig
from autolink.generation.gan import Gan
from autolink.generation.translator import PoseTransfer
from autolink.model import AutoLink

Measured = tuple[Section, tuple[Image, ...]]
"""Figures, and the sheets of `Section.pictures`."""


def measure_keypoints(subject: Subject, root: Path | None, pictures: int, seed: int, device: torch.device) -> Measured:
    """The regression error if there are landmarks, by the protocol of the data, and the reconstruction.

    Raises:
        UserError: the data cannot be read, or are too few for a fit.
    """
    model = AutoLink.from_pretrained(subject.folder).to(device)
    config = KeypointsConfig(str(subject.folder), subject.data, seed=seed, root=root)
    size, fit = model.config.size, model.config.fit
    annotated = Section((), notes=(f"{data_name(subject.data)} has no landmarks, so there is no regression error.",))
    if root:
        known = bool(PUBLISHED[subject.data].protocol)
        data = load_published(subject.data, root, size, fit, annotated_only=known)
        if known:
            annotated = evaluate_published(model, config, data, device)
    else:
        data = load_data(subject.data, size, fit)
        if data.annotation is not None:
            annotated = evaluate(model, data, config, device)
    rebuilt, sheet = measure_reconstruction(model, data, subject.data, pictures, device)
    notes = annotated.notes if annotated.figures else (*annotated.notes, *skipped_notes(data))
    figures = annotated.figures + rebuilt.figures
    return replace(annotated, figures=figures, notes=notes, graph=rebuilt.graph, pictures=rebuilt.pictures), (sheet,)


def measure_transfer(
    subject: Subject, clips: int, frames: int, judge: str, seed: int, device: torch.device
) -> Measured:
    """A pose transfer.

    Raises:
        UserError: there is nothing to measure on, or no judge.
    """
    model = PoseTransfer.from_pretrained(subject.folder).to(device)
    config = TransferConfig(str(subject.folder), subject.data, judge=judge, clips=clips, frames=frames, seed=seed)
    section, sheet = transfer.evaluate(model, config, device)
    return section, (sheet,)


def measure_gan(
    subject: Subject, root: Path | None, count: int, judge: str, seed: int, device: torch.device
) -> Measured:
    """A conditional GAN.

    Raises:
        UserError: there is nothing to measure on, or the data have other classes.
    """
    model = Gan.from_pretrained(subject.folder).to(device)
    config = GanEvalConfig(str(subject.folder), subject.data, root, judge, count=count, seed=seed)
    section, sheets = gan.evaluate(model, config)
    return section, tuple(sheets.values())


def measure_judge(subject: Subject, seed: int, device: torch.device) -> Measured:
    """The own error of a judge of joints, on people held out from its training.

    Raises:
        UserError: the data have no landmarks, or others.
    """
    judge = Judge.from_pretrained(subject.folder).to(device)
    if subject.data == "figures":
        data = figure_data(judge.config.size)
    else:
        data = folder_data(Path(subject.data), judge.config.size, judge.config.fit)
    if data.truth.landmarks.shape[1] != judge.config.joints:
        raise UserError(
            f"--data {subject.data} does not fit {subject.name}: it has {data.truth.landmarks.shape[1]} landmarks, "
            f"the judge knows {judge.config.joints}"
        )
    config, distances = measured(judge, data)
    unit = f"% of the {config.own_error_unit}"
    figure = partial(
        Figure, data=data_name(subject.data), count=len(data.images), samples="pictures of held-out people", unit=unit,
        protocol="Distance of the judge's joints from the true ones inside the picture.", better="lower", seed=seed,
        group="Distance from the truth",
    )  # fmt: skip
    median, high = np.nanpercentile(distances, [50, 95])
    names = JOINTS if subject.data == "figures" else tuple(f"landmark {n}" for n in range(config.joints))
    errors = zip(names, np.nanmean(distances, 0).tolist(), strict=True)
    figures = (
        figure("own_error", "Own error", config.own_error, headline=True),
        figure("median", "Median", float(median)),
        figure("percentile_95", "95th percentile", float(high)),
    )
    return Section(figures, tuple(Landmark(name, error, unit) for name, error in errors)), ()
