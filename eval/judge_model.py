"""A judge of joint positions: the network alone; `eval/judge.py` trains it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from autolink.checkpoints import Pretrained
from autolink.data.figures import JOINTS
from autolink.data.picture import Fit
from autolink.device import to_network
from autolink.layers import channels_last
from autolink.model import Detector, ModelConfig
from autolink.pretrained import load_folder, save_folder

NEAR = 0.15
"""A joint's confidence is the share of its heatmap nearer than this to the joint, in units of the [-1, 1] plane."""


@dataclass(frozen=True)
class JudgeConfig:
    """What fixes a judge's network, and what is known of it once trained."""

    joints: int = len(JOINTS)
    """How many joints it finds (J)."""
    size: int = 64
    """Side of the square images that the network sees, in pixels."""
    fit: Fit = "stretch"
    """How a picture of another aspect ratio becomes square."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Width of each level of the detector."""
    missing_below: float = 0.0
    """A joint of less confidence than this counts as missing."""
    own_error: float = 0.0
    """Mean distance to the true joints on held-out people, in per cent of `own_error_unit`; 0 until measured."""
    own_error_unit: str = ""
    """What the own error is divided by."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives lists
        self.detector  # noqa: B018  refuses shapes that cannot be

    @property
    def detector(self) -> ModelConfig:
        """The configuration of the detector alone."""
        return ModelConfig(keypoints=self.joints, size=self.size, fit=self.fit, detector_channels=self.channels)


class Found(NamedTuple):
    """Joints that a judge sees."""

    joints: Tensor
    """(B, J, 2), (x, y) in [-1, 1]."""
    confidence: Tensor
    """(B, J) in [0, 1], the share of the heatmap near the joint."""


CARD = """---
library_name: autolink
pipeline_tag: keypoint-detection
license: unknown
---
A judge of joint positions, trained on annotated joints, for measuring generated pictures:
`autolink eval transfer --judge FOLDER`.
"""


class Judge(Pretrained):
    """A supervised joint detector: stage one's architecture, but true joints and weights of its own."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = Detector(config.detector)
        channels_last(self)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder, ready to judge."""
        return load_folder("judge", JudgeConfig, cls, folder)

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = True) -> None:
        """Write config.json, model.safetensors and, if there is none, the card; `half` stores 16-bit weights."""
        save_folder("judge", self, self.config, Path(folder), card, half)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithm of the heatmaps: (B, 3, H, W) in [-1, 1] -> (B, J, h * w), rows first, each summing to one."""
        size = (self.config.size, self.config.size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        logits: Tensor = self.detector.network(images.contiguous(memory_format=torch.channels_last))
        return (logits.flatten(2).float() * self.detector.sharpness).log_softmax(2)

    @torch.no_grad()
    def find(self, images: Tensor) -> Found:
        """Joints and how sure the judge is of each; images of any size, (B, 3, H, W) in [-1, 1]."""
        heatmaps = self(images).exp()
        joints = heatmaps @ self.detector.grid
        near = torch.cdist(joints, self.detector.grid.expand(len(joints), -1, -1)) < NEAR
        return Found(joints, (heatmaps * near).sum(2))

    def joints(self, images: Tensor) -> Tensor:
        """The joints alone: (B, 3, H, W) in [-1, 1] -> (B, J, 2), (x, y) in [-1, 1]."""
        return self.find(images).joints

    def missing(self, confidence: Tensor) -> Tensor:
        """Which joints count as missing: (B, J) as in `Found` -> (B, J), true or false."""
        return confidence < self.config.missing_below

    def find_all(self, images: NDArray[np.uint8], batch: int = 64) -> Found:
        """`find` for many pictures, (N, H, W, 3) 8-bit; the result is on the CPU."""
        device = self.detector.grid.device
        parts = (torch.from_numpy(np.ascontiguousarray(images[n : n + batch])) for n in range(0, len(images), batch))
        found = [self.find(to_network(part, device)) for part in parts]
        joints, confidence = (torch.cat([f[n] for f in found]).cpu() for n in (0, 1))
        return Found(joints, confidence)
