"""A training step of the GAN: what the networks do not account for, and how time and memory grow with the pixels.

python benchmarks/gan_step.py. Networks are generator, discriminator, frozen features, frozen detector and optimisers;
everything else is timed within the same run, turn by turn: drawing the batch, the edge maps, the augmentation, the
average of the weights. The size goes from 64 to 256 px by two more scales as wide as the finest; the frozen features'
size grows along. Each size has a process of its own, for its peak memory.
"""

import json
import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file: import from the clone

import numpy as np
import torch
import tyro
from accelerate import Accelerator

from autolink.data import rendered_animals
from autolink.data.animal_traits import SPECIES
from autolink.device import keep_memory, pick_precision
from autolink.errors import command
from autolink.generation.gan_options import PRESETS, STAGE_ONE
from autolink.generation.projected import changed, draw_change
from autolink.generation.train_gan import GanTrainer, with_data
from autolink.model import AutoLink
from autolink.trainer import update_average
from benchmarks.rounds import turns

SIZES = (64, 128, 256)


@dataclass(frozen=True)
class Benchmark:
    """Time whole steps and the parts that are not networks."""

    rounds: int = 5
    """Measurements of each."""
    threads: int = 2
    """CPU threads."""
    batch: int = 16
    """Pictures a step."""


def measured(size: int, config: Benchmark) -> dict[str, float]:
    """Median milliseconds of a step and of what is no network, and the process's peak memory in MB."""
    keep_memory()
    torch.set_num_threads(config.threads)
    run = PRESETS["animals"]
    stage_one = AutoLink.from_pretrained(STAGE_ONE)
    finest = run.model.channels[-1]
    channels = run.model.channels + (finest,) * SIZES.index(size)
    run = replace(run, batch=config.batch, feature_size=run.feature_size * size // SIZES[0])
    run = with_data(replace(run, model=replace(run.model, channels=channels)), stage_one, SPECIES)
    data = rendered_animals(32, 8, size)
    trainer = GanTrainer(run, Accelerator(mixed_precision=pick_precision(run.precision)), stage_one, data)
    trainer.model.train()
    batch = trainer.data.batch(config.batch, np.random.default_rng(0), trainer.accelerator.device)
    edges = trainer.draw(batch.keypoints)

    def augmentation() -> None:
        for _ in range(2):  # what the generator made, with its gradient, and real pictures
            images = batch.images.clone().requires_grad_()
            dice = torch.Generator().manual_seed(0)
            changed(images, edges, draw_change(config.batch, run.augment, dice))[0].sum().backward()

    parts: dict[str, Callable[[], object]] = {
        "step": lambda: float(trainer.train_step()),
        "batch": lambda: trainer.data.batch(config.batch, np.random.default_rng(0), trainer.accelerator.device),
        "edge_maps": lambda: trainer.draw(batch.keypoints),
        "augmentation": augmentation,
        "average": lambda: update_average(trainer.average, trainer.raw, run.ema, 1000),
    }
    times = turns(parts, config.rounds)
    outside = [sum(one) for one in zip(*(values for name, values in times.items() if name != "step"), strict=True)]
    over = [step / (step - rest) for step, rest in zip(times["step"], outside, strict=True)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found = {name: round(median(values) * 1e3, 1) for name, values in times.items()}
    return {"size": size, **found, "step_over_networks": median(over), "lowest": min(over), "highest": max(over),
            "peak_memory_mb": memory}  # fmt: skip


def main(config: Benchmark) -> None:
    """Measure, print a line of JSON each."""
    for size in SIZES:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            print(json.dumps(alone.apply(measured, (size, config))), flush=True)


if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmark)))
