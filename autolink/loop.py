"""The training loop and what surrounds it, the same for every network here."""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from autolink import __version__
from autolink.device import pick_precision, prepare_cpu
from autolink.draw import write_picture
from autolink.errors import UsageError
from autolink.log import Log, tracked_by
from autolink.options import as_started
from autolink.run_config import RunConfig
from autolink.run_state import RunFolder, config_to_json
from autolink.stop import Stop
from autolink.trainer import BaseTrainer, diverged, learning_rate
from autolink.video.synthetic import tags

Trainer: TypeAlias = BaseTrainer[Any, Any]
Config = TypeVar("Config", bound=RunConfig)

STEPPING = 0.93
"""Share of the time of --minutes that goes into steps, the rest into samples, measurements and checkpoints."""

POLL = 10
"""Steps between two times that several processes ask each other whether to stop."""


def train(trainer: Trainer, folder: RunFolder, stop: Stop) -> bool:
    """Run to the last step and save; everything a resumed run needs is in the checkpoint. False if stopped before."""
    config, accelerator = trainer.config, trainer.accelerator
    main = accelerator.is_main_process
    poll = 1 if accelerator.num_processes == 1 else POLL
    shown: dict[str, str] = {}
    trainer.model.train()
    with ExitStack() as stack:
        log = stack.enter_context(closing(Log(folder.path, trainer.step, accelerator))) if main else None
        bar = stack.enter_context(
            tqdm(total=config.steps, initial=trainer.step, disable=not main, unit="step", dynamic_ncols=True)
        )
        meter, samples, saves = Meter(trainer), Timer(config.sample_minutes), Timer(config.save_minutes)
        while trainer.step < config.steps:
            meter.add(trainer.train_step())
            bar.update()
            last = trainer.step == config.steps
            if trainer.step % config.log_every == 0 or last:
                values = meter.read()
                if not np.isfinite(values["loss"]):
                    raise diverged(trainer.step, folder)
                shown["loss"] = f"{values['loss']:.4f}"
                bar.set_postfix(shown)
                if log:
                    log.write(trainer.step, values | trainer.scalars())
            if log and (samples.due() or last):
                trainer.check_finite(folder)
                shown |= show(trainer, folder.path, log)
                bar.set_postfix(shown)
                samples.restart()
                meter.restart_clock()
            if trainer.step % poll == 0 and asked_to_stop(accelerator, stop):
                break
            if saves.due() and not last:
                trainer.save(folder)
                saves.restart()
        trainer.save(folder)
    return bool(trainer.step >= config.steps)


class Meter:
    """The mean loss of all processes and the speed since they were last read."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        accelerator = trainer.accelerator
        self.images = trainer.config.batch * accelerator.num_processes * accelerator.gradient_accumulation_steps
        self.losses, self.steps = torch.zeros((), device=accelerator.device), 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Count no time but that from now on."""
        self.since = time.monotonic()

    def add(self, loss: torch.Tensor) -> None:
        """Count a step's loss without waiting for it."""
        self.losses += loss
        self.steps += 1

    def read(self) -> dict[str, float]:
        """A line for the log."""
        total: torch.Tensor = self.trainer.accelerator.reduce(self.losses, "mean")
        loss, steps = float(total) / self.steps, self.steps
        speed = steps * self.images / (time.monotonic() - self.since)
        self.losses, self.steps = torch.zeros_like(self.losses), 0
        self.restart_clock()
        rate = learning_rate(self.trainer.config, self.trainer.step - 1)
        return {"loss": loss, "learning_rate": rate, "images_per_second": speed}


class Timer:
    """Says when some minutes have passed."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.restart()

    def restart(self) -> None:
        """Wait as long again."""
        self.since = time.monotonic()

    def due(self) -> bool:
        """Whether the time has come."""
        return time.monotonic() - self.since > self.seconds


def asked_to_stop(accelerator: Accelerator, stop: Stop) -> bool:
    """Whether any process was asked to stop; all then know by which signal."""
    if accelerator.num_processes > 1:
        asked: torch.Tensor = accelerator.gather(torch.tensor([stop.asked], device=accelerator.device))
        stop.number = int(asked.max())
    return stop.asked > 0


def show(trainer: Trainer, folder: Path, log: Log) -> dict[str, str]:
    """Write a sample picture and measure; what to show beside the progress bar."""
    path = folder / "samples" / f"{trainer.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    write_picture(path, trainer.sample_picture(), tags(f"AutoLink {__version__} in training", "pictures"))
    values = trainer.measure()
    if values:
        log.write(trainer.step, values)
    trainer.model.train()
    name, value = next(iter(values.items()), ("", 0.0))
    return {name.replace("_", " "): f"{value:.4g}"} if values else {}


def seconds_a_step(trainer: Trainer, steps: int = 4) -> float:
    """Mean over the whole run, from a few real steps of each phase, after which the trainer is as it was before."""
    begin, state = trainer.step, trainer.state()
    tensors = {name: value.clone() for name, value in trainer.tensors().items()}
    trainer.model.train()
    starts = trainer.phases()
    seconds = 0.0
    for first, end in zip(starts, [*starts[1:], trainer.config.steps], strict=True):
        trainer.step = first
        float(trainer.train_step())
        since = time.monotonic()
        for _ in range(steps):
            float(trainer.train_step())
        seconds += (time.monotonic() - since) / steps * (end - first) / trainer.config.steps
    trainer.restore(tensors, state)
    trainer.step = begin
    return seconds


def fitting(config: Config, trainer: Trainer) -> Config:
    """The configuration with as many steps as --minutes allows, the same in all processes."""
    lasting = torch.tensor([seconds_a_step(trainer)], device=trainer.accelerator.device)
    slowest = float(trainer.accelerator.gather(lasting).max())
    return replace(config, steps=max(1, int(config.minutes * 60 * STEPPING / slowest)))


def launch(config: RunConfig) -> Accelerator:
    """The Accelerator of a run: devices, processes and accumulation as `accelerate launch` has them.

    Raises:
        UsageError: its options and ours contradict each other, or a tracker is not installed.
    """
    return Accelerator(
        mixed_precision=launched_precision(config),
        gradient_accumulation_steps=launched_accumulation(config),
        cpu=not torch.accelerator.is_available(),
        **tracked_by(config),
    )


def launched_precision(config: RunConfig) -> str:
    """`--precision`, which by default is `--mixed_precision` of `accelerate launch`, whose `no` says nothing.

    Raises:
        UsageError: they contradict each other, or the launcher's is one we do not have.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked == "no":
        return pick_precision(config.precision)
    if asked not in ("bf16", "fp16"):
        raise UsageError(f"accelerate launch --mixed_precision {asked} is not known here; use bf16, fp16 or no")
    if config.precision not in ("auto", asked):
        raise UsageError(
            f"accelerate launch --mixed_precision {asked} contradicts --precision {config.precision}; leave one out"
        )
    return asked


def launched_accumulation(config: RunConfig) -> int:
    """`--gradient-accumulation-steps`, or the launcher's environment, which Accelerate prefers without a word.

    Raises:
        UsageError: they contradict each other.
    """
    asked = int(os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"))
    if 1 not in (asked, config.gradient_accumulation_steps) and asked != config.gradient_accumulation_steps:
        raise UsageError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={asked} contradicts --gradient-accumulation-steps "
            f"{config.gradient_accumulation_steps}; leave one out"
        )
    if asked == 1:
        os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    return max(asked, config.gradient_accumulation_steps)


def start(config: RunConfig, script: str, build: Callable[[Accelerator, Path | None], Trainer]) -> None:
    """A training command after its options are read and its data is there: build, train, say where the result is.

    Args:
        config: the run's configuration.
        script: the command's name, for the advice on how to resume.
        build: from the accelerator and a folder to cache in (None: keep nothing) to the trainer.

    Raises:
        SystemExit: a signal stopped it, after saving; the exit code is 128 and the signal's number.
    """
    accelerator = launch(config)
    say = accelerator.print
    folder = RunFolder(config.run_folder)
    prepare_cpu(accelerator.device, config.threads, accelerator.num_processes)
    if not config.dry_run and accelerator.is_main_process:
        folder.open(config)
    accelerator.wait_for_everyone()
    try:
        trainer = build(accelerator, None if config.dry_run else folder.path / "cache")
        if config.resume:
            trainer.load(folder)
        elif config.minutes:
            config = trainer.config = fitting(config, trainer)
        if not (config.resume or config.dry_run) and accelerator.is_main_process:
            folder.begin(config)
    except BaseException:
        folder.discard()
        raise
    for line in trainer.describe():
        say(line)
    if config.dry_run:
        say(json.dumps(config_to_json(config), indent=2))
        minutes = seconds_a_step(trainer) * config.steps / 60 / STEPPING
        say(f"about {minutes:.0f} minutes for {config.steps} steps; nothing was written")
        return
    if config.resume:
        say(f"resuming at step {trainer.step}")
    elif config.minutes:
        say(f"{config.steps} steps fit into --minutes {config.minutes:g}")
    with Stop().listening() as stop:
        finished = train(trainer, folder, stop)
    accelerator.wait_for_everyone()
    if finished:
        say(f"done: model in {folder.path / 'model'}, pictures in {folder.path / 'samples'}")
    else:
        say(f"stopped and saved at step {trainer.step}; resume with: {as_started(script)} --resume --out {folder.path}")
    folder.close()
    accelerator.end_training()
    if not finished:
        sys.exit(128 + stop.number)
