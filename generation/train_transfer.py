"""Train pose transfer: accelerate launch generation/train_transfer.py [--stage-one DIR --data CLIPS --out DIR]."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.errors import UsageError, UserError, command
from autolink.generation.adversarial import AdversarialTrainer
from autolink.generation.discriminator import PatchDiscriminator
from autolink.generation.losses import cross_entropy_loss, gradient_penalty, non_saturating_loss, translation_loss
from autolink.generation.moving import moving_error
from autolink.generation.nested import LocalTransfer
from autolink.generation.pairs import Pairs, Views, check_views, draw_pairs, load_views, shown_pairs, to_views
from autolink.generation.transfer_training_options import PRESETS, TransferTrainConfig, parse_config
from autolink.generation.translator import PoseTransfer, Translation, Translator, translate
from autolink.inference import detect_all
from autolink.loop import start
from autolink.model import AutoLink
from autolink.nested import fingerprint
from autolink.perceptual import PerceptualLoss
from autolink.pretrained import check_same_shape
from autolink.video.layout import Layout

__all__ = ["PRESETS", "TransferTrainConfig", "TransferTrainer", "main", "parse_config", "run"]

MEASURED = 200
"""Held-out pairs that are measured while training."""

LAYOUT_PICTURES = 500
"""Pictures from which the framing of subjects is estimated."""

SHAPE = ("keypoints", "bones", "channels", "motion_size", "motion_channels")
"""What a translator that is trained on must share; its pictures may be larger."""

SAMPLES = 8

PENALTY_EVERY = 8
"""Steps between two gradient penalties, whose weight is multiplied by it (lazy regularisation, Karras et al., 2020)."""


class TransferTrainer(AdversarialTrainer[TransferTrainConfig, Translator, PatchDiscriminator]):
    """Translator and discriminator against pairs of views; the frozen stage one says where the keypoints are."""

    def __init__(
        self,
        config: TransferTrainConfig,
        accelerator: Accelerator,
        stage_one: AutoLink,
        views: Views,
        begun: Translator | None = None,
        local: LocalTransfer | None = None,
    ) -> None:
        """Where a translator is given, it is trained on, with its bones and framing; children are kept beside it."""
        torch.manual_seed(config.seed)
        translator = Translator(config.model)
        weights = stage_one.edge_weights.detach()
        translator.choose_bones(weights)
        known = detect_all(
            stage_one, views.images[:: max(1, len(views.images) // LAYOUT_PICTURES)], torch.device("cpu")
        )
        translator.remember_layout(Layout.measure(known, weights.numpy()))
        self.local = local
        if begun:
            translator.load_state_dict(begun.state_dict())
        super().__init__(config, accelerator, self.learning(translator), PatchDiscriminator())
        self.stage_one = stage_one.to(accelerator.device).requires_grad_(False).eval()
        self.views = views
        self.groups = np.flatnonzero(~views.test)
        if not len(self.groups):
            raise UserError(f"--data {config.data}: everything in it is held out; none is left to train on")
        self.perceptual = PerceptualLoss(config.features, config.feature_size, config.feature_weights)
        self.perceptual.to(accelerator.device)

    def train_batch(self, shard: int) -> Tensor:
        """Redraw each source of a batch in the pose of its target."""
        config, accelerator = self.config, self.accelerator
        rng = np.random.default_rng((config.seed, self.step, shard))
        sources, targets = to_views(self.draw(rng), accelerator.device, rng)
        adversarial = config.adversarial_weight > 0 and self.step >= config.adversarial_from * config.steps
        with accelerator.autocast():
            result, edges = self.translate(self.model, sources, targets)
            loss = translation_loss(result, targets, self.perceptual, config.pixel_weight, config.moved_weight)
            loss = loss + self.further_loss(targets, rng)
            if adversarial:
                with self.fixed_discriminator() as discriminator:
                    fooled = non_saturating_loss(discriminator(result.image, edges))
                loss = loss + config.adversarial_weight * fooled
        self.update(loss)
        if adversarial:
            self.update_discriminator(self.discriminator_loss(targets, result.image.detach(), edges.detach()))
        return loss.detach()

    def phases(self) -> list[int]:
        """Without and with the discriminator."""
        config = self.config
        begins = math.ceil(config.adversarial_from * config.steps)
        return [0, begins] if config.adversarial_weight > 0 and 0 < begins < config.steps else [0]

    def learning(self, translator: Translator) -> Translator:
        """What learns."""
        return translator

    def draw(self, rng: np.random.Generator) -> Pairs:
        """The pairs of a step."""
        return draw_pairs(self.views, self.groups, self.config.batch, self.config.flip, rng)

    def further_loss(self, targets: Tensor, rng: np.random.Generator) -> Tensor:
        """What else is minimised, nothing here."""
        return targets.new_zeros(())

    def discriminator_loss(self, real: Tensor, generated: Tensor, edges: Tensor) -> Tensor:
        """Cross-entropy, and now and then the gradient penalty; pictures (B, 3, size, size) and their edge maps."""
        with self.accelerator.autocast():
            loss = cross_entropy_loss(self.discriminator(real, edges), self.discriminator(generated, edges))
        if self.step % PENALTY_EVERY == 0:  # in full precision: the penalty differentiates a gradient
            loss = loss + PENALTY_EVERY * self.config.penalty * gradient_penalty(self.raw_discriminator, real, edges)
        return loss

    def translate(self, network: Translator, sources: Tensor, targets: Tensor) -> tuple[Translation, Tensor]:
        """Sources (B, 3, size, size) in the poses of targets, and the targets' edge maps."""
        with torch.no_grad():
            keypoints, driving = self.stage_one.keypoints(torch.cat([sources, targets])).split(len(sources))
        return translate(self.stage_one, network, sources[:, None], keypoints[:, None], driving)

    def save_model(self, folder: Path) -> None:
        """Translator and stage one as a checkpoint folder."""
        PoseTransfer(self.stage_one, self.average, self.local).save_pretrained(folder)

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
            (error, moved), (copied, _) = (moving_error(x, targets, sources) for x in (image, sources))
            everywhere = (image - targets).abs().mean() / 2 * len(sources)
            values = [error.sum(), copied.sum(), moved.sum(), everywhere]
            sums += torch.stack(values).double().cpu()
        if not sums[2]:
            return {}
        mean_error, copied_error = (sums[:2] / sums[2]).tolist()
        return {"moving_error": mean_error, "copy_moving_error": copied_error, "error": float(sums[3]) / count}

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
            f"{moving} clips or scenes and {len(views) - moving} single pictures, {int(views.test.sum())} of them held "
            f"out, {len(views.images)} pictures of {config.model.size} px; {config.model.keypoints} keypoints, "
            f"{config.model.bones} bones, {parameters / 1e6:.2f} M parameters; "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}",
        ]


def known_transfer(config: TransferTrainConfig, stage_one: AutoLink) -> PoseTransfer | None:
    """What --start-from names, None without it.

    Raises:
        UserError: its networks have another shape, or learned from another stage one.
    """
    if not config.start_from:
        return None
    known = PoseTransfer.from_pretrained(config.start_from)
    if fingerprint(known.stage_one) != fingerprint(stage_one):
        raise UserError(
            f"--start-from {config.start_from} learned from another stage one; give its own, --stage-one "
            f"{config.start_from}/stage_one"
        )
    check_same_shape(config.start_from, known.translator.config, config.model, SHAPE)
    return known


def with_keypoints(config: TransferTrainConfig, keypoints: int) -> TransferTrainConfig:
    """The configuration for the number of keypoints of stage one.

    Raises:
        UsageError: the translator would have more bones than edges.
    """
    try:
        return replace(config, model=replace(config.model, keypoints=keypoints))
    except ValueError as error:
        raise UsageError(str(error)) from None


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    stage_one = AutoLink.from_pretrained(config.stage_one)
    config = with_keypoints(config, stage_one.config.keypoints)
    known = known_transfer(config, stage_one)
    check_views(config.data)

    def build(accelerator: Accelerator, cache: Path | None) -> TransferTrainer:
        views = load_views(config.data, config.model.size)
        start_from = (known.translator, known.local) if known else ()
        return TransferTrainer(config, accelerator, stage_one, views, *start_from)

    start(config, "accelerate launch generation/train_transfer.py", build)


def main() -> None:
    """Entry point of `accelerate launch generation/train_transfer.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
