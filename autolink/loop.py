"""The training loop and what surrounds it, the same for every network here."""

import copy
import ctypes
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from autolink.config import RunConfig
from autolink.draw import write_picture
from autolink.errors import UserError
from autolink.log import Log
from autolink.run_state import (
    RunFolder,
    config_to_json,
    load_module_tensors,
    load_optimizer_tensors,
    module_tensors,
    optimizer_tensors,
)  # fmt: skip
from autolink.stop import Stop

Network = TypeVar("Network", bound=nn.Module)


def pick_precision(config: RunConfig) -> str:
    """`auto` is bf16 on graphics cards and processors that have it in hardware, else full precision."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "no"


def keep_memory() -> None:
    """Have the C library keep freed memory: returning and refaulting pages takes half of a training step on a CPU."""
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    try:
        libc = ctypes.CDLL(None)
        for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # not glibc: slower, nothing else
        return


def usable_cores() -> int:
    """Cores this process may run on; launchers leave one thread a process, however many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_cpu(device: torch.device, threads: int = 0, processes: int = 1) -> None:
    """Where a CPU computes: keep freed memory, and use so many threads; 0 shares all cores among the processes."""
    if device.type == "cpu":
        keep_memory()
        torch.set_num_threads(threads or max(1, usable_cores() // processes))


def to_network(batch: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) 8-bit -> (B, 3, H, W) in [-1, 1]."""
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1


def learning_rate(config: RunConfig, step: int) -> float:
    """Constant after a short warm-up, then linearly to zero over the last `decay_share` of the steps."""
    warm_up = min(1.0, (step + 1) / 50)
    decay = config.decay_share * config.steps
    return config.learning_rate * min(warm_up, (config.steps - step) / decay if decay else 1.0)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and statistics, quicker in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


class BaseTrainer(ABC, Generic[Network]):
    """A network, its average and its optimizer on the Accelerator's device; what is learned is left to the child."""

    betas = (0.9, 0.99)
    """AdamW's, of the network's optimiser."""

    def __init__(self, config: RunConfig, accelerator: Accelerator, network: Network) -> None:
        self.config, self.accelerator = config, accelerator
        self.average: Network = copy.deepcopy(network).to(accelerator.device).requires_grad_(False)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=self.betas
        )
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.raw = network
        self.step = 0

    @abstractmethod
    def train_step(self) -> Tensor:
        """One optimiser step; the loss, not yet fetched from the device."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Figures of the averaged network on what it was not trained on; the first one is shown beside the bar."""

    @abstractmethod
    def sample_picture(self) -> NDArray[np.uint8]:
        """What the averaged network makes of a few samples, for a person to judge."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Write the averaged network as other commands want it."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines that tell what was found before the first step."""

    @abstractmethod
    def data_state(self) -> str:
        """A few words on the data that change when it does, so that --resume does not go on with other data."""

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""
        return {}

    def update(self, loss: Tensor) -> None:
        """Backward pass, clipped step and average."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        update_average(self.average, self.raw, config.ema, self.step)
        self.step += 1

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs."""
        return (
            module_tensors("model", self.raw)
            | module_tensors("average", self.average)
            | optimizer_tensors("optimizer", self.optimizer)
        )

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        load_module_tensors("model", self.raw, tensors)
        load_module_tensors("average", self.average, tensors)
        load_optimizer_tensors("optimizer", self.optimizer, tensors)

    def check_finite(self, folder: RunFolder) -> None:
        """Stop before anything good is replaced.

        Raises:
            UserError: a weight is not finite.
        """
        if not all(tensor.isfinite().all() for tensor in self.tensors().values()):
            raise _diverged(self.step, folder)

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint to go on from, and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        self.check_finite(folder)
        tensors, scaler = self.tensors(), self.accelerator.scaler
        state = {"scaler": scaler.state_dict() if scaler else None, "data": self.data_state()}
        folder.save_checkpoint(self.step, tensors, state)
        self.save_model(folder.path / "model")

    def load(self, folder: RunFolder) -> None:
        """Go on from the newest checkpoint."""
        tensors, state = folder.load_checkpoint()
        if state.get("data", self.data_state()) != self.data_state():
            raise UserError(
                f"--data {self.config.data} has changed since this run was saved: {state['data']} then, "
                f"{self.data_state()} now; restore it, or start another run with another --out"
            )
        self.load_tensors(tensors)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def _diverged(step: int, folder: RunFolder) -> UserError:
    """What to say when the loss or a weight is not finite."""
    back = "go on from the last checkpoint with --resume, or " if folder.checkpoints() else ""
    return UserError(f"training diverged by step {step}: {back}start again with a lower --learning-rate")


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
                    raise _diverged(trainer.step, folder)
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
    accelerator = Accelerator(mixed_precision=pick_precision(config), cpu=not torch.accelerator.is_available())
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
