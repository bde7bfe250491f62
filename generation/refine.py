"""Train a GAN's stage one on what the GAN draws: python generation/refine.py --gan DIR --data FOLDER --out DIR.

Where stage one takes an ear for a nose, the GAN learned to draw a nose there. Of what is generated it is known which
structure was asked for, so that a detector can learn what to ask for where a picture is given.
"""

import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data import check_data, load_data
from autolink.data.images import ImageSet
from autolink.device import to_network
from autolink.errors import UsageError, UserError, command
from autolink.generation.classes import data_classes
from autolink.generation.gan import Gan
from autolink.generation.gan_data import GanData
from autolink.generation.gan_progress import sampled_rows
from autolink.generation.structures import PLAUSIBLE, plausible
from autolink.loop import start
from autolink.losses import draw_moves, equivariance_loss, moved
from autolink.model import AutoLink, Detector
from autolink.options import help_text, read_options
from autolink.relight import draw_lights, relit
from autolink.run_config import DataOptions, Options, RunConfig
from autolink.trainer import BaseTrainer

EXAMPLES = (
    "python generation/refine.py --gan runs/mine-gan/model --data my_animals --out runs/mine-refined",
    "python generation/refine.py --resume --out runs/mine-refined",
)

PRESET_NOTES = {"refine": "half an hour of a CPU core for a GAN of 128 px"}

MOVED = 0.5
"""Strength of the moves of the pictures that are learned from."""

MEASURED = 200
"""Pictures generated for the figures while training."""


@dataclass(frozen=True)
class RefineData(DataOptions):
    """What is learned from."""

    preset: Literal["refine"] = "refine"
    """Where the defaults come from; there is one."""
    data: str = ""
    """The pictures that the GAN was trained on: what is drawn has their structures."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    flip: bool = True
    """Also the structures of their mirrors."""
    gan: str = ""
    """Checkpoint folder of a GAN, whose stage one is trained."""
    directions: int = PLAUSIBLE
    """Principal directions along which structures are asked for, as of `autolink sample`; 0 takes them as found."""


@dataclass(frozen=True)
class RefineLoss(Options):
    """What is minimised: how far keypoints are from those asked for."""

    title = "loss"

    faithful: float = 0.6
    """Share of the pictures of a batch that are learned from: those drawn best, in the eyes of stage one."""
    relight: float = 0.3
    """Strength, 0 to 1, of the random lights in which they are seen."""

    def check(self) -> None:
        """Shares."""
        self.above_zero(["faithful"])
        self.share(["faithful", "relight"])


@dataclass(frozen=True)
class RefineConfig(RefineData, RefineLoss, RunConfig):
    """Train the detector of a GAN's stage one on what the GAN draws; the graph stays."""

    steps: int = 1200
    batch: int = 48
    learning_rate: float = 4e-4
    decay_share: float = 1.0
    weight_decay: float = 0.01
    ema: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(0, ["directions"])
        if self.root:  # so that --resume works from anywhere
            object.__setattr__(self, "root", self.root.absolute())

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / "refined"


class RefineTrainer(BaseTrainer[RefineConfig, Detector]):
    """A detector that learns from a frozen GAN's pictures what their structures are."""

    def __init__(self, config: RefineConfig, accelerator: Accelerator, gan: Gan, pictures: ImageSet) -> None:
        torch.manual_seed(config.seed)
        self.gan = gan
        gan.to(accelerator.device).requires_grad_(False).eval()
        accelerator.print(f"finding the keypoints of {len(pictures)} pictures")
        self.data = GanData.find(pictures, gan.config.classes, gan.stage_one, config.flip, accelerator.device)
        if not len(self.data.train_rows):
            raise UserError(f"--data {config.data}: every picture is held out; none is left to train on")
        views = [plausible(gan, view.numpy(), config.directions) for view in self.data.keypoints]
        self.asked = torch.from_numpy(np.stack(views))
        self.skipped = pictures.skipped
        super().__init__(config, accelerator, deepcopy(gan.stage_one.detector).requires_grad_())

    @torch.no_grad()
    def draw(self, asked: Tensor, rows: NDArray[np.int64], dice: torch.Generator) -> Tensor:
        """Pictures (n, 3, size, size) of structures (n, K, 2), in random appearances of the classes of some rows."""
        gan = self.gan
        noise = torch.randn(len(rows), gan.config.latent, generator=dice).to(gan.device)
        styles = gan.styles(noise, torch.from_numpy(self.data.classes[rows]).to(gan.device))
        images: Tensor = gan.generate(asked, styles)
        return images

    def train_batch(self, shard: int) -> Tensor:
        """Generate, leave out what is drawn worst, and find the structures of the rest, moved and in other lights."""
        config, gan = self.config, self.gan
        rng = np.random.default_rng((config.seed, self.step, shard))
        dice = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows = self.data.rows(config.batch, rng)
        asked = self.asked[rng.integers(len(self.asked), size=len(rows)), rows].to(gan.device)
        with self.accelerator.autocast():
            images = self.draw(asked, rows, dice)
            away = (gan.stage_one.keypoints(images) - asked).norm(dim=2).mean(1)
            best = away.argsort()[: max(1, round(config.faithful * len(rows)))]
            moves = draw_moves(len(best), dice, MOVED)
            seen = moved(relit(images[best], draw_lights(len(best), config.relight, dice)), moves)
            found = self.model(gan.stage_one.resized(seen))
            loss = equivariance_loss(asked[best], found, moves)
        self.update(loss)
        return loss.detach()

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Distance of keypoints found from those asked for in per cent of the side, and as it was before."""
        rows = np.resize(self.data.shown_rows, MEASURED)
        asked = self.asked[0, rows].to(self.gan.device)
        images = self.draw(asked, rows, torch.Generator().manual_seed(0))
        found = {"error": self.refined().keypoints(images), "error_before": self.gan.stage_one.keypoints(images)}
        return {name: (keypoints - asked).norm(dim=2).mean().item() * 50 for name, keypoints in found.items()}

    @torch.no_grad()
    def sample_picture(self) -> NDArray[np.uint8]:
        """Real pictures, a row each, with the edge maps of the stage one as it was and as it is."""
        rows = sampled_rows(self.data)
        images = to_network(torch.from_numpy(self.data.images[rows]), self.gan.device)
        stages = (self.gan.stage_one, self.refined())
        maps = [self.gan.draw(stage_one.keypoints(images))[:, 0].cpu().numpy() for stage_one in stages]
        side = images.shape[-1]
        return draw.grid(
            [
                [self.data.images[row], *(draw.enlarged(draw.edge_map_image(m[n]), side // m.shape[-1]) for m in maps)]
                for n, row in enumerate(rows)
            ]
        )

    def refined(self) -> AutoLink:
        """The stage one with the averaged detector."""
        stage_one: AutoLink = deepcopy(self.gan.stage_one).eval()
        stage_one.detector.load_state_dict(self.average.state_dict())
        return stage_one

    def save_model(self, folder: Path) -> None:
        """The stage one with the averaged detector as a checkpoint folder."""
        self.refined().save_pretrained(folder)

    def data_state(self) -> str:
        """How many pictures there are, of which classes."""
        return f"{len(self.data.images)} pictures of {', '.join(self.gan.config.classes)}"

    def describe(self) -> list[str]:
        """Pictures, sizes, device."""
        parameters = sum(p.numel() for p in self.raw.parameters()) / 1e6
        return [
            *(f"skipped {name}: {reason}" for name, reason in self.skipped.items()),
            f"structures of {len(self.data.images)} pictures, {len(self.data.test_rows)} held out, drawn at "
            f"{self.gan.config.size} px; {self.gan.config.keypoints} keypoints, detector of {parameters:.2f} M "
            f"parameters; {self.accelerator.device}, precision {self.accelerator.mixed_precision}",
        ]


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    text = help_text(RefineConfig, EXAMPLES, PRESET_NOTES)
    config = read_options({"refine": RefineConfig()}, text, arguments, {})
    for name, what in (("gan", "a checkpoint of a GAN"), ("data", "the pictures that it was trained on")):
        if not getattr(config, name):
            raise UsageError(f"--{name} is needed: {what}")
    gan = Gan.from_pretrained(config.gan)
    check_data(config.data, config.root)
    classes = data_classes(config.data, config.root)
    if classes != gan.config.classes:
        raise UserError(
            f"--data {config.data} has the classes {', '.join(classes)}, --gan {config.gan} "
            f"{', '.join(gan.config.classes)}; give the pictures that it was trained on"
        )

    def build(accelerator: Accelerator, cache: Path | None) -> RefineTrainer:
        with accelerator.main_process_first():
            pictures = load_data(config.data, gan.config.size, gan.stage_one.config.fit, cache, root=config.root)
        return RefineTrainer(config, accelerator, gan, pictures)

    start(config, "python generation/refine.py", build)


def main() -> None:
    """Entry point of `autolink refine` and `python generation/refine.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
