"""An independent judge of joint positions, supervised: accelerate launch eval/judge.py [--data FOLDER --out DIR]."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data.source import Source
from autolink.device import to_network
from autolink.errors import command
from autolink.eval.augment import augment
from autolink.eval.judge_data import JudgeData, figure_data, folder_data, measured
from autolink.eval.judge_loss import joint_loss
from autolink.eval.judge_model import Judge
from autolink.eval.judge_options import JudgeTrainConfig, parse_config
from autolink.files import write_text
from autolink.loop import start
from autolink.trainer import BaseTrainer

TRAIN_SEED = 7_000_000
"""Apart from the seeds of all that is rendered elsewhere."""

SAMPLES = 8


class JudgeTrainer(BaseTrainer[JudgeTrainConfig, Judge]):
    """A judge against true joints of augmented pictures."""

    def __init__(self, config: JudgeTrainConfig, accelerator: Accelerator, data: JudgeData) -> None:
        torch.manual_seed(config.seed)
        super().__init__(config, accelerator, Judge(config.shape(data.truth.landmarks.shape[1])))
        self.data = data

    def train_batch(self, shard: int) -> Tensor:
        """Find the joints of a batch of augmented pictures."""
        config, device = self.config, self.accelerator.device
        rng = np.random.default_rng((TRAIN_SEED, config.seed, self.step, shard))
        images, joints = self.data.draw(rng, config.batch)
        pictures, truth = augment(
            to_network(torch.from_numpy(images), device),
            torch.from_numpy(joints).float().to(device),
            self.data.augmentation,
            torch.Generator().manual_seed(int(rng.integers(2**62))),
        )
        with self.accelerator.autocast():
            heatmaps = self.model(pictures)
        loss = joint_loss(heatmaps, truth, self.raw.detector.grid)
        self.update(loss)
        return loss.detach()

    def measure(self) -> dict[str, float]:
        """The own error on held-out people, in per cent of the normalising length."""
        config, _ = measured(self.average.eval(), self.data)
        return {"own_error": config.own_error, "missing_below": config.missing_below}

    def sample_picture(self) -> NDArray[np.uint8]:
        """Held-out pictures with their true joints, and with those found."""
        rows = np.linspace(0, len(self.data.images) - 1, min(SAMPLES, len(self.data.images))).astype(int)
        images, factor = self.data.images[rows], max(1, 192 // self.config.size)
        found = self.average.eval().find_all(images).joints.numpy()
        return draw.grid([
            [draw_joints(draw.enlarged(image, factor), joints) for image, joints in zip(images, points, strict=True)]
            for points in (self.data.truth.landmarks[rows], found)
        ])  # fmt: skip

    def save_model(self, folder: Path) -> None:
        """The judge as a checkpoint folder, with what it was measured at."""
        judge = self.average.eval()
        judge.config, distances = measured(judge, self.data)
        card = model_card(judge, self.data, distances, self.config)
        judge.save_pretrained(folder, card)
        write_text(folder / "README.md", card)

    def data_state(self) -> str:
        """What there is to learn from and to measure on."""
        return self.data.facts

    def describe(self) -> list[str]:
        """Data, size, device."""
        parameters = sum(p.numel() for p in self.raw.parameters())
        return [
            f"{self.data.facts}; {self.raw.config.joints} joints at {self.config.size} px, {parameters / 1e6:.2f} M "
            f"parameters; {self.accelerator.device}, precision {self.accelerator.mixed_precision}"
        ]


def draw_joints(image: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with joints (J, 2) in [-1, 1] on it."""
    pixels = (joints + 1) / 2 * (len(image) - 1)
    return draw.draw_graph(image, pixels, np.zeros(len(joints) * (len(joints) - 1) // 2))


CARD = """---
license: unknown
library_name: autolink
tags: [keypoint-detection]
---
# A judge of joint positions

Finds {joints} joints at {size} px; {parameters:.2f} M parameters, stored in half precision. It measures generated
pictures (`eval/transfer.py`), is supervised by true joints and shares no weights with the stage one that drives them.

- **Intended use**: measuring pose transfers of such subjects, by `autolink eval transfer --judge FOLDER`.
- **Data**: {origin}{facts}. Turned, scaled, shifted, recoloured, blurred and partly covered while training.
- **Command**: `{command}`, seed {seed}.
- **Figures**: own error on held-out people {error:.2f} % of the {unit} (median {median:.2f} %, 95th percentile
  {high:.2f} %). A joint counts as missing below a confidence of {threshold:.3f}, as one in a hundred of those in real
  test pictures does.
- **Limits**: {limits}
- **Licence**: say here what the data allow.
"""

LIMITS = {
    "figures": "knows only the rendered people that come with AutoLink, one in a picture, upright, from the front. "
    "Distances below its own error say nothing.",
    "folder": "knows pictures like those it was trained on, framed alike; errors of their annotation are learned "
    "too. Distances below its own error say nothing.",
}


def model_card(judge: Judge, data: JudgeData, distances: NDArray[np.float64], config: JudgeTrainConfig) -> str:
    """The model card with what was measured; distances (N, J) in per cent."""
    figures = config.data == "figures"
    median, high = np.nanpercentile(distances, [50, 95])
    options = f"--size {config.size} --channels {' '.join(map(str, config.channels))} --steps {config.steps}"
    return CARD.format(
        joints=judge.config.joints, size=config.size, parameters=sum(p.numel() for p in judge.parameters()) / 1e6,
        origin=f"{config.origin}: " if config.origin else "", facts=data.facts,
        command=f"python eval/judge.py --data {'figures' if figures else 'FOLDER'} --out DIR {options}",
        seed=config.seed, error=judge.config.own_error, unit=judge.config.own_error_unit,
        median=median, high=high, threshold=judge.config.missing_below,
        limits=LIMITS["figures" if figures else "folder"],
    )  # fmt: skip


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    if config.data != "figures":
        Source.find(Path(config.data))

    def build(accelerator: Accelerator, cache: Path | None) -> JudgeTrainer:
        with accelerator.main_process_first():
            data = (
                figure_data(config.size)
                if config.data == "figures"
                else folder_data(Path(config.data), config.size, config.fit, cache)
            )
        return JudgeTrainer(config, accelerator, data)

    start(config, "accelerate launch eval/judge.py", build)


def main() -> None:
    """Entry point of `python eval/judge.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
