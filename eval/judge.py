"""An independent judge of joint positions, trained with supervision: python eval/judge.py --data figures --out DIR."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from autolink.eval.augment import augment
from autolink.eval.judge_data import JudgeData, figure_data, folder_data
from autolink.eval.judge_model import Judge, JudgeConfig
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from autolink.data.images import Fit
from autolink.device import keep_memory, pick_device, to_network
from autolink.errors import UsageError, command
from autolink.pretrained import write_text
from autolink.regression import default_lengths

TARGET_WIDTH = 0.75
"""Standard deviation of the heatmap that training asks for, in pixels of the heatmap."""

DISTANCE_WEIGHT = 5.0
"""Weight of the distance of the joints beside the cross-entropy of their heatmaps."""

MISSING_SHARE = 0.01
"""Share of the joints of real test pictures that counts as missing; it fixes the confidence below which one is."""


@dataclass(frozen=True)
class JudgeTrainConfig:
    """Train a judge on true joints."""

    out: Path
    """Folder for the checkpoint."""
    data: str = "figures"
    """`figures`, newly rendered at every step, or a folder or zip of pictures with landmarks.csv."""
    steps: int = 2500
    """Optimiser steps in all."""
    batch: int = 32
    """Pictures a step."""
    learning_rate: float = 2e-3
    """AdamW's learning rate at the start; it falls linearly to zero."""
    size: int = 64
    """Side of the square images that the network sees, in pixels."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Width of each level of the detector."""
    fit: Fit = "stretch"
    """How a picture of another aspect ratio becomes square."""
    origin: str = ""
    """Where the pictures come from, for the model card."""
    seed: int = 0
    """Seed of everything random."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the checkpoint in --out."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate must be above zero, got {self.learning_rate}")


def joint_loss(heatmaps: Tensor, truth: Tensor, grid: Tensor) -> Tensor:
    """Cross-entropy against a Gaussian at the true joint, and the distance of the soft-argmax from it.

    A joint outside the image asks for an even heatmap instead: nothing is to be seen, and confidence shall be low.

    Args:
        heatmaps: (B, J, h * w), logarithms, as `Judge.forward` gives.
        truth: (B, J, 2), (x, y) in [-1, 1] if inside; joints that are NaN take no part.
        grid: (h * w, 2), positions of the heatmap's pixels.
    """
    annotated = torch.isfinite(truth).all(2)
    inside = (truth.abs() <= 1).all(2)
    truth = torch.where(inside[..., None], truth, 0.0)
    width = TARGET_WIDTH * 2 / (len(grid) ** 0.5 - 1)
    square_distances = (truth[:, :, None] - grid).square().sum(3)
    target = torch.where(inside[..., None], (-square_distances / (2 * width**2)).softmax(2), 1 / len(grid))
    distance = (heatmaps.exp() @ grid - truth).square().sum(2).add(1e-8).sqrt() * inside
    loss = DISTANCE_WEIGHT * distance - (target * heatmaps).sum(2)
    return (loss * annotated).sum() / annotated.sum().clamp(min=1)


def train(judge: Judge, data: JudgeData, config: JudgeTrainConfig, show: Callable[[str], None]) -> None:
    """Run all steps; `show` is told the mean loss every fifty."""
    device = judge.detector.grid.device
    fast = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / config.steps)
    generator = torch.Generator().manual_seed(config.seed)
    total = torch.zeros((), device=device)
    judge.train()
    for step in range(1, config.steps + 1):
        images, joints = next(data.batches)
        pictures, truth = augment(
            to_network(torch.from_numpy(images), device),
            torch.from_numpy(joints).float().to(device),
            data.augmentation,
            generator,
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            heatmaps = judge(pictures)
        loss = joint_loss(heatmaps, truth, judge.detector.grid)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.detach()
        if step % 50 == 0:
            show(f"{float(total) / 50:.3f}")
            total.zero_()
    judge.eval()


def measured(judge: Judge, data: JudgeData) -> tuple[JudgeConfig, NDArray]:
    """The configuration with own error and threshold filled in, and the distances, (N, J) in per cent.

    Joints outside the picture count for neither.
    """
    unit, lengths = default_lengths(data.truth)
    found = judge.find_all(data.images)
    inside = (np.abs(data.truth.landmarks) <= 1).all(2)
    offsets = (found.joints.numpy() - data.truth.landmarks) * data.truth.pixels[:, None]
    distances = np.where(inside, np.linalg.norm(offsets, axis=2) / lengths[:, None] * 100, np.nan)
    threshold = float(np.quantile(found.confidence.numpy()[inside], MISSING_SHARE))
    config = replace(judge.config, missing_below=threshold, own_error=float(np.nanmean(distances)), own_error_unit=unit)
    return config, distances


CARD = """---
license: mit
tags: [keypoint-detection]
---
# A judge of joint positions

Finds {joints} joints at {size} px; {parameters:.2f} M parameters, stored in half precision. It measures generated
pictures (`eval/transfer.py`) and shares no weights with the stage one that drives them; true joints taught it.

- **Data**: {origin}{facts}. Turned, scaled, shifted, recoloured, blurred and partly covered while training.
- **Command**: `{command}`, seed {seed}, {minutes:.0f} minutes of processor time.
- **Own error** on people never seen: {error:.2f} % of the {unit} (median {median:.2f} %, 95th percentile {high:.2f} %).
- **Missing**: a joint whose confidence is below {threshold:.3f}; one in a hundred of those in real test pictures is.
- **Limits**: {limits}
"""

LIMITS = {
    "figures": "knows only the rendered people that come with AutoLink, one in a picture, upright, from the front. "
    "Distances below its own error say nothing.",
    "folder": "knows pictures like those it was trained on, framed alike; errors of their annotation are learned "
    "too. Distances below its own error say nothing.",
}


def run(config: JudgeTrainConfig) -> None:
    """The command: train, measure, write."""
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())) and not config.overwrite:
        raise UsageError(f"--out {config.out} exists; choose another folder or add --overwrite")
    device = pick_device(config.device)
    keep_memory()
    torch.manual_seed(config.seed)
    try:
        shape = JudgeConfig(size=config.size, channels=config.channels, fit=config.fit)
    except ValueError as error:
        raise UsageError(str(error).replace("--detector-channels", "--channels")) from None
    if config.data == "figures":
        data = figure_data(config.size, config.batch, config.seed)
    else:
        data = folder_data(Path(config.data), config.size, config.fit, config.batch, config.seed)
    judge = Judge(replace(shape, joints=data.truth.landmarks.shape[1])).to(device)
    start = time.process_time()
    with tqdm(total=config.steps, unit="step", dynamic_ncols=True) as bar:

        def show(loss: str) -> None:
            bar.update(50)
            bar.set_postfix(loss=loss)

        train(judge, data, config, show)
    judge.config, distances = measured(judge, data)
    card = model_card(judge, data, distances, config, (time.process_time() - start) / 60)
    judge.save_pretrained(config.out, card)
    write_text(config.out / "README.md", card)
    print(
        f"own error {judge.config.own_error:.2f} % of the {judge.config.own_error_unit} on {len(data.images)} pictures "
        f"of people never seen; missing below a confidence of {judge.config.missing_below:.3f}: {config.out}"
    )


def model_card(judge: Judge, data: JudgeData, distances: NDArray, config: JudgeTrainConfig, minutes: float) -> str:
    """The model card with what was measured."""
    figures = config.data == "figures"
    median, high = np.nanpercentile(distances, [50, 95])
    options = f"--size {config.size} --channels {' '.join(map(str, config.channels))} --steps {config.steps}"
    return CARD.format(
        joints=judge.config.joints, size=config.size, parameters=sum(p.numel() for p in judge.parameters()) / 1e6,
        origin=f"{config.origin}: " if config.origin else "", facts=data.facts,
        command=f"python eval/judge.py --data {'figures' if figures else 'FOLDER'} --out DIR {options}",
        seed=config.seed, minutes=minutes, error=judge.config.own_error, unit=judge.config.own_error_unit,
        median=median, high=high, threshold=judge.config.missing_below,
        limits=LIMITS["figures" if figures else "folder"],
    )  # fmt: skip


def main() -> None:
    """Entry point of `python eval/judge.py`."""
    command(lambda: run(tyro.cli(JudgeTrainConfig)))


if __name__ == "__main__":
    main()
