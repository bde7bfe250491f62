"""The generator of the GAN: the edge map sets structure, noise and class appearance, scale by scale."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from autolink.generation.appearance import AppearanceEncoder, divergence
from autolink.generation.modulation import modulated
from autolink.layers import channels_last, initialise
from autolink.pretrained import rename_earlier_keys

SMALLEST = 4
"""Side in pixels where the generator begins."""

REMEMBERED = 64
"""Structures of training pictures that a checkpoint keeps, to sample without any picture."""


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
    encoder: Annotated[bool, tyro.conf.Suppress] = False
    """Whether it learned with an encoder of appearances, and draws random ones as those of pictures are distributed."""

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


def read_earlier(generator: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """As `rename_earlier_keys`; the mean of noise's products with itself, which was kept, becomes its covariance."""
    mean, product = (state.get(f"{prefix}encoder.{name}") for name in ("mean", "product"))
    if mean is not None and product is not None:
        state[f"{prefix}encoder.product"] = product - mean[:, :, None] * mean[:, None]
    rename_earlier_keys(generator, state, prefix)


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
            gain, bias = linear(style).chunk(2, 1)
            if where is None:
                h = modulated(h, gain, bias)
            else:
                gain, bias = (a[:, :, None, None] + b for a, b in zip((gain, bias), where.chunk(2, 1), strict=True))
                h = F.leaky_relu(F.instance_norm(h) * (1 + gain) + bias, 0.2)
            h = convolve(h)
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
    earlier_keys: ClassVar = {
        "name.": "embedding.",
        "map.": "mapping.",
        "begin": "constant",
        "read.": "edge_encoder.",
        "encoder.product": "encoder.covariance",
    }
    """What its parts were called in checkpoints of version 0.1 and, the last one, of the first ones with an encoder."""

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
        self.encoder = AppearanceEncoder(style, len(config.classes)) if config.encoder else None
        initialise(self.edge_encoder)
        self.register_buffer("graph", torch.zeros(K * (K - 1) // 2))
        self.register_buffer("structures", torch.zeros(REMEMBERED, K, 2))
        self.register_buffer("structure_classes", torch.zeros(REMEMBERED, dtype=torch.long))
        nn.Module.register_load_state_dict_pre_hook(self, read_earlier)
        channels_last(self)

    def style(self, noise: Tensor, classes: Tensor) -> Tensor:
        """What pictures look like: noise (B, latent), normal, and classes (B,) -> (B, latent) of mean square 1."""
        return self.mapped(self.encoder.distributed(noise, classes) if self.encoder else noise, classes)

    def mapped(self, noise: Tensor, classes: Tensor) -> Tensor:
        """As `style`, of noise that is distributed as that of pictures, if there is an encoder."""
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

    def forward(
        self, edges: Tensor, noise: Tensor, classes: Tensor, like: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """`style` and `paint` in one.

        With `like`, the `ProjectedFeatures` of n pictures, the last n pictures get the noise of those, from which the
        last n of `noise` are the deviations.

        Returns:
            Pictures (B, 3, size, size) in [-1, 1], and how far the noise of `like` is from a normal one, in nats.
        """
        if like is None or self.encoder is None:
            return self.paint(edges, self.style(noise, classes)), noise.new_zeros(())
        mean, log_variance = self.encoder(like)
        free = len(noise) - len(mean)
        encoded = mean + noise[free:] * (log_variance / 2).exp()
        if self.training:
            self.encoder.observe(encoded, classes[free:])
        styles = torch.cat([self.style(noise[:free], classes[:free]), self.mapped(encoded, classes[free:])])
        return self.paint(edges, styles), divergence(mean, log_variance)
