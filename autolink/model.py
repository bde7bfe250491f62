"""AutoLink's networks: keypoint detector, learned graph, and the decoder that inpaints a masked image."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from typing_extensions import Self

from autolink.checkpoints import Pretrained
from autolink.data.picture import squares, to_pixels
from autolink.device import to_network
from autolink.edge_map import edge_map
from autolink.inputs import Image, Pictures, check_range, read_pictures
from autolink.layers import ResidualBlock, activation, channels_last, down_block, initialise, up_block
from autolink.pretrained import load_folder, save_folder
from autolink.relight import local_contrast

BATCH = 32
"""Pictures that are looked at together."""

HEATMAP_UPSAMPLINGS = 2
"""The detector goes down once per entry of `detector_channels` and then up twice, as in the paper."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the networks' shapes and the edge map; the defaults are the small model for CPUs."""

    keypoints: int = 16
    """How many keypoints to discover (K)."""
    thickness: float = 2.5e-3
    """Squared width of an edge in the edge map, in units of the [-1, 1] image plane."""
    size: int = 64
    """Side of the square images that the networks see, in pixels."""
    fit: Literal["stretch", "crop"] = "stretch"
    """How a picture of another aspect ratio becomes square: stretched whole, or its central square."""
    detector_channels: tuple[int, ...] = (32, 64, 128)
    """Width of each detector level; every level halves the resolution."""
    decoder_channels: tuple[int, ...] = (16, 32, 64, 128)
    """Width of each decoder level, the first at full resolution."""
    local_contrast: bool = False
    """The detector sees local contrast only (`relight.local_contrast`), so that keypoints cannot tell how light or of
    what colour fur or clothes are."""
    colour_erased: Annotated[bool, tyro.conf.Suppress] = False
    """Whether what a linear map could tell of colour is taken out of the keypoints: see generation/erase_colour.py."""
    sharpness: float = 3.0
    """Factor on the heatmap logits before their softmax."""
    edge_initial: float = -2.0
    """Every edge weight starts near softplus of this."""
    edge_learning_rate_scale: float = 64.0
    """How much faster the edge weights learn than the networks."""

    def __post_init__(self) -> None:
        for name in ("detector_channels", "decoder_channels"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.keypoints < 2:
            raise ValueError(f"--keypoints must be at least 2 to draw an edge, got {self.keypoints}")
        if not 0 < self.thickness < math.inf:
            raise ValueError(f"--thickness must be above zero and finite, got {self.thickness}")
        levels = max(len(self.detector_channels), len(self.decoder_channels) - 1)
        if self.size < 1 or self.size % 2**levels:
            raise ValueError(f"--size must be a multiple of {2**levels} for {levels} halvings, got {self.size}")
        if len(self.detector_channels) < HEATMAP_UPSAMPLINGS or len(self.decoder_channels) < 2:
            raise ValueError("--detector-channels and --decoder-channels need at least two levels each")
        if min(self.detector_channels + self.decoder_channels) < 1:
            raise ValueError("--detector-channels and --decoder-channels must be positive")
        if self.fit not in ("stretch", "crop"):
            raise ValueError(f"--fit is stretch or crop, got {self.fit}")

    @property
    def heatmap_size(self) -> int:
        """Side of a keypoint's heatmap in pixels."""
        return int(self.size * 2**HEATMAP_UPSAMPLINGS // 2 ** len(self.detector_channels))


class Detector(nn.Module):
    """Image -> keypoints by a heatmap each and its soft-argmax; section 3.1 of the paper."""

    grid: Tensor
    log_prior: Tensor
    erased: Tensor
    """(2K, 2K), of a detector without colour: the projection that is taken out of the keypoints."""
    erased_mean: Tensor
    """(2K,), the keypoints that it leaves as they are."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.detector_channels
        down = [ResidualBlock(c_in, c_out) for c_in, c_out in pairwise((3, *widths))]
        ups = widths[::-1][: HEATMAP_UPSAMPLINGS + 1]
        ups += (ups[-1],) * (HEATMAP_UPSAMPLINGS + 1 - len(ups))
        up = [up_block(c_in, c_out, convolutions=1) for c_in, c_out in pairwise(ups)]
        last = nn.Conv2d(ups[-1], config.keypoints, 3, padding=1)
        self.network = nn.Sequential(*down, *up, last)
        self.sharpness, self.local_contrast = config.sharpness, config.local_contrast
        initialise(self)
        last.reset_parameters()  # faint heatmaps at first: the log-prior decides where keypoints start
        axis = torch.linspace(-1, 1, config.heatmap_size, device="cpu")  # as the anchors, on whatever the rest is built
        grid = torch.cartesian_prod(axis, axis).flip(1)  # (h * w, 2) as (x, y), rows first
        anchors = torch.quasirandom.SobolEngine(2, seed=3).draw(config.keypoints) * 1.3 - 0.65
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("log_prior", -torch.cdist(anchors, grid).square(), persistent=False)
        self.colour_erased = config.colour_erased
        if config.colour_erased:
            self.register_buffer("erased", torch.zeros(2 * config.keypoints, 2 * config.keypoints))
            self.register_buffer("erased_mean", torch.zeros(2 * config.keypoints))

    def forward(self, images: Tensor, spread: float = 0.0) -> Tensor:
        """Keypoints (B, K, 2), (x, y) in [-1, 1]; `spread` times a log-prior pulls each towards a place of its own."""
        if self.local_contrast:
            images = local_contrast(images)
        logits = self.network(images).flatten(2).float() * self.sharpness  # (B, K, h * w)
        with torch.autocast(images.device.type, enabled=False):  # positions need more than bf16's eight bits
            keypoints: Tensor = (logits + spread * self.log_prior).softmax(2) @ self.grid
            if self.colour_erased:
                away = (keypoints.flatten(1) - self.erased_mean) @ self.erased
                keypoints = (keypoints - away.view_as(keypoints)).clamp(-1, 1)  # pictures may be unlike those it knows
            return keypoints


class Decoder(nn.Module):
    """U-Net from the masked image and the edge map to the image; section 3.3 of the paper."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.decoder_channels
        self.first = nn.Sequential(nn.Conv2d(4, widths[0], 3, padding=1), activation())
        self.down = nn.ModuleList(down_block(a, b) for a, b in pairwise(widths))
        deep = widths[1:][::-1]
        self.up = nn.ModuleList(
            up_block(c_in if n == 0 else 2 * c_in, c_out, convolutions=2)
            for n, (c_in, c_out) in enumerate(zip(deep, (*deep[1:], widths[0]), strict=True))
        )
        self.last = nn.Conv2d(2 * widths[0], 3, 3, padding=1)
        self.alpha = nn.Parameter(torch.tensor(1.0))  # how much of the masked image is used, learned
        initialise(self)

    def forward(self, masked: Tensor, edges: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] with zeros where masked, (B, 1, H, W) -> reconstruction (B, 3, H, W)."""
        levels = [self.first(torch.cat([masked * self.alpha, edges], 1))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = torch.cat([up(x), levels.pop()], 1)
        reconstruction: Tensor = self.last(x).float()
        return reconstruction


class AutoLinkOutput(NamedTuple):
    """What one pass of `AutoLink` gives."""

    reconstruction: Tensor
    """(B, 3, H, W), about [-1, 1]."""
    keypoints: Tensor
    """(B, K, 2), (x, y) in [-1, 1]."""
    edge_map: Tensor
    """(B, 1, H, W), not negative."""
    moved_keypoints: Tensor | None = None
    """(B, K, 2), of the moved images, if there were any."""


CARD = """---
library_name: autolink
pipeline_tag: keypoint-detection
license: unknown
tags: [keypoint-detection, self-supervised]
---
Keypoints and a graph learned without labels by AutoLink (He, Wandt, Rhodin, NeurIPS 2022):
`AutoLink.from_pretrained(FOLDER).detect(images)`.
"""


class AutoLink(Pretrained):
    """Self-supervised keypoints and one graph for all images (He, Wandt, Rhodin, NeurIPS 2022)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = Detector(config)
        self.decoder = Decoder(config)
        E = config.keypoints * (config.keypoints - 1) // 2
        self.edge_logits = nn.Parameter((config.edge_initial + 0.1 * torch.randn(E)) / config.edge_learning_rate_scale)
        channels_last(self)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder, ready to detect."""
        return load_folder("autolink", ModelConfig, cls, folder)

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = False) -> None:
        """Write config.json, model.safetensors and, if there is none, the card; `half` stores 16-bit weights."""
        save_folder("autolink", self, self.config, Path(folder), card, half)

    @property
    def edge_weights(self) -> Tensor:
        """The graph: (E,), above zero, one for each pair of `edge_pairs`."""
        return F.softplus(self.edge_logits * self.config.edge_learning_rate_scale)

    @torch.no_grad()
    def detect(self, images: Pictures | Tensor, *, pixels: bool = False) -> Tensor:
        """Find the keypoints of pictures.

        Args:
            images: a picture file, a PIL image or an 8-bit RGB array (H, W, 3); a list of those, which may differ in
                size; or a floating point tensor (B, 3, H, W) in [-1, 1].
            pixels: give (x, y) in pixels of each picture, (0, 0) at the centre of the first, rather than in [-1, 1].

        Returns:
            (K, 2) for a single picture, else (N, K, 2); without gradient, on the CPU unless a tensor was given.

        Raises:
            UserError: a picture cannot be read, or a tensor is not in [-1, 1]; the message says what to do.
        """
        sizes: list[tuple[int, int]]
        if isinstance(images, Tensor):
            check_range(images)
            found, sizes = self.keypoints(images), [(images.shape[3], images.shape[2])] * len(images)
        else:
            pictures = read_pictures(images)
            found, sizes = self._detect_pictures(pictures), [(p.shape[1], p.shape[0]) for p in pictures]
        if pixels:
            points = zip(found.cpu().numpy(), sizes, strict=True)
            in_pixels = [to_pixels(k, width, height, self.config.fit) for k, (width, height) in points]
            found = torch.from_numpy(np.stack(in_pixels)).to(found)
        single = isinstance(images, (str, Path, PIL.Image.Image)) or getattr(images, "ndim", 0) == 3
        return found[0] if single else found

    def _detect_pictures(self, pictures: list[Image]) -> Tensor:
        """(H, W, 3), 8-bit -> (N, K, 2) in [-1, 1] of each picture's square."""
        device, size = self.edge_logits.device, self.config.size
        training = self.training
        self.eval()
        parts = []
        for n in range(0, len(pictures), BATCH):
            small = torch.from_numpy(squares(pictures[n : n + BATCH], size, self.config.fit))
            parts.append(self.keypoints(to_network(small, device)).cpu())
        self.train(training)
        return torch.cat(parts)

    def keypoints(self, images: Tensor) -> Tensor:
        """The keypoints of images, differentiable and unchecked: (B, 3, H, W) in [-1, 1] -> (B, K, 2) in [-1, 1]."""
        keypoints: Tensor = self.detector(self._resized(images))
        return keypoints

    def edge_map(self, images: Tensor) -> Tensor:
        """Draw the graph found on images: (B, 3, H, W) in [-1, 1] -> (B, 1, size, size), not negative."""
        return self.draw(self.keypoints(images))

    def draw(self, keypoints: Tensor, size: int | None = None) -> Tensor:
        """Draw the graph at given keypoints: (B, K, 2) -> (B, 1, size, size), by default at the model's size."""
        return edge_map(keypoints, self.edge_weights, size or self.config.size, self.config.thickness)

    def reconstruct(self, images: Tensor, mask: Tensor) -> Tensor:
        """Rebuild images from their edge map and what the mask leaves of them.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            mask: (B, 1, h, w), 1 where the image stays visible and 0 where it is hidden; enlarged in blocks.

        Returns:
            (B, 3, size, size), about [-1, 1].
        """
        output: AutoLinkOutput = self(images, mask)
        return output.reconstruction

    def forward(
        self, images: Tensor, mask: Tensor, spread: float = 0.0, seen: Tensor | None = None, moved: Tensor | None = None
    ) -> AutoLinkOutput:
        """One training pass; arguments as in `reconstruct` and `Detector.forward`.

        For the detector alone, (B, 3, H, W) in [-1, 1]: `seen` are the same images in another light, `moved` turned,
        scaled and shifted.
        """
        images = self._resized(images)
        keypoints = self.detector(images if seen is None else self._resized(seen), spread)
        moved_keypoints = None if moved is None else self.detector(self._resized(moved), spread)
        edges = self.draw(keypoints)
        masked = images * F.interpolate(mask, size=images.shape[2:], mode="nearest")
        return AutoLinkOutput(self.decoder(masked, edges), keypoints, edges, moved_keypoints)

    def _resized(self, images: Tensor) -> Tensor:
        """The images' squares at the model's size, in the layout that convolutions run fastest on."""
        height, width = images.shape[2:]
        if self.config.fit == "crop" and height != width:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            images = images[:, :, top : top + side, left : left + side]
        size = (self.config.size, self.config.size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        return images.contiguous(memory_format=torch.channels_last)
