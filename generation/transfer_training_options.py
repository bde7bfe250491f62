"""The options of pose transfer's training, their presets and their checks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from autolink.generation.translator_config import TranslatorConfig
from autolink.options import help_text, read_options
from autolink.run_config import DataOptions, PerceptualOptions, RunConfig

STAGE_ONE = "figures"

EXAMPLES = (
    "accelerate launch generation/train_transfer.py",
    "accelerate launch generation/train_transfer.py --preset cpu --stage-one runs/mine/model --data my_clips --out "
    "runs/mine-transfer",
)

Preset = Literal["figures", "cpu", "gpu"]

PRESET_NOTES = {
    "figures": "rendered people with the bundled stage one, no data needed: 64 px, half an hour on two cores",
    "cpu": "your clips or pictures at 128 px, 40 minutes on two cores",
    "gpu": "your clips or pictures at 256 px, 50,000 steps on a GPU",
}


@dataclass(frozen=True)
class TransferData(DataOptions):
    """Training data."""

    preset: Preset = "figures"
    """Where the defaults come from; see above."""
    data: str = "figures"
    """A folder of videos, of pictures, or of both; or `figures`, the rendered people that come with AutoLink."""
    stage_one: str = STAGE_ONE
    """Checkpoint folder of the stage one that finds the keypoints."""
    start_from: str = ""
    """Checkpoint of a pose transfer that is trained on, also at another size."""
    flip: bool = True
    """Mirror half of the pairs."""


@dataclass(frozen=True)
class TransferLoss(PerceptualOptions):
    """What is minimised: a source is redrawn in the pose of its target."""

    feature_size: int = 64
    """Pictures are resized to this before the feature network."""
    pixel_weight: float = 1.0
    """Weight of the L1 distance of pixels beside the perceptual loss."""
    moved_weight: float = 0.5
    """Weight of the L1 distance of the moved source, before anything is painted."""
    adversarial_weight: float = 0.02
    """Weight of the patch discriminator; 0 leaves it out."""
    adversarial_from: float = 0.5
    """Share of the steps after which the discriminator begins."""
    penalty: float = 0.1
    """Weight of the discriminator's gradient penalty."""

    def check(self) -> None:
        """Weights and shares."""
        self.share(["adversarial_from"])
        self.at_least(0, ["moved_weight", "adversarial_weight", "penalty"])


@dataclass(frozen=True)
class TransferTrainConfig(TransferData, TransferLoss, RunConfig):
    """Train the translator that redraws a source in the pose of a driver; stage one is frozen."""

    model: TranslatorConfig = field(default_factory=TranslatorConfig)

    steps: int = 3000
    batch: int = 16
    ema: float = 0.998

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / f"{self.preset}-transfer"


PRESETS: dict[str, TransferTrainConfig] = {
    "figures": TransferTrainConfig(),
    "cpu": TransferTrainConfig(
        preset="cpu", data="", batch=8, feature_size=128,
        model=TranslatorConfig(size=128, channels=(12, 24, 48, 96, 96)),
    ),
    "gpu": TransferTrainConfig(
        preset="gpu", data="", batch=16, steps=50_000, feature_size=256, ema=0.999, learning_rate=5e-4,
        model=TranslatorConfig(
            size=256, channels=(32, 64, 128, 256, 256), motion_size=64, motion_channels=(64, 128, 256, 256)
        ),
    ),
}  # fmt: skip
assert set(PRESETS) == set(get_args(Preset))


def parse_config(arguments: list[str]) -> TransferTrainConfig:
    """Read the command line.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    needed = {"data": "your videos or pictures"}
    return read_options(PRESETS, help_text(TransferTrainConfig, EXAMPLES, PRESET_NOTES), arguments, needed)
