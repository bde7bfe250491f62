"""What the GAN is trained against: a projected discriminator (Sauer et al., 2021), and augmentation."""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from autolink.generation.appearance import FEATURE_WIDTHS
from autolink.generation.generator import GanConfig
from autolink.layers import channels_last, initialise
from autolink.perceptual import EfficientNetLite0

GRID = 4
"""Side of the grid of places that are judged."""

EDGE_CHANNELS = 32
"""Width of what the discriminator reads from the edge map."""

GAIN = 2.0
"""After each spectrally normalised convolution: without, what passes several of them is too faint to tell apart."""

CLOSE_UP = 2.0
"""How many times a close-up is enlarged."""


class ProjectedFeatures(nn.Module):
    """Frozen features of a picture at five depths, each mixed by a fixed random 1x1 convolution (Sauer et al., 2021).

    The mixing keeps the discriminator from looking at a few channels alone; it is the same in every run. The deepest
    features know most of what an animal is.
    """

    taps = (0, 2, 4, 10, 15)

    widths = FEATURE_WIDTHS

    def __init__(self, size: int, real: Tensor) -> None:
        """Pictures are resized to `size`; `real` (n, 3, H, W), some of them, set the scale of each feature."""
        super().__init__()
        self.size = size
        self.network = EfficientNetLite0(self.taps).eval()
        channels_last(self.network)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            features = self.network(self._resized(real))[1:]
        self.mix = nn.ModuleList()
        for feature, width in zip(features, self.widths, strict=True):
            mix = nn.Conv2d(feature.shape[1], width, 1, bias=False)
            normal = torch.randn(mix.weight.shape, generator=generator)
            mix.weight.data.copy_(normal * (2 / feature.shape[1]) ** 0.5 / feature.abs().mean())
            self.mix.append(mix)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> five maps (B, width, size / 2, size / 2) to (B, width, size / 32, size / 32)."""
        features = self.network(self._resized(images))[1:]  # the first is little more than pixels
        return [mix(feature) for mix, feature in zip(self.mix, features, strict=True)]

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return images.contiguous(memory_format=torch.channels_last)


def halvings(side: int) -> int:
    """How often a side can be halved and still be `GRID` or more."""
    return max(0, (side // GRID).bit_length() - 1)


class Head(nn.Module):
    """The verdict at one depth: spectrally normalised convolutions (Miyato et al., 2018) down to `GRID` places.

    All depths end at as many places and so count alike (Sauer et al., 2021); were they to judge at their own
    resolution, the finest, which knows least of what an animal is, would outvote the others.
    """

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 4, 2, 1)) for _ in range(depth))
        self.body = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.last = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))
        self.structure = nn.Conv2d(EDGE_CHANNELS, width, 1)
        self.embedding = nn.Embedding(classes, width)  # from zeros, classes are told apart a hundred steps later

    def forward(self, feature: Tensor, rows: Tensor, structures: Tensor, classes: Tensor) -> Tensor:
        """Verdicts (B, GRID * GRID): on features, their rows (B,), structures (B, EDGE_CHANNELS, GRID, GRID), classes.

        Structure and class by projection (Miyato and Koyama, 2018), structure place by place.
        """
        x = feature
        for layer in (*self.down, self.body):
            x = F.leaky_relu(GAIN * layer(x), 0.2)
        x = F.adaptive_avg_pool2d(x, GRID)
        wanted = self.structure(structures) + self.embedding(classes)[:, :, None, None]
        agreement = (wanted * x[rows]).sum(1, keepdim=True) / x.shape[1] ** 0.5
        logits: Tensor = GAIN * self.last(x)[rows] + agreement
        return logits.flatten(1)


class Discriminator(nn.Module):
    """Is a picture real, of this class, and of this structure? Sees `ProjectedFeatures`, not pictures."""

    def __init__(self, config: GanConfig, feature_size: int) -> None:
        super().__init__()
        self.conditional = config.conditional
        widths = (1, *(EDGE_CHANNELS,) * halvings(config.drawn_size))
        self.edge_encoder = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in pairwise(widths))
        )
        self.heads = nn.ModuleList(
            Head(width, halvings(feature_size // 2 ** (n + 1)), len(config.classes))
            for n, width in enumerate(ProjectedFeatures.widths)
        )
        initialise(self.edge_encoder)
        channels_last(self)

    def forward(self, features: list[Tensor], rows: Tensor, edges: Tensor, classes: Tensor) -> Tensor:
        """Verdicts on pictures, which may be seen with several edge maps each.

        Args:
            features: of F pictures.
            rows: (B,), which of them each verdict is about.
            edges: (B, 1, H, H), the structure it is held against.
            classes: (B,), the class it is held against.

        Returns:
            Logits (B, L), above zero for real, as many of each depth.
        """
        structures = self.edge_encoder(edges if self.conditional else torch.zeros_like(edges))
        structures = structures * (structures.square().mean((1, 2, 3), keepdim=True) + 1e-6).rsqrt()  # lines are faint
        logits = [head(f, rows, structures, classes) for head, f in zip(self.heads, features, strict=True)]
        return torch.cat(logits, 1).float()


class Look(NamedTuple):
    """What B verdicts are about: the arguments of a `Discriminator`."""

    features: list[Tensor]
    """Of F pictures, as of `ProjectedFeatures`."""
    rows: Tensor
    """(B,), which of the pictures each verdict is about."""
    edges: Tensor
    """(B, 1, drawn_size, drawn_size)."""
    classes: Tensor
    """(B,)."""


class TwoLooks(nn.Module):
    """A discriminator of whole pictures and, with `close_up`, one of their close-ups, which sees no structure.

    The features of a whole picture of 128 px hardly know a wrong eye from a right one, those of a close-up do.
    """

    def __init__(self, config: GanConfig, feature_size: int, close_up: bool) -> None:
        super().__init__()
        self.whole = Discriminator(config, feature_size)
        self.close = Discriminator(replace(config, conditional=False), feature_size) if close_up else None

    def forward(self, whole: Look, close: Look | None) -> tuple[Tensor, Tensor | None]:
        """Verdicts of each, as of `Discriminator`."""
        return self.whole(*whole), None if self.close is None or close is None else self.close(*close)


class Change(NamedTuple):
    """One random change each of B pictures, to be made of pictures and edge maps alike."""

    light: Tensor
    """(B, 3): brightness added, factors on saturation and contrast."""
    shift: Tensor
    """(B, 2): the centre of what is seen, (x, y) in [-1, 1] units."""
    zoom: float = 1.0
    """How many times it is enlarged."""


def draw_change(count: int, strength: float, generator: torch.Generator) -> Change:
    """Random changes; `strength` 0 makes none, 1 those of Zhao et al. (2020) but for the cut-out."""
    noise = (torch.rand(count, 5, generator=generator) * 2 - 1) * strength
    light = torch.stack([0.5 * noise[:, 0], 1 + noise[:, 1], 1 + 0.5 * noise[:, 2]], 1)
    return Change(light, 0.25 * noise[:, 3:])


def close_up(change: Change, keypoints: Tensor) -> Change:
    """The same change of the light, and a view of what is amid the keypoints (B, K, 2), with half the shift.

    Their median leaves aside the few that are on something else. What is seen lies within the picture.
    """
    centre = keypoints.median(1).values.cpu() + change.shift / 2
    reach = 1 - 1 / CLOSE_UP
    return Change(change.light, centre.clamp(-reach, reach), CLOSE_UP)


def changed(images: Tensor, edges: Tensor, change: Change) -> tuple[Tensor, Tensor]:
    """Differentiable augmentation (Zhao et al., 2020): light of pictures (B, 3, H, W), place of both."""
    return changed_images(images, change), placed(edges, change, "zeros")


def changed_images(images: Tensor, change: Change) -> Tensor:
    """As `changed`, of pictures alone."""
    light = change.light.to(images.device)[:, :, None, None, None]
    x = images + light[:, 0]
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * light[:, 1] + grey
    level = x.mean((1, 2, 3), keepdim=True)
    x = (x - level) * light[:, 2] + level
    return placed(x, change, "reflection")


def placed(values: Tensor, change: Change, padding: str) -> Tensor:
    """(B, C, H, W) at the place of the change; `padding` as of `torch.nn.functional.grid_sample`."""
    shift = change.shift.to(values.device)
    matrix = (torch.eye(2, 3, device=shift.device) / change.zoom).repeat(len(shift), 1, 1)
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, align_corners=False, padding_mode=padding)
