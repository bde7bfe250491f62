"""A GAN whose structure is the learned graph: the edge map says where, noise and class say what it looks like."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from autolink.checkpoints import Pretrained, stored
from autolink.draw import to_image
from autolink.edge_map import edge_map
from autolink.errors import UsageError, UserError
from autolink.generation.generator import GanConfig, Generator
from autolink.generation.structures import PLAUSIBLE, StructuresLike, as_structures, kept_edges
from autolink.model import AutoLink
from autolink.pretrained import load_folder, save_folder

GRAPH_TOLERANCE = 0.02
"""Edge weights of one stage one may differ so much, relative to the strongest: checkpoints may hold 16-bit numbers."""

MEAN_OF = 1024
"""Styles whose mean is a class's average appearance."""

CARD = """---
library_name: autolink
pipeline_tag: unconditional-image-generation
license: unknown
tags: [gan, self-supervised]
---
Pictures whose structure is given by the keypoints and the graph of AutoLink:
`autolink sample --checkpoint FOLDER --grid grid.png`.
"""


class Gan(Pretrained):
    """A frozen stage one and the generator that its graph steers: one checkpoint folder, all that sampling needs.

    The folder holds the generator (config.json, model.safetensors) and, in `stage_one/`, the stage one that it was
    trained with.
    """

    def __init__(self, stage_one: AutoLink, generator: Generator) -> None:
        super().__init__()
        K, wanted = stage_one.config.keypoints, generator.config.keypoints
        if wanted != K:
            raise UserError(
                f"the generator was trained for {wanted} keypoints, the stage one has {K}; give the stage one that it "
                "was trained with"
            )
        weights = stage_one.edge_weights.detach()
        if (generator.graph - weights).abs().max() > GRAPH_TOLERANCE * weights.max():
            raise UserError(
                "the generator was trained with another stage one: their graphs differ; give the stage one that it "
                "was trained with"
            )
        self.stage_one = stage_one.requires_grad_(False)
        self.generator = generator

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder, ready to sample.

        Raises:
            UserError: it is damaged or of another kind, or its two parts do not fit.
        """
        generator = load_folder("gan", GanConfig, Generator, folder)
        return cls(AutoLink.from_folder(stored(folder / "stage_one")), generator).eval()

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = False) -> None:
        """Write generator and stage one; `half` stores 16-bit weights."""
        save_folder("gan", self.generator, self.generator.config, Path(folder), card, half)
        self.stage_one.save_pretrained(Path(folder) / "stage_one", half=half)

    @property
    def config(self) -> GanConfig:
        """The generator's."""
        return self.generator.config

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.generator.constant.device

    def draw(self, keypoints: Tensor, kept: Tensor | None = None) -> Tensor:
        """Edge maps for the generator, (B, K, 2) -> (B, 1, drawn_size, drawn_size); as `draw_structure`."""
        return draw_structure(self.stage_one, keypoints, self.config.drawn_size, kept)

    @torch.no_grad()
    def styles(self, noise: Tensor, classes: Tensor, truncation: float = 1.0) -> Tensor:
        """Appearances (B, latent) of noise (B, latent) and classes (B,).

        `truncation` below 1 draws them towards the mean of their class (Karras et al., 2019): less variety, fewer
        failures.
        """
        styles = self.generator.style(noise, classes)
        if truncation == 1:
            return styles
        many = torch.randn(MEAN_OF, self.config.latent, generator=torch.Generator().manual_seed(0)).to(noise)
        means = [
            self.generator.style(many, torch.full((MEAN_OF,), n, device=noise.device)).mean(0)
            for n in range(len(self.config.classes))
        ]
        centre = torch.stack(means)[classes]
        return centre + truncation * (styles - centre)

    @torch.no_grad()
    def generate(self, keypoints: Tensor, styles: Tensor, kept: Tensor | None = None, batch: int = 32) -> Tensor:
        """Structures (B, K, 2) in the appearances (B, latent) -> pictures (B, 3, size, size) in [-1, 1]."""
        pieces = zip(keypoints.split(batch), styles.split(batch), strict=True)
        return torch.cat([self.generator.paint(self.draw(k, kept), s) for k, s in pieces])

    def appearances(
        self, numbers: Sequence[int], *, seed: int = 0, class_number: int = -1, truncation: float = 1.0
    ) -> Tensor:
        """The styles (N, latent) of a seed's numbered appearances.

        Each number has a seed of its own, so that an appearance does not depend on the others. `class_number` -1 takes
        all classes in turn.
        """
        drawn = [np.random.default_rng((seed, n)).standard_normal(self.config.latent, np.float32) for n in numbers]
        noise = torch.from_numpy(np.stack(drawn))
        C = len(self.config.classes)
        classes = torch.tensor([n % C if class_number < 0 else class_number for n in numbers])
        return self.styles(noise.to(self.device), classes.to(self.device), truncation)

    def sample(
        self,
        structures: StructuresLike = 4,
        appearances: int | Sequence[int] = 7,
        *,
        seed: int = 0,
        class_name: str = "",
        truncation: float = 1.0,
        directions: int = PLAUSIBLE,
        dropped_edges: Sequence[str] = (),
    ) -> NDArray[np.uint8]:
        """Generate every structure in every appearance.

        Args:
            structures: how many of those that the checkpoint remembers of its training pictures; or a picture, or
                several (files, PIL images, 8-bit RGB arrays (H, W, 3)), whose structure is taken; or keypoints
                (S, K, 2), (x, y) in [-1, 1]; or `Structures`.
            appearances: how many, or which by their numbers; the same seed and number are always the same appearance.
            seed: which appearances.
            class_name: class of all; by default that of each structure, and where it is not known all in turn.
            truncation: below 1, nearer to the average appearance of the class.
            directions: principal directions along which structures of pictures are taken; 0 takes them as found.
            dropped_edges: edges that are switched off, such as "2-5".

        Returns:
            (S, A, size, size, 3), 8-bit RGB.

        Raises:
            UserError: a picture cannot be read, or there is no such class, structure or edge.
        """
        found = as_structures(self, structures, directions)
        numbers = range(appearances) if isinstance(appearances, int) else appearances
        if not numbers or min(numbers) < 0 or seed < 0:
            raise UsageError("appearances must be at least one, their numbers and the seed not negative")
        kept = kept_edges(self, dropped_edges)
        rows = []
        for keypoints, known in zip(found.keypoints, found.classes.tolist(), strict=True):
            number = self.class_number(class_name) if class_name else known
            styles = self.appearances(numbers, seed=seed, class_number=number, truncation=truncation)
            repeated = torch.from_numpy(keypoints).to(self.device).expand(len(styles), -1, -1)
            rows.append(self.generate(repeated, styles, kept).permute(0, 2, 3, 1).cpu().numpy())
        return to_image(np.stack(rows))

    def class_number(self, name: str) -> int:
        """The number of a class.

        Raises:
            UserError: there is no such class.
        """
        if name not in self.config.classes:
            raise UsageError(f"there is no class {name}; this checkpoint knows {', '.join(self.config.classes)}")
        return self.config.classes.index(name)


def draw_structure(stage_one: AutoLink, keypoints: Tensor, size: int, kept: Tensor | None = None) -> Tensor:
    """Edge maps as the GAN wants them: (B, K, 2) -> (B, 1, size, size), the strongest edge 1.

    It is the root of stage one's edge map, so that faint edges count too. `kept` (E,), true or false, leaves edges out.
    """
    weights = stage_one.edge_weights.detach()
    shown = weights if kept is None else weights * kept
    return (edge_map(keypoints, shown, size, stage_one.config.thickness) / weights.max()).sqrt()
