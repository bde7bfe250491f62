"""The training loop and what surrounds it, the same for every network here."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from autolink.config import RunConfig
from autolink.device import pick_precision, prepare_cpu
from autolink.draw import write_picture
from autolink.log import Log
from autolink.run_state import RunFolder, config_to_json
from autolink.stop import Stop
from autolink.trainer import BaseTrainer, diverged, learning_rate


def train(trainer: BaseTrainer, folder: RunFolder, stop: Stop) -> bool:
    """Run to the last step; everything a resumed run needs is in the checkpoint. False if stopped before the end."""
    config, accelerator = trainer.config, trainer.accelerator
    main = accelerator.is_main_process
    log = Log(folder.path, trainer.step) if main else None
    bar = tqdm(total=config.steps, initial=trainer.step, disable=not main, unit="step", dynamic_ncols=True)
    poll = 1 if accelerator.num_processes == 1 else 10
    shown: dict[str, str] = {}
    losses, counted = torch.zeros((), device=accelerator.device), 0
    logged = sampled = saved = time.monotonic()
    trainer.model.train()
    try:
        while trainer.step < config.steps:
            losses += trainer.train_step()
            counted += 1
            bar.update()
            last = trainer.step == config.steps
            if trainer.step % config.log_every == 0 or last:
                loss, now = float(losses) / counted, time.monotonic()
                if not np.isfinite(loss):
                    raise diverged(trainer.step, folder)
                shown["loss"] = f"{loss:.4f}"
                bar.set_postfix(shown)
                if log:
                    speed = counted * config.batch * accelerator.num_processes / (now - logged)
                    log.write(
                        trainer.step,
                        {
                            "loss": loss,
                            "learning_rate": learning_rate(config, trainer.step - 1),
                            "images_per_second": speed,
                            **trainer.scalars(),
                        },
                    )
                losses, counted, logged = torch.zeros_like(losses), 0, now
            if log and (time.monotonic() - sampled > config.sample_minutes * 60 or last):
                trainer.check_finite(folder)
                shown |= show(trainer, folder.path, log)
                bar.set_postfix(shown)
                sampled = logged = time.monotonic()
            if trainer.step % poll == 0 and _anyone(accelerator, stop.asked):
                trainer.save(folder)
                break
            if main and time.monotonic() - saved > config.save_minutes * 60 and not last:
                trainer.save(folder)
                saved = time.monotonic()
        else:
            trainer.save(folder)
    finally:
        bar.close()
        if log:
            log.close()
    return trainer.step >= config.steps


def _anyone(accelerator: Accelerator, asked: bool) -> bool:
    """Whether any process was asked to stop."""
    if accelerator.num_processes == 1:
        return asked
    if asked:
        accelerator.set_trigger()
    return accelerator.check_trigger()


def show(trainer: BaseTrainer, folder: Path, log: Log) -> dict[str, str]:
    """Write a sample picture and measure; what to show beside the progress bar."""
    path = folder / "samples" / f"{trainer.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    write_picture(path, trainer.sample_picture())
    values = trainer.measure()
    if values:
        log.write(trainer.step, values)
    trainer.model.train()
    name, value = next(iter(values.items()), ("", 0.0))
    return {name.replace("_", " "): f"{value:.4g}"} if values else {}


def estimate(trainer: BaseTrainer, steps: int = 4) -> float:
    """Minutes that the whole run takes, from a few real steps."""
    trainer.model.train()
    trainer.train_step()
    start = time.monotonic()
    for _ in range(steps):
        float(trainer.train_step())
    return (time.monotonic() - start) / steps * trainer.config.steps / 60


def start(config: RunConfig, script: str, build: Callable[[Accelerator, Path | None], BaseTrainer]) -> None:
    """A training command after its options are read and its data is there: build, train, say where the result is.

    Args:
        config: the run's configuration.
        script: the command's name, for the advice on how to go on.
        build: from the accelerator and a folder to cache in (None: keep nothing) to the trainer.
    """
    accelerator = Accelerator(
        mixed_precision=pick_precision(config.precision), cpu=not torch.accelerator.is_available()
    )
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
        elif not config.dry_run and accelerator.is_main_process:
            folder.begin(config)
    except BaseException:
        folder.discard()
        raise
    for line in trainer.describe():
        say(line)
    if config.dry_run:
        say(json.dumps(config_to_json(config), indent=2))
        say(f"about {estimate(trainer):.0f} minutes for {config.steps} steps; nothing was written")
        return
    if config.resume:
        say(f"going on from step {trainer.step}")
    with Stop().listening() as stop:
        finished = train(trainer, folder, stop)
    accelerator.wait_for_everyone()
    if finished:
        say(f"done: model in {folder.path / 'model'}, pictures in {folder.path / 'samples'}")
    else:
        say(f"stopped and saved at step {trainer.step}; go on with: {script} --resume --out {folder.path}")
    folder.close()
    accelerator.end_training()
