"""The options of a judge's training, their presets and their checks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from autolink.data.picture import Fit
from autolink.eval.judge_model import JudgeConfig
from autolink.options import help_text, read_options
from autolink.run_config import DataOptions, Options, RunConfig

Preset = Literal["figures", "faces"]

PRESET_NOTES = {
    "figures": "rendered people, newly drawn at every step, no data needed; ten minutes on a core",
    "faces": "your faces with 68 landmarks each, or other annotated pictures; ten minutes on a core",
}

EXAMPLES = (
    "python eval/judge.py --out runs/figures-judge",
    "accelerate launch eval/judge.py --preset faces --data my_faces --out runs/faces-judge",
)


@dataclass(frozen=True)
class JudgeDataOptions(DataOptions):
    """Training data."""

    preset: Preset = "figures"
    """Where the defaults come from; see above."""
    data: str = "figures"
    """`figures`, newly rendered at every step, or a folder or zip of pictures with landmarks.csv."""
    fit: Fit = "stretch"
    """How a picture of another aspect ratio becomes square."""
    origin: str = ""
    """Where the pictures come from, for the model card."""


@dataclass(frozen=True)
class JudgeShape(Options):
    """What fixes the network."""

    title = "model"

    size: int = 64
    """Side of the square images that the network sees, in pixels."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Width of each level of the detector."""


@dataclass(frozen=True)
class JudgeTrainConfig(JudgeDataOptions, JudgeShape, RunConfig):
    """Train an independent judge of joint positions, supervised by true joints."""

    steps: int = 2500
    learning_rate: float = 2e-3
    decay_share: float = 1.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives lists
        self.shape(2)  # refuses what cannot be, whatever the number of joints

    def shape(self, joints: int) -> JudgeConfig:
        """The network's configuration.

        Raises:
            ValueError: it cannot be.
        """
        try:
            return JudgeConfig(joints=joints, size=self.size, fit=self.fit, channels=self.channels)
        except ValueError as error:
            raise ValueError(str(error).replace("--detector-channels", "--channels")) from None

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / f"{self.preset}-judge"


PRESETS: dict[str, JudgeTrainConfig] = {
    "figures": JudgeTrainConfig(),
    "faces": JudgeTrainConfig(preset="faces", data="", size=96, channels=(16, 32, 64, 128), steps=3000),
}
assert set(PRESETS) == set(get_args(Preset))


def parse_config(arguments: list[str]) -> JudgeTrainConfig:
    """Read the command line.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    needed = {"data": "your annotated pictures"}
    return read_options(PRESETS, help_text(JudgeTrainConfig, EXAMPLES, PRESET_NOTES), arguments, needed)
