"""Stage one's training: from pictures without labels to keypoints and a graph."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from autolink import draw
from autolink.config import PRESET_NOTES, PRESETS, TrainConfig
from autolink.data import check_data, load_data
from autolink.data.images import ImageSet, Pictures
from autolink.data.regions import Region, same_region
from autolink.data.shard_pictures import expect
from autolink.device import to_network
from autolink.edge_map import edge_pairs
from autolink.errors import UserError, command
from autolink.inference import detect_all
from autolink.loop import start
from autolink.losses import draw_moves, equivariance_loss, moved, reconstruction_loss
from autolink.model import AutoLink
from autolink.nest import Nest
from autolink.options import help_text, read_options
from autolink.perceptual import PerceptualLoss
from autolink.pretrained import check_same_shape
from autolink.regression import default_lengths, regression_error
from autolink.relight import draw_lights, relit
from autolink.trainer import BaseTrainer

MEASURED_TRAIN, MEASURED_TEST = 2000, 800
"""Annotated pictures used at most for the regression error while training."""

SAMPLES = 8

CHANGED = 1
"""Sets the random numbers of lights and moves apart from those of pictures and masks."""

OTHER_SIGHT = (
    "note: --start-from {} was trained {} --local-contrast, unlike this one; its detector learns anew what it sees"
)

EXAMPLES = (
    "accelerate launch train_autolink.py",
    "accelerate launch train_autolink.py --preset faces-cpu --data my_faces --out runs/faces",
)


def draw_rows(
    chosen_from: NDArray[np.int64], config: TrainConfig, step: int, shard: int
) -> tuple[np.random.Generator, NDArray[np.int64]]:
    """What a batch is drawn with, and the numbers of its pictures, (B,)."""
    rng = np.random.default_rng((config.seed, step, shard))
    return rng, rng.choice(chosen_from, config.batch)


def draw_batch(
    images: Pictures, chosen_from: NDArray[np.int64], config: TrainConfig, step: int, shard: int
) -> tuple[Tensor, Tensor]:
    """The pictures and masks of a step: (B, size, size, 3) 8-bit, (B, 1, blocks, blocks) with 1 where visible.

    Everything random follows from seed, step and shard, so a resumed run has no data position to restore.
    """
    rng, rows = draw_rows(chosen_from, config, step, shard)
    batch = images[rows]
    if config.flip:
        mirrored = rng.random(config.batch) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
    visible = rng.random((config.batch, 1, config.mask_blocks, config.mask_blocks)) >= config.masked
    return torch.from_numpy(batch), torch.from_numpy(visible.astype(np.float32))


def spread(config: TrainConfig, step: int) -> float:
    """Weight of the log-prior that spreads the keypoints, linearly to zero over the first steps."""
    return config.spread * max(0.0, 1 - step / config.spread_steps) if config.spread_steps else 0.0


class Trainer(BaseTrainer[TrainConfig, AutoLink]):
    """Detector, graph and decoder, learned by rebuilding masked pictures."""

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, data: ImageSet, known: AutoLink | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        model = AutoLink(config.model)
        if known:
            take_over(model, known)
        model.detector.log_prior[: config.known_keypoints] = 0
        super().__init__(config, accelerator, model)
        self.data = data
        self.perceptual = PerceptualLoss(config.features, config.feature_size, config.feature_weights)
        self.perceptual.to(accelerator.device)
        self.other_sight = known is not None and known.config.local_contrast != config.model.local_contrast
        test = data.annotation.test if data.annotation else np.zeros(len(data), bool)
        if test.all():
            raise UserError(
                f"--data {config.data}: landmarks.csv puts every picture into the test part; none is left to train on"
            )
        self.train_rows = np.flatnonzero(~test)
        self.test_rows = np.flatnonzero(test)
        self.last: dict[str, Tensor] = {}

    def train_batch(self, shard: int) -> Tensor:
        """Rebuild a batch of masked pictures."""
        config, accelerator = self.config, self.accelerator
        batch, mask = draw_batch(self.data.images, self.train_rows, config, self.step, shard)
        expect(self.data.images, draw_rows(self.train_rows, config, *self.next_batch(shard))[1])
        images, mask = to_network(batch, accelerator.device), mask.to(accelerator.device)
        seen, elsewhere, moves = self.changed(images, shard)
        with accelerator.autocast():
            output = self.model(images, mask, spread(config, self.step), seen, elsewhere)
            loss = reconstruction_loss(output, images, self.perceptual, config.pixel_weight, config.vignette)
        if output.moved_keypoints is not None:
            away = equivariance_loss(output.keypoints, output.moved_keypoints, moves)
            self.last["equivariance"] = away.detach()
            loss = loss + config.equivariance * away
        self.update(loss)
        return loss.detach()

    def changed(self, images: Tensor, shard: int) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The images as the detector sees them, in other lights, and moved, and the moves (B, 2, 3).

        Each has a light and a move of its own, which follow from seed, step and shard; None without --relight or
        --equivariance.
        """
        config, B = self.config, len(images)
        rng = np.random.default_rng((config.seed, self.step, shard, CHANGED))
        dice = torch.Generator().manual_seed(int(rng.integers(2**62)))
        seen = relit(images, draw_lights(B, config.relight, dice)) if config.relight else None
        moves = draw_moves(B, dice)
        if not config.equivariance:
            return seen, None, moves
        return seen, moved(relit(images, draw_lights(B, config.relight, dice)), moves), moves

    def scalars(self) -> dict[str, float]:
        """How much of the masked image the decoder uses, and how far keypoints did not move along."""
        return {"alpha": self.raw.decoder.alpha.item()} | {name: value.item() for name, value in self.last.items()}

    def save_model(self, folder: Path) -> None:
        """The averaged AutoLink as a checkpoint folder."""
        self.average.save_pretrained(folder)

    def data_state(self) -> str:
        """How many pictures there are."""
        return f"{len(self.train_rows)} pictures to train on and {len(self.test_rows)} to test on"

    def describe(self) -> list[str]:
        """Pictures, sizes, device."""
        data, config = self.data, self.config
        lines = [f"skipped {name}: {reason}" for name, reason in data.skipped.items()]
        if lines:
            lines.append(f"{len(lines)} files cannot be read and were skipped")
        parameters, seen = sum(p.numel() for p in self.raw.parameters()), config.model.local_contrast
        return [
            *lines,
            f"{len(self.train_rows)} pictures to train on, {len(self.test_rows)} held out, "
            f"{config.model.size} px; {config.model.keypoints} keypoints, {parameters / 1e6:.2f} M parameters; "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}",
            *([OTHER_SIGHT.format(config.start_from, "without" if seen else "with")] if self.other_sight else []),
        ]

    def measure(self) -> dict[str, float]:
        """Regression error of the averaged model in per cent, where there are landmarks on both sides of the split."""
        annotation = self.data.annotation
        if annotation is None:
            return {}
        lengths = default_lengths(annotation)[1]
        usable = np.flatnonzero(annotation.annotated & (lengths > 0))
        test = annotation.test[usable]
        rows = np.concatenate([usable[~test][:MEASURED_TRAIN], usable[test][:MEASURED_TEST]])
        part = annotation[rows]
        if part.test.all() or not part.test.any():
            return {}
        keypoints = detect_all(self.average, self.data.images[rows], self.accelerator.device)
        try:
            error = regression_error(keypoints, part, ~part.test, lengths[rows])
        except ValueError:  # a landmark that is never annotated on one side of the split
            return {}
        return {"regression_error": error.with_bias, "mean_pose_error": error.mean_pose}

    @torch.no_grad()
    def sample_picture(self) -> NDArray[np.uint8]:
        """Input, masked input, edge map, graph and reconstruction of a few pictures, held-out ones if any."""
        rows = self.test_rows if len(self.test_rows) else self.train_rows
        rows = rows[np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int)]
        config = self.config
        sampled = replace(config, batch=len(rows), flip=False)
        _, mask = draw_batch(self.data.images, rows, sampled, 0, 0)
        pictures = self.data.images[rows]
        images = to_network(torch.from_numpy(pictures), self.accelerator.device)
        self.average.eval()
        output = self.average(images, mask.to(images.device))
        masked = images * F.interpolate(mask.to(images.device), size=images.shape[2:])
        weights = self.average.edge_weights.cpu().numpy()
        factor = max(1, 192 // config.model.size)
        side = config.model.size * factor

        def shown(values: Tensor) -> list[NDArray[np.uint8]]:
            return [draw.enlarged(draw.to_image(v), factor) for v in values.permute(0, 2, 3, 1).cpu().numpy()]

        edges = [draw.enlarged(draw.edge_map_image(e), factor) for e in output.edge_map[:, 0].cpu().numpy()]
        points = (output.keypoints.cpu().numpy() + 1) / 2 * (side - 1)
        graphs = [draw.draw_graph(p, k, weights) for p, k in zip(shown(images), points, strict=True)]
        return draw.grid([shown(images), shown(masked), edges, graphs, shown(output.reconstruction)])


def parse_config(arguments: list[str]) -> TrainConfig:
    """Read the command line: defaults from --preset or, on --resume, from the run itself.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    needed = {"data": "your pictures"}
    return read_options(PRESETS, help_text(TrainConfig, EXAMPLES, PRESET_NOTES), arguments, needed)


def known_model(config: TrainConfig) -> AutoLink | None:
    """The model of --start-from, if that is given and the run is not a resumed one.

    Raises:
        UserError: it is no checkpoint of a stage one, has other widths or more keypoints.
    """
    if not config.start_from or config.resume:
        return None
    known = AutoLink.from_pretrained(config.start_from)
    check_same_shape(
        config.start_from, known.config, config.model, ("detector_channels", "decoder_channels", "sharpness")
    )
    if known.config.keypoints > config.model.keypoints:
        raise UserError(
            f"--start-from {config.start_from} has --keypoints {known.config.keypoints}, more than the "
            f"{config.model.keypoints} here"
        )
    return known


@torch.no_grad()
def take_over(model: AutoLink, known: AutoLink) -> None:
    """Give a model the weights of another; further keypoints and their edges stay as initialised."""
    weights = known.state_dict()
    scale = known.config.edge_learning_rate_scale / model.config.edge_learning_rate_scale
    between_known = (edge_pairs(model.config.keypoints) < known.config.keypoints).all(0)
    model.edge_logits[between_known] = weights.pop("edge_logits") * scale
    own = model.state_dict()
    for name in weights.keys() & own.keys():  # another's erasure of colour does not fit what is learned from here
        value = weights[name]
        part = own[name][: len(value)] if value.ndim else own[name]  # the detector's last layer grows with keypoints
        part.copy_(value)


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    known = known_model(config)
    if known:
        config = replace(config, known_keypoints=known.config.keypoints)
    region = Region.parse(config.region) if config.region and not config.nest else None
    if region:
        region.check_within()
    check_data(config.data, config.root, videos=True)
    nest = Nest(config) if config.nest else None

    def build(accelerator: Accelerator, cache: Path | None) -> Trainer:
        with accelerator.main_process_first():
            data = nest.images() if nest else load_with_progress(config, cache, accelerator.is_main_process, region)
        return Trainer(config, accelerator, data, known)

    start(config, "accelerate launch train_autolink.py", build)
    if nest:
        nest.save_child()


def load_with_progress(
    config: TrainConfig, cache: Path | None, visible: bool, region: Region | None = None
) -> ImageSet:
    """The data set, or a region of its pictures, with a bar while they are decoded."""
    bar: tqdm[Any] | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, unit="picture", desc="reading", disable=not visible, dynamic_ncols=True)
        bar.update(done - bar.n)

    def load(size: int) -> ImageSet:
        return load_data(config.data, size, config.model.fit, cache, progress, config.root, videos=True)

    try:
        return same_region(region, config.model.size, load) if region else load(config.model.size)
    finally:
        if bar is not None:
            bar.close()


def main() -> None:
    """Entry point of `accelerate launch train_autolink.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
