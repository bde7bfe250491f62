"""What the GAN is trained against: a projected discriminator (Sauer et al., 2021), and augmentation."""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from autolink.generation.generator import GanConfig
from autolink.layers import channels_last
from autolink.perceptual import EfficientNetLite0
from autolink.pretrained import rename_earlier_keys


class ProjectedFeatures(nn.Module):
    """Frozen features of a picture at four depths, each mixed by a fixed random 1x1 convolution (Sauer et al., 2021).

    The mixing keeps the discriminator from looking at a few channels alone; it is the same in every run.
    """

    widths = (32, 48, 64, 64)

    def __init__(self, size: int, real: Tensor) -> None:
        """Pictures are resized to `size`; `real` (n, 3, H, W), some of them, set the scale of each feature."""
        super().__init__()
        self.size = size
        self.network = EfficientNetLite0().eval()
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
        """(B, 3, H, W) in [-1, 1] -> four maps (B, width, size / 2, size / 2) to (B, width, size / 16, size / 16)."""
        features = self.network(self._resized(images))[1:]  # the first is little more than pixels
        return [mix(feature) for mix, feature in zip(self.mix, features, strict=True)]

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return images.contiguous(memory_format=torch.channels_last)


class Head(nn.Module):
    """The verdict at one depth: spectrally normalised convolutions (Miyato et al., 2018), class by projection."""

    earlier_keys: ClassVar = {"see.": "feature_conv.", "read.": "edge_conv.", "name.": "embedding."}
    """What its parts were called in run folders of version 0.1."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.feature_conv = spectral_norm(nn.Conv2d(width, width, 4, 2, 1))
        self.edge_conv = spectral_norm(nn.Conv2d(1, width, 4, 2, 1))
        self.body = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.last = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))
        self.embedding = nn.Embedding(classes, width)
        nn.init.zeros_(self.embedding.weight)
        nn.Module.register_load_state_dict_pre_hook(self, rename_earlier_keys)

    def forward(self, feature: Tensor, rows: Tensor, edges: Tensor, classes: Tensor) -> Tensor:
        """(F, width, h, h), and of each verdict: feature row (B,), (B, 1, H, H), (B,) -> logits (B, h * h / 4)."""
        edges = F.interpolate(edges, size=feature.shape[2:], mode="bilinear", antialias=True, align_corners=False)
        x = F.leaky_relu(self.feature_conv(feature)[rows] + self.edge_conv(edges), 0.2)
        x = F.leaky_relu(self.body(x), 0.2)
        logits: Tensor = self.last(x) + (self.embedding(classes)[:, :, None, None] * x).mean(1, keepdim=True)
        return logits.flatten(1)


class Discriminator(nn.Module):
    """Is a picture real, of this class, and of this structure? Sees `ProjectedFeatures`, not pictures."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.conditional = config.conditional
        self.heads = nn.ModuleList(Head(width, len(config.classes)) for width in ProjectedFeatures.widths)
        channels_last(self)

    def forward(self, features: list[Tensor], rows: Tensor, edges: Tensor, classes: Tensor) -> Tensor:
        """Verdicts on pictures, which may be seen with several edge maps each.

        Args:
            features: of F pictures.
            rows: (B,), which of them each verdict is about.
            edges: (B, 1, H, H), the structure it is held against.
            classes: (B,), the class it is held against.

        Returns:
            Logits (B, L), above zero for real.
        """
        edges = edges if self.conditional else torch.zeros_like(edges)
        logits = [head(f, rows, edges, classes) for head, f in zip(self.heads, features, strict=True)]
        return torch.cat(logits, 1).float()


class Change(NamedTuple):
    """One random change each of B pictures, to be made of pictures and edge maps alike."""

    light: Tensor
    """(B, 3): brightness added, factors on saturation and contrast."""
    shift: Tensor
    """(B, 2): (x, y) in [-1, 1] units."""


def draw_change(count: int, strength: float, generator: torch.Generator) -> Change:
    """Random changes; `strength` 0 makes none, 1 those of Zhao et al. (2020) but for the cut-out."""
    noise = (torch.rand(count, 5, generator=generator) * 2 - 1) * strength
    light = torch.stack([0.5 * noise[:, 0], 1 + noise[:, 1], 1 + 0.5 * noise[:, 2]], 1)
    return Change(light, 0.25 * noise[:, 3:])


def changed(images: Tensor, edges: Tensor, change: Change) -> tuple[Tensor, Tensor]:
    """Differentiable augmentation (Zhao et al., 2020): light of pictures (B, 3, H, W), place of both."""
    light, shift = change.light.to(images.device)[:, :, None, None, None], change.shift.to(images.device)
    x = images + light[:, 0]
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * light[:, 1] + grey
    level = x.mean((1, 2, 3), keepdim=True)
    x = (x - level) * light[:, 2] + level
    matrix = torch.eye(2, 3, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :, 2] = shift

    def moved(values: Tensor, padding: str) -> Tensor:
        grid = F.affine_grid(matrix, list(values.shape), align_corners=False)
        return F.grid_sample(values, grid, align_corners=False, padding_mode=padding)

    return moved(x, "reflection"), moved(edges, "zeros")
