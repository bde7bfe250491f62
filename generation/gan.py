"""A GAN whose structure is the learned graph: the edge map says where, noise and class say what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from autolink.checkpoints import Pretrained
from autolink.draw import to_image
from autolink.edge_map import edge_map
from autolink.errors import UsageError, UserError
from autolink.generation.structures import StructuresLike, as_structures, kept_edges
from autolink.layers import channels_last, initialise
from autolink.model import AutoLink
from autolink.pretrained import load_folder, rename_earlier_keys, save_folder

SMALLEST = 4
"""Side in pixels where the generator begins."""

REMEMBERED = 64
"""Structures of training pictures that a checkpoint keeps, to sample without any picture."""

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


@dataclass(frozen=True)
class GanConfig:
    """Everything that fixes the generator's shape."""

    keypoints: int = 16
    """Keypoints of the stage one that gives the structure."""
    channels: tuple[int, ...] = (160, 160, 96, 64, 32)
    """Widths of the generator, at 4 px, 8 px and so on; five widths make pictures of 64 px, eight of 512."""
    latent: int = 64
    """Numbers of noise that say what a picture looks like."""
    edge_size: int = 16
    """Finest scale, in pixels, at which the edge map steers; where it is finer, its lines get painted."""
    edge_channels: int = 32
    """Width of the network that reads the edge map."""
    conditional: bool = True
    """Whether generator and discriminator see the edge map; without, the same networks make the control."""
    classes: Annotated[tuple[str, ...], tyro.conf.Suppress] = ("all",)
    """Names of the classes, which come from the data."""

    def __post_init__(self) -> None:
        for name in ("channels", "classes"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 2 <= len(self.channels) <= 8 or min(self.channels) < 1:
            raise ValueError(f"--channels needs two to eight positive widths, got {self.channels}")
        if self.keypoints < 2 or self.latent < 1 or self.edge_channels < 1 or not self.classes:
            raise ValueError("--keypoints must be at least 2, --latent and --edge-channels at least 1")
        scales = [SMALLEST * 2**n for n in range(len(self.channels))]
        if self.edge_size not in scales:
            raise ValueError(
                f"--edge-size must be one of {scales}, the scales of these --channels; got {self.edge_size}"
            )

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return SMALLEST << (len(self.channels) - 1)

    @property
    def drawn_size(self) -> int:
        """Side at which the edge map is drawn: fine enough for its lines to be seen."""
        return 4 * self.edge_size


def activation() -> nn.LeakyReLU:
    """Not in place: what it is applied to is needed again."""
    return nn.LeakyReLU(0.2)


class EdgeEncoder(nn.Module):
    """Edge map -> what it means at each scale up to `edge_size`, each convolution seeing twice as far as the last."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        c = config.edge_channels
        self.first = nn.Sequential(nn.Conv2d(1, c, 4, 2, 1), activation(), nn.Conv2d(c, c, 4, 2, 1), activation())
        halvings = (config.edge_size // SMALLEST).bit_length() - 1
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c, 4, 2, 1), activation()) for _ in range(halvings))

    def forward(self, edges: Tensor) -> list[Tensor]:
        """(B, 1, drawn_size, drawn_size), at most about 1 -> features (B, c, h, h), coarsest first, h = 4, 8, ..."""
        features = [self.first(edges)]
        for down in self.down:
            features.append(down(features[-1]))
        return features[::-1]


class Block(nn.Module):
    """One scale of the generator: two convolutions, before each of which style and edge map set mean and spread.

    Style by adaptive instance normalisation (Huang and Belongie, 2017), one gain and bias a channel; edge map by
    spatial ones (Park et al., 2019).
    """

    def __init__(self, c_in: int, c_out: int, style: int, edge: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(c_in, c_out, 1)
        self.convolve = nn.ModuleList(nn.Conv2d(c_out, c_out, 3, padding=1) for _ in range(2))
        self.style = nn.ModuleList(nn.Linear(style, 2 * c_out) for _ in range(2))
        self.place = nn.Conv2d(edge, 4 * c_out, 3, padding=1) if edge else None

    def forward(self, x: Tensor, style: Tensor, place: Tensor | None) -> Tensor:
        """(B, c_in, h, h), (B, style), (B, edge, h, h) or None -> (B, c_out, h, h)."""
        x = self.enter(x)
        spatial = self.place(place).chunk(2, 1) if self.place is not None else (None, None)
        h = x
        for convolve, linear, where in zip(self.convolve, self.style, spatial, strict=True):
            gain, bias = linear(style)[:, :, None, None].chunk(2, 1)
            if where is not None:
                gain, bias = (a + b for a, b in zip((gain, bias), where.chunk(2, 1), strict=True))
            h = convolve(F.leaky_relu(F.instance_norm(h) * (1 + gain) + bias, 0.2))
        return x + h

    @torch.no_grad()
    def begin_as_identity(self) -> None:
        """Let channels pass as they are, as far as there are as many, until training changes that."""
        nn.init.dirac_(self.enter.weight)
        for parameter in (self.enter.bias, *self.convolve[-1].parameters()):
            assert parameter is not None
            parameter.zero_()


class Generator(nn.Module):
    """Edge map, noise and class -> picture."""

    graph: Tensor
    """(E,), edge weights of the stage one that it was trained with."""
    structures: Tensor
    """(REMEMBERED, K, 2), keypoints of training pictures, (x, y) in [-1, 1]."""
    structure_classes: Tensor
    """(REMEMBERED,), their classes."""
    earlier_keys: ClassVar = {"name.": "embedding.", "map.": "mapping.", "begin": "constant", "read.": "edge_encoder."}
    """What its parts were called in checkpoints of version 0.1."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        widths, style, K = config.channels, config.latent, config.keypoints
        self.embedding = nn.Embedding(len(config.classes), style)
        self.mapping = nn.Sequential(nn.Linear(2 * style, style), activation(), nn.Linear(style, style))
        self.constant = nn.Parameter(torch.randn(1, widths[0], SMALLEST, SMALLEST))
        self.edge_encoder = EdgeEncoder(config)
        steered = (config.edge_size // SMALLEST).bit_length()
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, style, config.edge_channels if n < steered else 0)
            for n, (c_in, c_out) in enumerate(pairwise((widths[0], *widths)))
        )
        self.last = nn.Conv2d(widths[-1], 3, 3, padding=1)
        initialise(self.edge_encoder)
        self.register_buffer("graph", torch.zeros(K * (K - 1) // 2))
        self.register_buffer("structures", torch.zeros(REMEMBERED, K, 2))
        self.register_buffer("structure_classes", torch.zeros(REMEMBERED, dtype=torch.long))
        nn.Module.register_load_state_dict_pre_hook(self, rename_earlier_keys)
        channels_last(self)

    def style(self, noise: Tensor, classes: Tensor) -> Tensor:
        """What pictures look like: noise (B, latent), normal, and classes (B,) -> (B, latent) of mean square 1."""
        style: Tensor = self.mapping(torch.cat([noise, self.embedding(classes)], 1)).float()
        return style * (style.square().mean(1, keepdim=True) + 1e-6).rsqrt()

    def paint(self, edges: Tensor, style: Tensor) -> Tensor:
        """Edge maps (B, 1, drawn_size, drawn_size) as of `Gan.draw` and styles (B, latent) -> pictures in [-1, 1]."""
        places: list[Tensor | None] = [
            *self.edge_encoder(edges if self.config.conditional else torch.zeros_like(edges))
        ]
        places += [None] * (len(self.blocks) - len(places))
        x = self.constant.expand(len(edges), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for n, (block, place) in enumerate(zip(self.blocks, places, strict=True)):
            if n:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(x, style, place)
        return torch.tanh(self.last(F.leaky_relu(x, 0.2)).float())

    def forward(self, edges: Tensor, noise: Tensor, classes: Tensor) -> Tensor:
        """`style` and `paint` in one."""
        return self.paint(edges, self.style(noise, classes))


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
        return cls(AutoLink.from_folder(folder / "stage_one"), generator).eval()

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
            dropped_edges: edges that are switched off, such as "2-5".

        Returns:
            (S, A, size, size, 3), 8-bit RGB.

        Raises:
            UserError: a picture cannot be read, or there is no such class, structure or edge.
        """
        found = as_structures(self, structures)
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
