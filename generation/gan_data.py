"""The GAN's training data: pictures, the keypoints that stage one finds on them, and their classes."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.images import ImageSet, Pictures
from autolink.device import to_network
from autolink.generation.classes import classes_of, held_out_pictures
from autolink.generation.generator import REMEMBERED, Generator
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.relight import draw_lights, relit

RELIT = 4
"""Lights in which each picture's keypoints are found beside its own."""

CANDIDATES = 4
"""Training pictures for each structure that is remembered."""


class Batch(NamedTuple):
    """The real pictures of a step."""

    images: Tensor
    """(B, 3, size, size) in [-1, 1]."""
    keypoints: Tensor
    """(B, K, 2), (x, y) in [-1, 1]."""
    classes: Tensor
    """(B,)."""


@dataclass(frozen=True)
class GanData:
    """Pictures with their structures and classes."""

    images: Pictures
    """(N, size, size, 3), RGB."""
    keypoints: Tensor
    """(V, N, K, 2), (x, y) in [-1, 1], of views of the pictures: first as they are, then mirrored, in other lights."""
    mirrored: NDArray[np.bool_]
    """(V,), which views are mirrored."""
    classes: NDArray[np.int64]
    """(N,)."""
    train_rows: NDArray[np.int64]
    """Training pictures."""
    test_rows: NDArray[np.int64]
    """Held-out pictures."""

    @classmethod
    def find(
        cls,
        data: ImageSet,
        classes: tuple[str, ...],
        stage_one: AutoLink,
        flip: bool,
        device: torch.device,
        relight: float = 0.0,
    ) -> "GanData":
        """The structures of pictures as stage one, which is on `device`, finds them.

        With `relight`, also in other lights of that strength: what keypoints tell of colour is then noise.
        """
        sides = (False, True) if flip else (False,)
        dice = torch.Generator().manual_seed(0)

        def in_a_light(images: Tensor) -> Tensor:
            return relit(images, draw_lights(len(images), relight, dice))

        changes = [None, *[in_a_light] * (RELIT if relight else 0)]
        views = [
            detect_all(stage_one, data.images, device, mirrored=side, change=change)
            for change in changes
            for side in sides
        ]
        test = held_out_pictures(data)
        return cls(
            data.images, torch.from_numpy(np.stack(views)), np.tile(sides, len(changes)),
            classes_of(data.names, classes), np.flatnonzero(~test), np.flatnonzero(test),
        )  # fmt: skip

    @property
    def shown_rows(self) -> NDArray[np.int64]:
        """Pictures whose structures are shown and measured: those held out, if any."""
        return self.test_rows if len(self.test_rows) > 1 else self.train_rows

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """How likely each training picture is in a batch: every class as likely as any other."""
        classes = self.classes[self.train_rows]
        counts = np.bincount(classes)
        chances: NDArray[np.float64] = 1 / (counts[classes] * (counts > 0).sum())
        return chances

    def rows(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The pictures of a batch, (count,), of each class about as many."""
        return rng.choice(self.train_rows, count, p=self.chances)

    def batch(self, count: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Random pictures, half of them mirrored."""
        rows = self.rows(count, rng)
        images = self.images[rows]
        views = rng.integers(len(self.keypoints), size=count)
        mirrored = self.mirrored[views]
        images[mirrored] = images[mirrored, :, ::-1]
        classes = torch.from_numpy(self.classes[rows])
        return Batch(
            to_network(torch.from_numpy(images), device), self.keypoints[views, rows].to(device), classes.to(device)
        )

    def candidates(self) -> NDArray[np.int64]:
        """Training pictures in groups, of each of which the structure of one is remembered: (REMEMBERED, CANDIDATES).

        They are spread over all; those of a group are of one class.
        """
        rows = self.train_rows[np.argsort(self.classes[self.train_rows], kind="stable")]
        spread = np.linspace(0, len(rows) - 1, REMEMBERED * CANDIDATES).astype(int)
        groups: NDArray[np.int64] = rows[spread].reshape(REMEMBERED, CANDIDATES)
        return groups

    def remember(self, generator: Generator, stage_one: AutoLink, rows: NDArray[np.int64]) -> None:
        """Keep the graph and the structures of some pictures, (REMEMBERED,), to sample without any picture."""
        generator.graph.copy_(stage_one.edge_weights.detach())
        generator.structures.copy_(self.keypoints[0, rows])
        generator.structure_classes.copy_(torch.from_numpy(self.classes[rows]))
