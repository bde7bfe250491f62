"""Train pose transfer: accelerate launch generation/train_transfer.py [--stage-one DIR --data CLIPS --out DIR]."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from autolink.generation.adversarial import AdversarialTrainer
from autolink.generation.discriminator import PatchDiscriminator, discriminator_loss, generator_loss, gradient_penalty
from autolink.generation.pairs import Views, check_views, draw_pairs, load_views, shown_pairs, to_views
from autolink.generation.translator import PoseTransfer, Translation, Translator, translate
from autolink.generation.translator_config import TranslatorConfig
from autolink.video.layout import Layout
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.config import RunConfig
from autolink.errors import UsageError, UserError, command
from autolink.loop import start
from autolink.model import AutoLink
from autolink.options import read_options
from autolink.perceptual import PerceptualLoss
from autolink.train import detect_all

STAGE_ONE = "figures"

MEASURED = 200
"""Held-out pairs that are measured while training."""

LAYOUT_PICTURES = 500
"""Pictures from which it is learned how subjects are framed."""

SAMPLES = 8

MOVING = 0.1
"""A pixel has moved where source and target differ by more than this, mean of the channels, in [-1, 1] units."""

PENALTY_EVERY = 8
"""Steps between two gradient penalties, which then count so many times more (lazy regularisation)."""

Preset = Literal["figures", "cpu", "gpu"]


@dataclass(frozen=True)
class TransferTrainConfig(RunConfig):
    """Train the translator that redraws a source in the pose of a driver; stage one is frozen."""

    preset: Preset = "figures"
    """Where the defaults come from."""
    data: str = "figures"
    """A folder of videos, of pictures, or of both; or `figures`, the rendered people that come with AutoLink."""
    stage_one: str = STAGE_ONE
    """Checkpoint folder of the stage one that finds the keypoints."""
    model: Annotated[TranslatorConfig, tyro.conf.arg(name="")] = field(default_factory=TranslatorConfig)

    steps: int = 3000
    batch: int = 16
    ema: float = 0.998
    feature_size: int = 64
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.adversarial_from <= 1:
            raise ValueError(f"--adversarial-from must be in [0, 1], got {self.adversarial_from}")
        for name in ("moved_weight", "adversarial_weight", "penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{name.replace('_', '-')} cannot be negative, got {getattr(self, name)}")

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


class TransferTrainer(AdversarialTrainer[Translator, PatchDiscriminator]):
    """Translator and discriminator against pairs of views; the frozen stage one says where the keypoints are."""

    def __init__(
        self, config: TransferTrainConfig, accelerator: Accelerator, stage_one: AutoLink, views: Views
    ) -> None:
        torch.manual_seed(config.seed)
        translator = Translator(config.model)
        weights = stage_one.edge_weights.detach()
        translator.choose_bones(weights)
        known = detect_all(
            stage_one, views.images[:: max(1, len(views.images) // LAYOUT_PICTURES)], torch.device("cpu")
        )
        translator.remember_layout(Layout.measure(known, weights.numpy()))
        super().__init__(config, accelerator, translator, PatchDiscriminator())
        self.config: TransferTrainConfig = config
        self.stage_one = stage_one.to(accelerator.device).requires_grad_(False).eval()
        self.views = views
        self.groups = np.flatnonzero(~views.test)
        if not len(self.groups):
            raise UserError(f"--data {config.data}: everything in it is kept for testing; none is left to train on")
        self.perceptual = PerceptualLoss(config.features, config.feature_size, config.feature_weights)
        self.perceptual.to(accelerator.device)

    def train_step(self) -> Tensor:
        """Redraw each source of a batch in the pose of its target."""
        config, step, accelerator = self.config, self.step, self.accelerator
        rng = np.random.default_rng((config.seed, step, accelerator.process_index))
        pairs = draw_pairs(self.views, self.groups, config.batch, config.flip, rng)
        sources, targets = to_views(pairs, accelerator.device, rng)
        adversarial = config.adversarial_weight > 0 and step >= config.adversarial_from * config.steps
        with accelerator.autocast():
            result, edges = self.translate(self.model, sources, targets)
            loss = self.perceptual(result.image, targets) + config.pixel_weight * F.l1_loss(result.image, targets)
            loss = loss + config.moved_weight * F.l1_loss(result.moved, targets)
            if adversarial:
                self.raw_discriminator.requires_grad_(False)
                loss = loss + config.adversarial_weight * generator_loss(self.raw_discriminator(result.image, edges))
                self.raw_discriminator.requires_grad_(True)
        self.update(loss)
        if adversarial:
            self.update_discriminator(targets, result.image.detach(), edges, penalised=step % PENALTY_EVERY == 0)
        return loss.detach()

    def translate(self, network: Translator, sources: Tensor, targets: Tensor) -> tuple[Translation, Tensor]:
        """Sources (B, 3, size, size) in the poses of targets, and the targets' edge maps."""
        with torch.no_grad():
            keypoints, driving = self.stage_one.keypoints(torch.cat([sources, targets])).split(len(sources))
        return translate(self.stage_one, network, sources[:, None], keypoints[:, None], driving)

    def update_discriminator(self, real: Tensor, fake: Tensor, edges: Tensor, penalised: bool) -> None:
        """One step of the discriminator."""
        with self.accelerator.autocast():
            loss = discriminator_loss(self.discriminator(real, edges), self.discriminator(fake, edges))
        if penalised:  # in full precision: the penalty differentiates a gradient
            loss = loss + PENALTY_EVERY * self.config.penalty * gradient_penalty(self.raw_discriminator, real, edges)
        self.step_discriminator(loss)

    def save_model(self, folder: Path) -> None:
        """Translator and stage one as a checkpoint folder."""
        PoseTransfer(self.stage_one, self.average).save_pretrained(folder)

    def shown(self, groups: NDArray[np.int64], count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of sources and targets, the same every time; single pictures bent as in training."""
        pairs = list(shown_pairs(self.views, groups, count))
        rng = np.random.default_rng(0)
        for n in range(0, len(pairs), self.config.batch):
            sources, targets = np.array(pairs[n : n + self.config.batch]).T
            yield to_views(self.views.pair(sources, targets), self.accelerator.device, rng)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """L1 in [0, 1] units on moving pixels, on all pixels, and what copying the source scores."""
        self.average.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        count = 0
        for sources, targets in self.shown(np.flatnonzero(self.views.test), MEASURED):
            count += len(sources)
            image = self.translate(self.average, sources, targets)[0].image.clamp(-1, 1)
            moving = (sources - targets).abs().mean(1, keepdim=True) > MOVING
            error, copied = ((x - targets).abs().mean(1, keepdim=True) / 2 for x in (image, sources))
            values = [(error * moving).sum(), (copied * moving).sum(), moving.sum(), error.mean() * len(sources)]
            sums += torch.stack(values).double().cpu()
        if not sums[2]:
            return {}
        moving_error, copy_error = (sums[:2] / sums[2]).tolist()
        return {"moving_error": moving_error, "copy_moving_error": copy_error, "error": float(sums[3]) / count}

    @torch.no_grad()
    def sample_picture(self) -> NDArray[np.uint8]:
        """Source, target, its edge map, result, moved source and layers (red moved, green standing, blue painted)."""
        self.average.eval()
        rows: list[list[NDArray[np.uint8]]] = [[] for _ in range(6)]
        factor = max(1, 192 // self.config.model.size)
        held_out = np.flatnonzero(self.views.test)
        for sources, targets in self.shown(held_out if len(held_out) else self.groups, SAMPLES):
            result, edges = self.translate(self.average, sources, targets)
            shown = [sources, targets, None, result.image, result.moved, result.layers * 2 - 1]
            for row, values in zip(rows, shown, strict=True):
                if values is None:
                    row += [draw.enlarged(draw.edge_map_image(e), factor) for e in edges[:, 0].cpu().numpy()]
                else:
                    pictures = values.permute(0, 2, 3, 1).cpu().numpy()
                    row += [draw.enlarged(draw.to_image(p), factor) for p in pictures]
        return draw.grid([row[:SAMPLES] for row in rows])

    def data_state(self) -> str:
        """How many pictures there are, in how many groups."""
        return f"{len(self.views.images)} pictures in {len(self.views)} groups"

    def describe(self) -> list[str]:
        """Views, sizes, device."""
        views, config = self.views, self.config
        parameters = sum(p.numel() for p in self.raw.parameters())
        moving = int((views.lengths > 1).sum())
        return [
            *(f"skipped {name}: {reason}" for name, reason in views.skipped.items()),
            f"{moving} clips or scenes and {len(views) - moving} single pictures, {int(views.test.sum())} of them kept "
            f"for testing, {len(views.images)} pictures of {config.model.size} px; {config.model.keypoints} keypoints, "
            f"{config.model.bones} bones, {parameters / 1e6:.2f} M parameters; "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}",
        ]


def parse_config(arguments: list[str]) -> TransferTrainConfig:
    """Read the command line; the number of keypoints is the stage one's.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    config = read_options(TransferTrainConfig, PRESETS, arguments)
    if not config.data:
        raise UsageError(f"--preset {config.preset} needs --data FOLDER, your videos or pictures")
    return config


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    stage_one = AutoLink.from_pretrained(config.stage_one)
    if stage_one.config.keypoints != config.model.keypoints:
        try:
            model = replace(config.model, keypoints=stage_one.config.keypoints)
        except ValueError as error:
            raise UsageError(str(error)) from None
        config = replace(config, model=model)
    check_views(config.data)

    def build(accelerator: Accelerator, cache: Path | None) -> TransferTrainer:
        return TransferTrainer(config, accelerator, stage_one, load_views(config.data, config.model.size))

    start(config, "accelerate launch generation/train_transfer.py", build)


def main() -> None:
    """Entry point of `accelerate launch generation/train_transfer.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
