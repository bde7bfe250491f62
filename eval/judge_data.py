"""What a judge learns from and is measured on: rendered people, or annotated pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from autolink.eval.augment import FACE_MIRROR, Augmentation
from numpy.typing import NDArray

from autolink.data.figures import figure_images, render, sample_identity, sample_pose, sample_scene
from autolink.data.images import Annotation, Fit, load_images
from autolink.errors import UserError

TRAIN_SEED, TEST_SEED, TEST_FIGURES = 7_000_000, 7_500_000, 1000
"""Rendered people of training and of the own error: apart from each other and from all that is rendered elsewhere."""


Batches = Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]


class JudgeData(NamedTuple):
    """Endless training pictures, and others of other people to measure on."""

    batches: Batches
    """(B, size, size, 3) RGB and joints (B, J, 2) in [-1, 1]."""
    augmentation: Augmentation
    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB."""
    truth: Annotation
    facts: str
    """One phrase for the model card."""


def figure_data(size: int, batch: int, seed: int) -> JudgeData:
    """Rendered people, none of them drawn twice."""

    def batches() -> Batches:
        rng = np.random.default_rng((TRAIN_SEED, seed))
        while True:
            people = (render(sample_identity(rng), sample_pose(rng), sample_scene(rng), size) for _ in range(batch))
            images, joints = zip(*people, strict=True)
            yield np.stack(images), np.stack(joints)

    images, joints = figure_images(TEST_FIGURES, TEST_SEED, size)
    names = np.array([f"figure {n}" for n in range(len(images))])
    truth = Annotation(joints, names, np.full((len(images), 2), (size - 1) / 2), np.ones(len(images), bool))
    facts = (
        f"rendered people with their true joints, newly drawn at every step; {TEST_FIGURES:,} others for the own error"
    )
    return JudgeData(batches(), Augmentation(scale=(0.9, 1.1), rotation=0.1, shift=0.05), images, truth, facts)


def folder_data(folder: Path, size: int, fit: Fit, batch: int, seed: int) -> JudgeData:
    """Annotated pictures, split by identity as stage one's are.

    Raises:
        UserError: there is no annotation, or none on one side of the split.
    """
    data = load_images(folder, size, fit)
    if data.annotation is None:
        raise UserError(f"{folder} has no landmarks.csv; a judge learns from annotated pictures")
    rows = np.flatnonzero(data.annotation.annotated)
    train = rows[~data.annotation.test[rows]]
    test = rows[data.annotation.test[rows]]
    if not len(train) or not len(test):
        raise UserError(f"{folder} has {len(train)} annotated pictures to train on and {len(test)} to test on")

    def batches() -> Batches:
        assert data.annotation is not None
        rng = np.random.default_rng((TRAIN_SEED, seed))
        while True:
            chosen = rng.choice(train, batch)
            yield data.images[chosen], data.annotation.landmarks[chosen]

    mirror = FACE_MIRROR if data.annotation.landmarks.shape[1] == len(FACE_MIRROR) else None
    augmentation = Augmentation(scale=(0.75, 1.2), rotation=0.35, shift=0.2, mirror=mirror)
    people = len(set(data.annotation.identity[test].tolist()) - {""})
    facts = f"{len(train):,} annotated pictures; {len(test):,} of {people} other people for the own error"
    return JudgeData(batches(), augmentation, data.images[test], data.annotation[test], facts)
