"""Stage one's training: from pictures without labels to keypoints and a graph."""

import copy
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from autolink import draw
from autolink.config import PRESETS, TrainConfig
from autolink.data import ImageSet, check_data, load_data
from autolink.errors import UsageError, UserError, command
from autolink.model import AutoLink, AutoLinkOutput
from autolink.perceptual import PerceptualLoss
from autolink.regression import default_lengths, regression_error
from autolink.run_state import (
    RunFolder,
    check_same_run,
    load_module_tensors,
    load_optimizer_tensors,
    module_tensors,
    optimizer_tensors,
    read_run_config,
)  # fmt: skip

MEASURED_TRAIN, MEASURED_TEST = 2000, 800
"""Annotated pictures used at most for the regression error while training."""

SAMPLES = 8


def parse_config(arguments: list[str]) -> TrainConfig:
    """Read the command line: defaults from --preset or, on --resume, from the run itself.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    start = PRESETS[_peek(arguments, "--preset") or "figures"] if "--help" not in arguments else PRESETS["figures"]
    started = None
    if "--resume" in arguments:
        out = _peek(arguments, "--out")
        started = read_run_config(Path(out) if out else start.run_folder)
        start = replace(started, resume=True)
    try:
        config = tyro.cli(TrainConfig, default=start, args=arguments)
        if not config.data:
            raise ValueError(f"--preset {config.preset} needs --data FOLDER, your pictures")
    except ValueError as error:
        raise UsageError(str(error)) from None
    if started:
        check_same_run(config, started)
    return config


def _peek(arguments: list[str], option: str) -> str | None:
    """An option's value before the command line is parsed; a preset that does not exist is left to the parser."""
    for n, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            value = value or (arguments[n + 1] if n + 1 < len(arguments) else "")
            return None if option == "--preset" and value not in PRESETS else value
    return None


def pick_precision(config: TrainConfig) -> str:
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


def draw_batch(
    images: NDArray[np.uint8], chosen_from: NDArray[np.int64], config: TrainConfig, step: int, rank: int
) -> tuple[Tensor, Tensor]:
    """The pictures and masks of a step: (B, size, size, 3) 8-bit, (B, 1, blocks, blocks) with 1 where visible.

    Everything random follows from seed, step and process, so a resumed run has no data position to restore.
    """
    rng = np.random.default_rng((config.seed, step, rank))
    batch = images[rng.choice(chosen_from, config.batch)]
    if config.flip:
        mirrored = rng.random(config.batch) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
    visible = rng.random((config.batch, 1, config.mask_blocks, config.mask_blocks)) >= config.masked
    return torch.from_numpy(batch), torch.from_numpy(visible.astype(np.float32))


def to_network(batch: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) 8-bit -> (B, 3, H, W) in [-1, 1]."""
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(
    output: AutoLinkOutput, images: Tensor, perceptual: PerceptualLoss, pixel_weight: float
) -> Tensor:
    """Equation 5 of the paper, and L1 of the pixels beside it."""
    loss = perceptual(output.reconstruction, images)
    if pixel_weight:
        loss = loss + pixel_weight * F.l1_loss(output.reconstruction, images)
    return loss


def learning_rate(config: TrainConfig, step: int) -> float:
    """Constant after a short warm-up, then linearly to zero over the last `decay_share` of the steps."""
    warm_up = min(1.0, (step + 1) / 50)
    decay = config.decay_share * config.steps
    return config.learning_rate * min(warm_up, (config.steps - step) / decay if decay else 1.0)


def spread(config: TrainConfig, step: int) -> float:
    """Strength of the pull that keeps keypoints apart at the start."""
    return config.spread * max(0.0, 1 - step / config.spread_steps) if config.spread_steps else 0.0


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and statistics, quicker in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


class Stop:
    """Remembers that the user pressed Ctrl-C, so that the step can end and be saved."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Catch SIGINT and SIGTERM; a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Trainer:
    """The parts of a run: model, its average, optimizer, loss and data, on the Accelerator's device."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, data: ImageSet) -> None:
        torch.manual_seed(config.seed)
        self.config, self.accelerator, self.data = config, accelerator, data
        raw = AutoLink(config.model)
        self.average = copy.deepcopy(raw).to(accelerator.device).requires_grad_(False)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            raw = nn.SyncBatchNorm.convert_sync_batchnorm(raw)
        self.perceptual = PerceptualLoss(config.features, config.feature_size, config.feature_weights)
        self.perceptual.to(accelerator.device)
        optimizer = torch.optim.AdamW(
            raw.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.model, self.optimizer = accelerator.prepare(raw, optimizer)
        self.raw = raw
        test = data.annotation.test if data.annotation else np.zeros(len(data), bool)
        self.train_rows = np.flatnonzero(~test)
        self.test_rows = np.flatnonzero(test)
        self.step = 0

    def train_step(self) -> Tensor:
        """One optimiser step; the loss, not yet fetched from the device."""
        config, step, accelerator = self.config, self.step, self.accelerator
        batch, mask = draw_batch(self.data.images, self.train_rows, config, step, accelerator.process_index)
        images, mask = to_network(batch, accelerator.device), mask.to(accelerator.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        with accelerator.autocast():
            output = self.model(images, mask, spread(config, step))
            loss = reconstruction_loss(output, images, self.perceptual, config.pixel_weight)
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        update_average(self.average, self.raw, config.ema, step)
        self.step += 1
        return loss.detach()

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint to go on from, and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        tensors = module_tensors("model", self.raw) | module_tensors("average", self.average)
        tensors |= optimizer_tensors(self.optimizer)
        scaler = self.accelerator.scaler
        folder.save_checkpoint(self.step, tensors, {"scaler": scaler.state_dict() if scaler else None})
        self.average.save_pretrained(folder.path / "model")

    def load(self, folder: RunFolder) -> None:
        """Go on from the newest checkpoint."""
        tensors, state = folder.load_checkpoint()
        load_module_tensors("model", self.raw, tensors)
        load_module_tensors("average", self.average, tensors)
        load_optimizer_tensors(self.optimizer, tensors)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]

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
        except ValueError:  # a landmark that one side of the split never shows
            return {}
        return {"regression_error": error.with_bias, "mean_pose_error": error.mean_pose}

    @torch.no_grad()
    def sample_picture(self) -> NDArray[np.uint8]:
        """Input, masked input, edge map, graph and reconstruction of a few pictures, the untrained ones if any."""
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


@torch.no_grad()
def detect_all(
    model: AutoLink, images: NDArray[np.uint8], device: torch.device, batch: int = 128
) -> NDArray[np.float32]:
    """Keypoints of many pictures, (N, H, W, 3) 8-bit -> (N, K, 2), (x, y) in [-1, 1]; leaves evaluation mode on."""
    model.eval()
    parts = (torch.from_numpy(np.ascontiguousarray(images[n : n + batch])) for n in range(0, len(images), batch))
    return np.concatenate([model.detect(to_network(part, device)).cpu().numpy() for part in parts])


class Log:
    """Scalars to metrics.jsonl and TensorBoard, on the main process."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "metrics.jsonl"
        if path.exists():  # a run that was killed had gone on beyond its checkpoint
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in lines))
        self.file = path.open("a")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self.file.write(json.dumps({"step": step, **{name: round(v, 6) for name, v in values.items()}}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish both files."""
        self.file.close()
        self.board.close()


def train(trainer: Trainer, folder: RunFolder, stop: Stop) -> bool:
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
    while trainer.step < config.steps:
        losses += trainer.train_step()
        counted += 1
        bar.update()
        last = trainer.step == config.steps
        if trainer.step % config.log_every == 0 or last:
            loss, now = float(losses) / counted, time.monotonic()
            if not np.isfinite(loss):
                raise UserError(
                    f"the loss is not finite at step {trainer.step}; go on from the last checkpoint with "
                    "--resume, or start again with a lower --learning-rate"
                )
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
                        "alpha": trainer.raw.decoder.alpha.item(),
                    },
                )
            losses, counted, logged = torch.zeros_like(losses), 0, now
        if log and (time.monotonic() - sampled > config.sample_minutes * 60 or last):
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


def show(trainer: Trainer, folder: Path, log: Log) -> dict[str, str]:
    """Write a sample picture and measure; what to show beside the progress bar."""
    path = folder / "samples" / f"{trainer.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.name}")
    imageio.imwrite(beside, trainer.sample_picture(), extension=".png")
    beside.replace(path)
    values = trainer.measure()
    if values:
        log.write(trainer.step, values)
    trainer.model.train()
    return {"error": f"{values['regression_error']:.2f} %"} if values else {}


def estimate(trainer: Trainer, steps: int = 4) -> float:
    """Minutes that the whole run takes, from a few real steps."""
    trainer.model.train()
    trainer.train_step()
    start = time.monotonic()
    for _ in range(steps):
        float(trainer.train_step())
    return (time.monotonic() - start) / steps * trainer.config.steps / 60


def describe(trainer: Trainer, say: Callable[[str], None]) -> None:
    """Tell what was found before the first step."""
    data, config = trainer.data, trainer.config
    for name, reason in list(data.skipped.items())[:5]:
        say(f"skipped {name}: {reason}")
    if len(data.skipped) > 5:
        say(f"skipped {len(data.skipped)} pictures in all")
    parameters = sum(p.numel() for p in trainer.raw.parameters())
    say(
        f"{len(trainer.train_rows)} pictures to train on, {len(trainer.test_rows)} kept for testing, "
        f"{config.model.size} px; {config.model.keypoints} keypoints, {parameters / 1e6:.2f} M parameters; "
        f"{trainer.accelerator.device}, precision {trainer.accelerator.mixed_precision}"
    )


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    accelerator = Accelerator(mixed_precision=pick_precision(config))
    say = accelerator.print
    folder = RunFolder(config.run_folder)
    if accelerator.device.type == "cpu":
        keep_memory()
        torch.set_num_threads(config.threads or max(1, usable_cores() // accelerator.num_processes))
    check_data(config.data)
    if not config.dry_run and accelerator.is_main_process:
        folder.open(config)
    accelerator.wait_for_everyone()
    try:
        with accelerator.main_process_first():
            cache = None if config.dry_run else folder.path / "cache"
            data = load_with_progress(config, cache, accelerator.is_main_process)
        trainer = Trainer(config, accelerator, data)
    except UserError:
        folder.discard()
        raise
    describe(trainer, say)
    if config.dry_run:
        say(json.dumps(_plain(config), indent=2))
        say(f"about {estimate(trainer):.0f} minutes for {config.steps} steps; nothing was written")
        return
    if config.resume:
        trainer.load(folder)
        say(f"going on from step {trainer.step}")
    with Stop().listening() as stop:
        finished = train(trainer, folder, stop)
    accelerator.wait_for_everyone()
    if finished:
        say(f"done: model in {folder.path / 'model'}, pictures in {folder.path / 'samples'}")
    else:
        say(
            f"stopped and saved at step {trainer.step}; go on with: "
            f"accelerate launch train_autolink.py --resume --out {folder.path}"
        )
    folder.close()
    accelerator.end_training()


def _plain(config: TrainConfig) -> dict[str, Any]:
    from autolink.run_state import config_to_json

    return config_to_json(config)


def load_with_progress(config: TrainConfig, cache: Path | None, visible: bool) -> ImageSet:
    """The data set, with a bar while pictures are decoded."""
    bar: tqdm | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, unit="picture", desc="reading", disable=not visible, dynamic_ncols=True)
        bar.update(done - bar.n)

    try:
        return load_data(config.data, config.model.size, config.model.fit, cache, progress)
    finally:
        if bar is not None:
            bar.close()


def main() -> None:
    """Entry point of `accelerate launch train_autolink.py`."""
    command(lambda: run(sys.argv[1:]))
