"""Our stage one beside the authors' published networks, both trained here on the same pictures for the same steps.

python benchmarks/authors.py --authors CHECKOUT --data my_faces, where CHECKOUT is a clone of the authors' code (MIT);
none of it is part of this project. Three trainings, each in a process of its own: the authors' networks; ours with the
same configuration; ours with the recipe of our CPU presets. The first two share the paper's configuration (learning
rate, mask, initial edge weights, edge learning rate) at a quarter of its width, on --size px. The perceptual loss of
all three is on the feature network that needs no download. The authors' detector always sees 128 px; here it follows
--size, as ours does. The data need a landmarks.csv, for the regression error.
"""

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file: import from the clone

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from autolink.config import PRESETS, TrainConfig
from autolink.data import load_data
from autolink.data.images import ImageSet
from autolink.device import keep_memory, pick_precision, to_network
from autolink.errors import UsageError, UserError, command
from autolink.inference import detect_all
from autolink.regression import default_lengths, regression_error
from autolink.train import Trainer, draw_batch

NARROWER = 4


@dataclass(frozen=True)
class Benchmark:
    """Train all three, measure all three."""

    authors: Path
    """A clone of the authors' repository, github.com/xingzhehe/AutoLink-Self-supervised-..."""
    data: str
    """Folder of pictures with landmarks.csv."""
    steps: int = 1000
    """Optimiser steps of each."""
    keypoints: int = 8
    """K."""
    size: int = 64
    """Side of the pictures in pixels."""
    batch: int = 32
    """Pictures a step."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of all three."""

    def __post_init__(self) -> None:
        published(self.authors)


def configuration(config: Benchmark) -> TrainConfig:
    """The paper's, narrower and smaller, on features that need no download."""
    paper = PRESETS[f"paper-k{config.keypoints}"]
    widths = paper.model
    model = replace(
        widths, size=config.size, detector_channels=tuple(c // NARROWER for c in widths.detector_channels),
        decoder_channels=tuple(c // NARROWER for c in widths.decoder_channels),
    )  # fmt: skip
    return replace(
        paper, data=config.data, steps=config.steps, batch=config.batch, model=model, threads=config.threads,
        features="efficientnet-lite0", feature_size=config.size, seed=config.seed, spread=0.0,
    )  # fmt: skip


def recipe(config: Benchmark) -> TrainConfig:
    """Ours for CPUs, with the same keypoints, edges and features."""
    wanted = configuration(config)
    model = replace(PRESETS["faces-cpu"].model, keypoints=config.keypoints, thickness=wanted.model.thickness)
    return replace(
        PRESETS["faces-cpu"], data=config.data, steps=config.steps, batch=config.batch, seed=config.seed,
        threads=config.threads, feature_size=config.size, model=replace(model, size=config.size),
    )  # fmt: skip


def published(checkout: Path) -> tuple[Any, Any]:
    """Their modules `encoder` and `decoder`.

    Raises:
        UsageError: the folder is no clone of their repository.
    """
    if not (checkout / "models" / "encoder.py").is_file():
        raise UsageError(f"--authors {checkout} is no clone of the authors' code: it has no models/encoder.py")
    # their files name it in annotations only
    lightning = ModuleType("pytorch_lightning")
    lightning.utilities = SimpleNamespace(parsing=SimpleNamespace(AttributeDict=dict))  # type: ignore[attr-defined]
    lightning.LightningModule = SimpleNamespace(hparams=dict)  # type: ignore[attr-defined]
    sys.modules.setdefault("pytorch_lightning", lightning)
    sys.path.insert(0, str(checkout))
    from models import decoder, encoder

    return encoder, decoder


class Authors(nn.Module):
    """The published encoder and decoder, built of their own blocks at another width and size."""

    def __init__(self, checkout: Path, config: TrainConfig) -> None:
        super().__init__()
        encoder, decoder = published(checkout)
        model = config.model
        options = {"n_parts": model.keypoints, "missing": config.masked, "block": config.mask_blocks}
        self.encoder = encoder.Encoder(SimpleNamespace(**options))
        self.decoder = decoder.Decoder(options | {"thick": model.thickness, "sklr": model.edge_learning_rate_scale})
        self.size = model.size
        a, b, c, d = model.detector_channels
        detector = self.encoder.detector
        detector.conv = nn.Sequential(
            encoder.ResBlock(3, a), encoder.ResBlock(a, b), encoder.ResBlock(b, c), encoder.ResBlock(c, d),
            encoder.TransposedBlock(d, c), encoder.TransposedBlock(c, b), nn.Conv2d(b, model.keypoints, 3, padding=1),
        )  # fmt: skip
        detector.coord.data = encoder.gen_grid2d(model.heatmap_size).reshape(1, 1, -1, 2)
        self._narrow(decoder, model.decoder_channels)
        for module in [*detector.conv.modules(), *self.decoder.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def _narrow(self, blocks: Any, widths: tuple[int, ...]) -> None:
        """Their U-Net at other widths."""
        a, b, c, d, e = widths
        net = self.decoder
        net.down0 = nn.Sequential(nn.Conv2d(4, a, 3, padding=1), nn.LeakyReLU(0.2, True))
        net.down1, net.down2, net.down3, net.down4 = (
            blocks.DownBlock(*pair) for pair in ((a, b), (b, c), (c, d), (d, e))
        )
        net.up1, net.up2 = blocks.UpBlock(e, d), blocks.UpBlock(d + d, c)
        net.up3, net.up4 = blocks.UpBlock(c + c, b), blocks.UpBlock(b + b, a)
        net.conv = nn.Conv2d(a + a, 3, 3, padding=1)
        drawn = net.rasterize
        net.rasterize = lambda keypoints: drawn(keypoints, output_size=self.size)

    def detect(self, images: Tensor) -> Tensor:
        """(B, 3, size, size) -> (B, K, 2); theirs are (row, column), which the regression does not mind."""
        detector = self.encoder.detector
        logits = detector.conv(images).flatten(2).unsqueeze(-1)
        places: Tensor = detector.coord * logits.float().softmax(2)
        return places.sum(2)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """The reconstruction of masked pictures."""
        masked = images * F.interpolate(visible, size=self.size)
        rebuilt: Tensor = self.decoder({"keypoints": self.detect(images), "damaged_img": masked})["img"]
        return rebuilt.float()


def authors_training(config: Benchmark, data: ImageSet) -> tuple[Callable[[], object], nn.Module]:
    """A step of theirs: AdamW, nothing else; and the networks."""
    run = configuration(config)
    accelerator = Accelerator(mixed_precision=pick_precision(run.precision))
    ours = Trainer(run, accelerator, data)  # for its loss and its choice of pictures
    torch.manual_seed(config.seed)
    model = Authors(config.authors, run)
    optimiser = torch.optim.AdamW(model.parameters(), lr=run.learning_rate, weight_decay=run.weight_decay)
    taken = 0

    def step() -> None:
        nonlocal taken
        batch, visible = draw_batch(data.images, ours.train_rows, run, taken, 0)
        images = to_network(batch, accelerator.device)
        with accelerator.autocast():
            loss = ours.perceptual(model(images, visible), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        taken += 1

    return step, model


def our_training(run: TrainConfig, data: ImageSet) -> tuple[Callable[[], object], nn.Module]:
    """A step of ours, and the averaged networks."""
    trainer = Trainer(run, Accelerator(mixed_precision=pick_precision(run.precision)), data)
    trainer.model.train()
    return trainer.train_step, trainer.average


TRAININGS: dict[str, Callable[[Benchmark, ImageSet], tuple[Callable[[], object], nn.Module]]] = {
    "authors": authors_training,
    "ours, the same configuration": lambda config, data: our_training(configuration(config), data),
    "ours, CPU recipe": lambda config, data: our_training(recipe(config), data),
}


def measured(name: str, config: Benchmark) -> dict[str, Any]:
    """Train one and measure it: regression error in %, processor seconds a step, peak memory in MB."""
    keep_memory()
    torch.set_num_threads(config.threads)
    data = load_data(config.data, config.size, "stretch")
    if data.annotation is None:
        raise UserError(f"--data {config.data} has no landmarks.csv, so there is no regression error")
    step, model = TRAININGS[name](config, data)
    start = time.process_time()
    for _ in tqdm(range(config.steps), desc=name, unit="step"):
        step()
    seconds = (time.process_time() - start) / config.steps
    rows = np.flatnonzero(data.annotation.annotated)
    part, lengths = data.annotation[rows], default_lengths(data.annotation)[1][rows]
    keypoints = detect_all(model, data.images[rows], torch.device("cpu"))  # type: ignore[arg-type]
    error = regression_error(keypoints, part, ~part.test, lengths)
    return {
        "model": name, "steps": config.steps, "seed": config.seed, "test_pictures": int(part.test.sum()),
        "error_percent": error.with_bias, "mean_pose_percent": error.mean_pose, "seconds_a_step": seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def main(config: Benchmark) -> None:
    """Train, measure, print a line of JSON each."""
    for name in TRAININGS:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            print(json.dumps(alone.apply(measured, (name, config))), flush=True)


if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmark)))
