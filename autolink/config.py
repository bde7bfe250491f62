"""What a training run can be told, and presets that are known to work."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from autolink.model import ModelConfig
from autolink.perceptual import FeatureNetwork

Preset = Literal[
    "figures", "faces-cpu", "cats-cpu", "paper-k4", "paper-k8", "paper-k16", "paper-k32",
    "celeba-wild-k4", "celeba-wild-k8", "celeba-wild-k16", "celeba-wild-k32", "mafl-aligned-k10",
    "cub-three-k4", "cub-all-k4", "cub-aligned-k10", "human36m-k16", "human36m-k32", "human36m-masked-k32",
    "taichi-k10", "taichi-k32", "deepfashion-k16",
    "horse-k32", "zebra-k32", "flowers-k32", "hands-k32", "afhq-cat-k32", "afhq-dog-k32", "afhq-wild-k32",
]  # fmt: skip


SMALLEST_FEATURE_SIZE = 16
"""The feature networks halve the resolution four times."""


@dataclass(frozen=True)
class RunConfig:
    """What every training can be told."""

    preset: str = ""
    """Where the defaults come from."""
    data: str = ""
    """What to train on."""
    out: Path | None = None
    """Run folder; runs/PRESET if left out."""
    model: Any = None
    """The network's own configuration."""

    steps: int = 1700
    """Optimiser steps in all."""
    batch: int = 32
    """Pictures a step and process."""
    learning_rate: float = 1e-3
    """AdamW's learning rate until the decay begins."""
    decay_share: float = 0.4
    """The learning rate falls linearly to zero over this last share of the steps; 0 keeps it constant."""
    weight_decay: float = 1e-3
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient; beyond, it is scaled down."""
    ema: float = 0.995
    """Decay of the averaged weights, which are the ones saved and shown."""
    flip: bool = True
    """Mirror half of the pictures."""
    features: FeatureNetwork = "efficientnet-lite0"
    """Feature network of the perceptual loss; vgg16 is the paper's and is downloaded once."""
    feature_size: int = 128
    """Pictures are resized to this before the feature network."""
    feature_weights: Path | None = None
    """File with the weights of vgg16, to do without the download."""
    pixel_weight: float = 0.5
    """Weight of the L1 distance of pixels beside the perceptual loss."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision; auto is bf16 where the machine is fast at it."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 0
    """CPU threads of a process; 0 shares all cores among the processes."""

    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    sample_minutes: float = 2.0
    """Minutes between two sample pictures and measurements."""
    save_minutes: float = 5.0
    """Minutes between two checkpoints."""
    resume: bool = False
    """Go on with the run in --out, with its own configuration."""
    overwrite: bool = False
    """Delete the run that is in --out and begin anew."""
    dry_run: bool = False
    """Print configuration, data, size and a time estimate, and stop."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "feature_size", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "sample_minutes", "save_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be above zero and finite, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema must be in [0, 1), got {self.ema}")
        if not 0 <= self.decay_share <= 1:
            raise ValueError(f"--decay-share must be in [0, 1], got {self.decay_share}")
        for name in ("pixel_weight", "weight_decay", "seed", "threads"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(
                    f"--{name.replace('_', '-')} cannot be negative or so large, got {getattr(self, name)}"
                )
        if self.feature_size < SMALLEST_FEATURE_SIZE:
            raise ValueError(f"--feature-size must be at least {SMALLEST_FEATURE_SIZE}, got {self.feature_size}")

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / self.preset


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Train AutoLink: keypoints and a graph from pictures of one kind, without labels."""

    preset: Preset = "figures"
    """Where the defaults come from."""
    data: str = "figures"
    """A folder of pictures or videos, a zip of pictures, `figures` or `animals`, rendered, or a published set."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    model: Annotated[ModelConfig, tyro.conf.arg(name="")] = field(default_factory=ModelConfig)

    masked: float = 0.9
    """Share of the blocks hidden from the decoder; with more to see, it learns to do without the edge map."""
    mask_blocks: int = 16
    """Blocks along a side of the mask."""
    spread: float = 20.0
    """Strength at the start of the pull that gives every keypoint a place of its own."""
    spread_steps: int = 600
    """Steps after which that pull has gone."""
    start_from: str = ""
    """Checkpoint folder of a model of the same widths to begin with, of any size, with as many keypoints or fewer."""
    nest: str = ""
    """Checkpoint folder of a parent: learn a child of it, from the region of --data that --region says."""
    region: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=x,y,side: a square of the parent's mean picture, centre and side in its [-1, 1] plane; repeated for others
    that look alike, with `,mirrored` for those that do so mirrored."""
    known_keypoints: Annotated[int, tyro.conf.Suppress] = 0
    """How many keypoints that one gave: they have their places already and are not pulled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.root:  # so that --resume works from anywhere
            object.__setattr__(self, "root", self.root.absolute())
        if not 0 <= self.masked < 1:
            raise ValueError(f"--masked must be in [0, 1), got {self.masked}")
        if self.mask_blocks < 1 or self.model.size % self.mask_blocks:
            raise ValueError(f"--mask-blocks must divide --size {self.model.size}, got {self.mask_blocks}")
        if min(self.spread, self.spread_steps) < 0:
            raise ValueError("--spread and --spread-steps cannot be negative")
        if bool(self.nest) != bool(self.region):
            raise ValueError("--nest PARENT and --region NAME=x,y,side belong together")


SMALL = TrainConfig()


def _paper(preset: Preset, keypoints: int, thickness: float, data: str = "", flip: bool = True) -> TrainConfig:
    """Section 4 of the paper: 128 px, VGG16, 20,000 steps; bf16 and clipping instead of plain fp16."""
    return TrainConfig(
        preset=preset, steps=20001, batch=64, learning_rate=1e-4, decay_share=0.0, ema=0.999,
        features="vgg16", feature_size=224, pixel_weight=0.0, masked=0.8, data=data, flip=flip,
        model=ModelConfig(
            keypoints=keypoints, thickness=thickness, size=128, sharpness=1.0,
            detector_channels=(64, 128, 256, 512), decoder_channels=(64, 128, 256, 512, 512),
            edge_initial=-4.0, edge_learning_rate_scale=512.0,
        ),
    )  # fmt: skip


def _experiment(preset: Preset, data: str, thickness: float | None, flip: bool) -> TrainConfig:
    """One experiment of the paper; its name ends with the number of keypoints."""
    keypoints = int(preset.rpartition("-k")[2])
    return _paper(preset, keypoints, UNKNOWN_THICKNESS if thickness is None else thickness, data, flip)


UNKNOWN_THICKNESS = 1e-3
"""The default of the authors' training command, where neither paper nor code names the value of an experiment."""

# Data, thickness as the authors' code names it (None: nowhere), and whether the authors mirror pictures of this set.
# The number of keypoints of zebras, flowers, hands and animal faces, shown only in pictures, is not named either: that
# of the horses stands in.
EXPERIMENTS: dict[Preset, tuple[str, float | None, bool]] = {
    "celeba-wild-k4": ("celeba-wild", None, True),
    "celeba-wild-k8": ("celeba-wild", 2.5e-3, True),
    "celeba-wild-k16": ("celeba-wild", 1e-3, True),
    "celeba-wild-k32": ("celeba-wild", 7.5e-4, True),
    "mafl-aligned-k10": ("celeba-aligned", None, True),
    "cub-three-k4": ("cub-001", 5e-2, False),  # the species tested on is the evaluation's --data
    "cub-all-k4": ("cub-all", 5e-2, False),
    "cub-aligned-k10": ("cub-aligned", None, False),
    "human36m-k16": ("human36m", None, True),
    "human36m-k32": ("human36m", 7.5e-5, True),
    "human36m-masked-k32": ("human36m-masked", None, False),
    "taichi-k10": ("taichi", 5e-4, True),
    "taichi-k32": ("taichi", 5e-4, True),
    "deepfashion-k16": ("deepfashion", None, False),
    "horse-k32": ("horse", 2.5e-4, False),
    "zebra-k32": ("zebra", None, False),
    "flowers-k32": ("flowers", None, True),
    "hands-k32": ("hands", None, True),
    "afhq-cat-k32": ("afhq-cat", None, True),
    "afhq-dog-k32": ("afhq-dog", None, True),
    "afhq-wild-k32": ("afhq-wild", None, True),
}

PRESETS: dict[str, TrainConfig] = {
    "figures": replace(SMALL, model=ModelConfig(keypoints=24, thickness=2e-3)),
    "faces-cpu": replace(SMALL, preset="faces-cpu", data="", steps=6000, ema=0.998),
    "cats-cpu": replace(SMALL, preset="cats-cpu", data="", steps=1500, model=ModelConfig(keypoints=12)),
    "paper-k4": _paper("paper-k4", 4, 2.5e-3),
    "paper-k8": _paper("paper-k8", 8, 2.5e-3),
    "paper-k16": _paper("paper-k16", 16, 1e-3),
    "paper-k32": _paper("paper-k32", 32, 7.5e-4),
    **{name: _experiment(name, *values) for name, values in EXPERIMENTS.items()},
}
assert set(PRESETS) == set(get_args(Preset))
