"""Training and held-out data of a judge: rendered people, or annotated pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.data.figures import figure_images, render, sample_identity, sample_pose, sample_scene
from autolink.data.images import load_images
from autolink.data.landmarks import Annotation
from autolink.data.picture import Fit
from autolink.errors import UserError
from autolink.eval.augment import FACE_MIRROR, Augmentation
from autolink.eval.judge_model import Judge, JudgeConfig
from autolink.regression import default_lengths

TEST_SEED, TEST_FIGURES = 7_500_000, 1000
"""Rendered people of the own error: apart from those of training and from all that are rendered elsewhere."""

MISSING_SHARE = 0.01
"""Share of the joints of real test pictures that counts as missing; it fixes the confidence below which one is."""

Drawn = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""(B, size, size, 3) RGB and joints (B, J, 2) in [-1, 1]."""


class JudgeData(NamedTuple):
    """An endless supply of training pictures, and held-out ones to measure on."""

    draw: Callable[[np.random.Generator, int], Drawn]
    """Random training pictures, `count` of them."""
    augmentation: Augmentation
    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB."""
    truth: Annotation
    facts: str
    """One phrase for the model card."""


def figure_data(size: int) -> JudgeData:
    """Rendered people, none of them drawn twice."""

    def draw(rng: np.random.Generator, count: int) -> Drawn:
        people = (render(sample_identity(rng), sample_pose(rng), sample_scene(rng), size) for _ in range(count))
        images, joints = zip(*people, strict=True)
        return np.stack(images), np.stack(joints)

    images, joints = figure_images(TEST_FIGURES, TEST_SEED, size)
    names = np.array([f"figure {n}" for n in range(len(images))])
    truth = Annotation(joints, names, np.full((len(images), 2), (size - 1) / 2), np.ones(len(images), bool))
    facts = (
        f"rendered people with their true joints, newly drawn at every step; {TEST_FIGURES:,} others for the own error"
    )
    return JudgeData(draw, Augmentation(scale=(0.9, 1.1), rotation=0.1, shift=0.05), images, truth, facts)


def folder_data(folder: Path, size: int, fit: Fit, cache: Path | None = None) -> JudgeData:
    """Annotated pictures, split by identity as stage one's are.

    Raises:
        UserError: there is no annotation, or none on one side of the split.
    """
    data = load_images(folder, size, fit, cache)
    if data.annotation is None:
        raise UserError(f"{folder} has no landmarks.csv; a judge learns from annotated pictures")
    landmarks = data.annotation.landmarks
    if landmarks.shape[1] < 2:
        raise UserError(f"{folder} has one landmark a picture; a judge needs at least two")
    rows = np.flatnonzero(data.annotation.annotated)
    train = rows[~data.annotation.test[rows]]
    test = rows[data.annotation.test[rows]]
    if not len(train) or not len(test):
        raise UserError(f"{folder} has {len(train)} annotated pictures to train on and {len(test)} to test on")

    def draw(rng: np.random.Generator, count: int) -> Drawn:
        chosen = rng.choice(train, count)
        return data.images[chosen], landmarks[chosen]

    mirror = FACE_MIRROR if landmarks.shape[1] == len(FACE_MIRROR) else None
    augmentation = Augmentation(scale=(0.75, 1.2), rotation=0.35, shift=0.2, mirror=mirror)
    people = len(set(data.annotation.identity[test].tolist()) - {""})
    facts = f"{len(train):,} annotated pictures; {len(test):,} of {people} other people for the own error"
    return JudgeData(draw, augmentation, data.images[test], data.annotation[test], facts)


def measured(judge: Judge, data: JudgeData) -> tuple[JudgeConfig, NDArray[np.float64]]:
    """The configuration with own error and threshold filled in, and the distances, (N, J) in per cent.

    Joints outside the picture count for neither.
    """
    unit, lengths = default_lengths(data.truth)
    found = judge.find_all(data.images)
    inside = (np.abs(data.truth.landmarks) <= 1).all(2)
    offsets = (found.joints.numpy() - data.truth.landmarks) * data.truth.pixels[:, None]
    distances = np.where(inside, np.linalg.norm(offsets, axis=2) / lengths[:, None] * 100, np.nan)
    threshold = float(np.quantile(found.confidence.numpy()[inside], MISSING_SHARE))
    config = replace(judge.config, missing_below=threshold, own_error=float(np.nanmean(distances)), own_error_unit=unit)
    return config, distances
