"""The GAN's training data: pictures, the keypoints that stage one finds on them, and their classes."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.images import ImageSet
from autolink.device import to_network
from autolink.draw import to_image
from autolink.generation.classes import classes_of, held_out_pictures
from autolink.generation.gan import REMEMBERED, Generator
from autolink.inference import detect_all
from autolink.model import BATCH, AutoLink
from autolink.relight import draw_lights, relit

RELIT = 4
"""Lights in which each picture's keypoints are found beside its own."""


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

    images: NDArray[np.uint8]
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
        """  # fmt: skip
        sides = [data.images, data.images[:, :, ::-1]] if flip else [data.images]
        dice = torch.Generator().manual_seed(0)
        views = [detect_all(stage_one, side, device) for side in sides]
        for _ in range(RELIT if relight else 0):
            views += [detect_all(stage_one, relit_pictures(side, relight, dice), device) for side in sides]
        mirrored = np.tile(np.arange(len(sides)) == 1, len(views) // len(sides))
        test = held_out_pictures(data)
        return cls(
            data.images, torch.from_numpy(np.stack(views)), mirrored, classes_of(data.names, classes),
            np.flatnonzero(~test), np.flatnonzero(test),
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
        return 1 / (counts[classes] * (counts > 0).sum())

    def batch(self, count: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Random pictures, of each class about as many, half of them mirrored."""
        rows = rng.choice(self.train_rows, count, p=self.chances)
        images = self.images[rows]
        views = rng.integers(len(self.keypoints), size=count)
        mirrored = self.mirrored[views]
        images[mirrored] = images[mirrored, :, ::-1]
        classes = torch.from_numpy(self.classes[rows])
        return Batch(
            to_network(torch.from_numpy(images), device), self.keypoints[views, rows].to(device), classes.to(device)
        )

    def remember(self, generator: Generator, stage_one: AutoLink) -> None:
        """Keep the graph and some structures in the generator, to sample without any picture."""
        rows = self.train_rows[np.linspace(0, len(self.train_rows) - 1, REMEMBERED).astype(int)]
        generator.graph.copy_(stage_one.edge_weights.detach())
        generator.structures.copy_(self.keypoints[0, rows])
        generator.structure_classes.copy_(torch.from_numpy(self.classes[rows]))


def relit_pictures(pictures: NDArray[np.uint8], strength: float, dice: torch.Generator) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3), 8-bit, each in a random light."""
    changed = np.empty_like(pictures)
    for n in range(0, len(pictures), BATCH):
        images = to_network(torch.from_numpy(pictures[n : n + BATCH].copy()), torch.device("cpu"))
        relit_images = relit(images, draw_lights(len(images), strength, dice))
        changed[n : n + BATCH] = to_image(relit_images.permute(0, 2, 3, 1).numpy())
    return changed
