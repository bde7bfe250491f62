"""The share of a training step spent outside the networks: python benchmarks/train_step.py.

Inside are the forward and backward passes of detector, decoder and feature network, the losses, and the optimiser's
update. Outside are drawing the batch and its masks, the edge map (forward and backward), the average of the weights,
and logging. Parts are timed within the same run as whole steps, turn by turn.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file: import from the clone

import torch
import tyro
from accelerate import Accelerator

from autolink import train
from autolink.config import PRESETS
from autolink.data import rendered_figures
from autolink.device import keep_memory, pick_precision, to_network
from autolink.log import Log
from autolink.trainer import update_average
from benchmarks.rounds import turns


@dataclass(frozen=True)
class Benchmark:
    """Time whole training steps and the parts that are not networks."""

    rounds: int = 15
    """Measurements of each."""
    threads: int = 2
    """CPU threads."""


def measured(config: Benchmark) -> dict[str, list[float]]:
    """Seconds of whole steps and of the parts that are not networks, round by round."""
    run = PRESETS["figures"]
    accelerator = Accelerator(mixed_precision=pick_precision(run.precision))
    keep_memory()
    torch.set_num_threads(config.threads)
    trainer = train.Trainer(run, accelerator, rendered_figures(512, 32, run.model.size))
    trainer.model.train()
    device = accelerator.device
    keypoints = trainer.raw.keypoints(torch.zeros(run.batch, 3, run.model.size, run.model.size, device=device)).detach()

    def whole() -> None:
        float(trainer.train_step())

    def data() -> None:
        batch, mask = train.draw_batch(trainer.data.images, trainer.train_rows, run, trainer.step, 0)
        to_network(batch, device), mask.to(device)

    def edge_map() -> None:
        trainer.raw.draw(keypoints.clone().requires_grad_()).sum().backward()

    def average() -> None:
        update_average(trainer.average, trainer.raw, run.ema, 1000)

    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), 0, accelerator)

        def logging() -> None:
            log.write(1, {"loss": 1.0, "learning_rate": 1.0, "images_per_second": 1.0, "alpha": 1.0})

        parts: dict[str, Callable[[], None]] = {
            "whole step": whole, "data and masks": data, "edge map": edge_map, "average of weights": average,
            "logging": logging,
        }  # fmt: skip
        times = turns(parts, config.rounds)
        log.close()
    times["logging"] = [value / run.log_every for value in times["logging"]]
    return times


def main(config: Benchmark) -> None:
    """Print the table."""
    times = measured(config)
    typical = {name: median(values) * 1e3 for name, values in times.items()}
    step = typical["whole step"]
    for name, value in typical.items():
        print(f"{name:20} {value:8.2f} ms {value / step:7.1%}")
    print(f"{'outside the networks':20} {sum(typical.values()) - step:8.2f} ms {sum(typical.values()) / step - 1:7.1%}")
    print(json.dumps({"batch": PRESETS["figures"].batch, "threads": config.threads, "precision": pick_precision()}))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
