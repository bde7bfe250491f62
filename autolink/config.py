"""Options and presets of stage one's training."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import tyro

from autolink.model import ModelConfig
from autolink.run_config import DataOptions, PerceptualOptions, RunConfig

Preset = Literal[
    "figures", "faces-cpu", "cats-cpu", "paper-k4", "paper-k8", "paper-k16", "paper-k32",
    "celeba-wild-k4", "celeba-wild-k8", "celeba-wild-k16", "celeba-wild-k32", "mafl-aligned-k10",
    "cub-three-k4", "cub-all-k4", "cub-aligned-k10", "human36m-k16", "human36m-k32", "human36m-masked-k32",
    "taichi-k10", "taichi-k32", "deepfashion-k16",
    "horse-k32", "zebra-k32", "flowers-k32", "hands-k32", "afhq-cat-k32", "afhq-dog-k32", "afhq-wild-k32",
]  # fmt: skip


@dataclass(frozen=True)
class StageOneData(DataOptions):
    """Training data."""

    preset: Preset = "figures"
    """Where the defaults come from; see above."""
    data: str = "figures"
    """A folder of pictures or videos, a zip of pictures, tar shards, `figures` or `animals`, rendered, or a published
    set."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    flip: bool = True
    """Mirror half of the pictures."""
    start_from: str = ""
    """Checkpoint folder to initialise the weights from: the same widths, any size, as many keypoints or fewer."""
    nest: str = ""
    """Checkpoint of a parent: learn a child of it, from the region of --data that --region says."""
    region: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=x,y,side: a square of the parent's mean picture, centre and side in its [-1, 1] plane; repeated for others
    that look alike, with `,mirrored` for those that do so mirrored. Without --nest, a square of every picture."""


@dataclass(frozen=True)
class StageOneLoss(PerceptualOptions):
    """What is minimised: masked pictures are rebuilt."""

    masked: float = 0.9
    """Share of the blocks masked in the decoder's input; with fewer, it learns to ignore the edge map."""
    mask_blocks: int = 16
    """Blocks along a side of the mask."""
    spread: float = 20.0
    """Initial weight of the log-prior that spreads the keypoints over the picture."""
    spread_steps: int = 600
    """Steps over which that weight falls to zero."""
    relight: float = 0.0
    """Strength, 0 to 1, of random changes of light and colour in what the detector sees, but not in what is rebuilt:
    keypoints then cannot tell the colour of fur or clothes."""
    equivariance: float = 0.0
    """Weight of how far keypoints do not turn, scale and move with the picture: with it they mark places, and are less
    of a code of what is seen."""
    vignette: float = 0.0
    """Beyond this distance from the centre, 1 being half the side, nothing need be rebuilt: keeps keypoints off the
    background of pictures whose subject is in the centre; 0 rebuilds all."""

    def check(self) -> None:
        """Shares and strengths."""
        self.share(["relight"])
        self.at_least(0, ["equivariance", "vignette"])
        if not 0 <= self.masked < 1:
            raise ValueError(f"--masked must be in [0, 1), got {self.masked}")
        self.at_least(0, ["spread", "spread_steps"])


@dataclass(frozen=True)
class TrainConfig(StageOneData, StageOneLoss, RunConfig):
    """Train AutoLink: keypoints and a graph from pictures of one kind, without labels."""

    model: ModelConfig = field(default_factory=ModelConfig)
    known_keypoints: int = 0
    """No option: how many keypoints --start-from has; they are trained already and get no log-prior."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "region", tuple(self.region))  # JSON gives lists
        if self.root:  # so that --resume works from anywhere
            object.__setattr__(self, "root", self.root.absolute())
        if self.mask_blocks < 1 or self.model.size % self.mask_blocks:
            raise ValueError(f"--mask-blocks must divide --size {self.model.size}, got {self.mask_blocks}")
        if self.nest and not self.region:
            raise ValueError("--nest PARENT needs --region NAME=x,y,side")


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

PRESET_NOTES = {
    "figures": "rendered people, no data needed: 24 keypoints at 64 px, half an hour on two cores",
    "faces-cpu": "your faces, or pictures of another kind that vary as much: 16 keypoints, two hours on two cores",
    "cats-cpu": "the same for fewer pictures or simpler shapes: 12 keypoints, half an hour",
    "paper-kN": "section 4 of the paper with N = 4, 8, 16, 32 keypoints: 128 px, VGG16, for a GPU",
    "SET-kN": "the paper's experiment on that published set, which --root names; see docs/data-sets.md",
}
