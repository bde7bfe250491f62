"""The options of the GAN's training, their presets and their checks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from autolink.generation.generator import GanConfig
from autolink.options import help_text, read_options
from autolink.run_config import SMALLEST_FEATURE_SIZE, DataOptions, Options, RunConfig

STAGE_ONE = "animals"

Preset = Literal["animals", "pets-cpu", "pets-128", "gpu", "gpu-512"]


PRESET_NOTES = {
    "animals": "rendered cats and dogs with the bundled stage one, no data needed: 64 px, an hour on two cores",
    "pets-cpu": "your pictures at 64 px, an hour and a half on two cores",
    "pets-128": "the same at 128 px, by a larger network, four times as long: best with --start-from pets-gan",
    "gpu": "your pictures at 256 px, 100,000 steps on a GPU",
    "gpu-512": "your pictures at 512 px, 200,000 steps on a GPU",
}

EXAMPLES = (
    "accelerate launch generation/train_gan.py",
    "accelerate launch generation/train_gan.py --preset pets-cpu --stage-one runs/mine/model --data my_animals --out "
    "runs/mine-gan",
)


@dataclass(frozen=True)
class GanTrainData(DataOptions):
    """Training data."""

    preset: Preset = "animals"
    """Where the defaults come from; see above."""
    data: str = "animals"
    """A folder or zip of pictures, each subfolder a class; or `animals`, rendered ones; or a published set."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    flip: bool = True
    """Mirror half of the pictures."""
    stage_one: str = STAGE_ONE
    """Checkpoint folder of the stage one that finds the keypoints."""
    start_from: str = ""
    """Checkpoint folder of a GAN of the same stage one to initialise from, in place of random weights; or folder of a
    run, for its discriminator, too."""
    fixed_scales: int = 0
    """Coarsest scales of --start-from that stay as they are, with what gives them structure and appearance."""
    directions: int = 0
    """Principal directions, of the structures that --start-from remembers, along which structures are learned, as
    autolink sample asks for them (12); 0 takes them as found."""


@dataclass(frozen=True)
class GanLoss(Options):
    """What is minimised, generator against discriminator."""

    title = "loss"

    feature_size: int = 96
    """Pictures are resized to this before the discriminator's frozen features."""
    structure_weight: float = 0.5
    """Weight of the distance between asked-for and re-detected keypoints; much more, and the skeleton gets painted."""
    variety_weight: float = 0.5
    """Weight of the term that keeps two noises at one structure apart."""
    variety: float = 0.5
    """How different they must be, as a share of how different two real pictures are."""
    appearance_weight: float = 2.0
    """Weight of the distance between a picture and what is made of its structure and its encoded appearance; 0 leaves
    the encoder out."""
    divergence_weight: float = 0.003
    """Weight of how far encoded appearances are from random ones, in nats."""
    close_up_weight: float = 0.0
    """Weight of a second discriminator, which sees what is amid the keypoints twice as large: small eyes get right."""
    relight: float = 0.0
    """Strength, 0 to 1, of random lights in which keypoints are found beside the pictures' own; for a stage one trained
    with --relight: less of the colour of a structure's picture comes through."""
    augment: float = 1.0
    """Strength of the augmentation of what the discriminator sees, 0 to 1; less for much data."""

    def check(self) -> None:
        """Sizes, weights and shares."""
        self.at_least(SMALLEST_FEATURE_SIZE, ["feature_size"])
        self.at_least(0, ["structure_weight", "variety_weight", "variety", "appearance_weight", "divergence_weight"])
        self.at_least(0, ["close_up_weight"])
        self.share(["relight", "augment"])


@dataclass(frozen=True)
class GanTrainConfig(GanTrainData, GanLoss, RunConfig):
    """Train a GAN whose structure is the graph of a frozen stage one."""

    model: GanConfig = field(default_factory=GanConfig)

    steps: int = 5000
    batch: int = 16
    learning_rate: float = 5e-4
    decay_share: float = 0.3
    weight_decay: float = 0.0
    clip: float = 10.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(0, ["fixed_scales", "directions"])
        if self.fixed_scales >= len(self.model.channels):
            raise ValueError(f"--fixed-scales must leave one of {len(self.model.channels)} scales to learn")
        if (self.fixed_scales or self.directions) and not self.start_from:
            raise ValueError("--fixed-scales and --directions are of a GAN to begin with: add --start-from")
        if self.root:  # so that --resume works from anywhere
            object.__setattr__(self, "root", self.root.absolute())
        if self.batch < 4 or self.batch % 2:
            raise ValueError(f"--batch must be even, two noises a structure, and at least 4, got {self.batch}")

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / f"{self.preset}-gan"


PRESETS: dict[str, GanTrainConfig] = {
    "animals": GanTrainConfig(),
    "pets-cpu": GanTrainConfig(preset="pets-cpu", data="", stage_one="", steps=7000),
    "pets-128": GanTrainConfig(
        preset="pets-128", data="", stage_one="", steps=9600, feature_size=128, structure_weight=2.0, variety=0.85,
        appearance_weight=8.0, close_up_weight=1.0, augment=0.5, model=GanConfig(channels=(224, 224, 192, 128, 48, 32)),
    ),
    "gpu": GanTrainConfig(
        preset="gpu", data="", stage_one="", steps=100_000, batch=32, learning_rate=2e-4, ema=0.9995, feature_size=256,
        model=GanConfig(channels=(512, 512, 512, 256, 128, 64, 32), latent=128, edge_channels=64, edge_size=32),
    ),
    "gpu-512": GanTrainConfig(
        preset="gpu-512", data="", stage_one="", steps=200_000, batch=16, learning_rate=2e-4, ema=0.9995,
        feature_size=512,
        model=GanConfig(channels=(512, 512, 512, 256, 128, 64, 32, 16), latent=128, edge_channels=64, edge_size=32),
    ),
}  # fmt: skip
assert set(PRESETS) == set(get_args(Preset))


def parse_config(arguments: list[str]) -> GanTrainConfig:
    """Read the command line.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    needed = {"data": "your pictures", "stage_one": "trained on them"}
    return read_options(PRESETS, help_text(GanTrainConfig, EXAMPLES, PRESET_NOTES), arguments, needed)
