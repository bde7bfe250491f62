"""Our pose transfer beside the First Order Motion Model (Siarohin et al., 2019), both trained here on the same clips.

python benchmarks/fomm.py --fomm CHECKOUT, where CHECKOUT is a clone of its authors' published code (MIT); none of it is
part of this project. Both learn from the same people at 64 px, for the same processor time on as many threads.
Clips of people that neither has seen are then redrawn from their first frames, and an independent, supervised judge
finds the joints. Ours rests on a stage one that was trained before, so the First Order Motion Model, which learns its
keypoints on the way, is measured once more after the time that this took on top.

Its networks, its equivariance losses with their weights, optimiser and learning rate are those of its published Tai-Chi
configuration, at half the width, with keypoints and motion at 32 px like ours. The perceptual loss is ours for both, on
the feature network that needs no download, at the weight where its part of the loss is as large as published.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file: import from the clone

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from autolink import draw
from autolink.device import keep_memory, pick_precision, to_network
from autolink.errors import UsageError, command
from autolink.eval.clips import Clip, load_clips
from autolink.eval.judge_model import Judge
from autolink.eval.measure import BareNetwork, Evaluation, Rulers
from autolink.eval.metrics import FeatureDistance
from autolink.generation.pairs import Views, draw_pairs, rendered_views, to_views
from autolink.generation.train_transfer import PRESETS, TransferTrainer
from autolink.generation.translator import PoseTransfer
from autolink.model import AutoLink
from autolink.perceptual import PerceptualLoss

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
CPU = torch.device("cpu")

KEYPOINTS = {"num_kp": 10, "num_channels": 3, "estimate_jacobian": True}
DETECTOR = {"temperature": 0.1, "block_expansion": 16, "max_features": 512, "num_blocks": 5, "scale_factor": 0.5}
GENERATOR = {
    "block_expansion": 32, "max_features": 256, "num_down_blocks": 2, "num_bottleneck_blocks": 6,
    "estimate_occlusion_map": True,
    "dense_motion_params": {"block_expansion": 32, "max_features": 512, "num_blocks": 5, "scale_factor": 0.5},
}  # fmt: skip
LOSSES: dict[str, Any] = {
    "scales": [1],
    "loss_weights": {
        "perceptual": [0], "generator_gan": 0, "feature_matching": [0], "discriminator_gan": 0,
        "equivariance_value": 10, "equivariance_jacobian": 10,
    },
    "transform_params": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points_tps": 5},
}  # fmt: skip
PERCEPTUAL_WEIGHT = 50.0
LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
TIMED_STEPS = 10


@dataclass(frozen=True)
class Benchmark:
    """Train both, measure both."""

    fomm: Path
    """A clone of github.com/AliaksandrSiarohin/first-order-model."""
    minutes: float = 10.0
    """Processor minutes of training for each."""
    stage_one: Path = CHECKPOINTS / "figures"
    """Our stage one; to keep the other's training short, one that was trained for few minutes."""
    stage_one_minutes: float = 70.0
    """Processor minutes that it took, which the other may train on top."""
    clips: int = 40
    """Clips of people that neither has seen, ten frames each."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of both trainings."""


class Fomm(nn.Module):
    """The published networks, and how they redraw a source."""

    def __init__(self, checkout: Path) -> None:
        super().__init__()
        sys.path.insert(0, str(checkout))
        from modules.generator import OcclusionAwareGenerator
        from modules.keypoint_detector import KPDetector
        from modules.model import GeneratorFullModel

        detector = KPDetector(**KEYPOINTS, **DETECTOR)
        generator = OcclusionAwareGenerator(**KEYPOINTS, **GENERATOR)
        judge = nn.Module()
        judge.scales = [1]  # type: ignore[assignment]
        self.full = GeneratorFullModel(detector, generator, judge, LOSSES)

    def losses(self, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Its own losses, and the pictures; all pictures in [0, 1], as it wants them."""
        values, generated = self.full({"source": sources, "driving": targets})
        return sum(value.mean() for value in values.values()), generated["prediction"]

    def redraw(self, sources: Tensor, drivers: Tensor) -> Tensor:
        """(B, 3, H, W) twice in [-1, 1] -> (B, 3, H, W), driven by the keypoints as they are."""
        a, b = (sources + 1) / 2, (drivers + 1) / 2
        keypoints = [self.full.kp_extractor(x) for x in (a, b)]
        made: Tensor = self.full.generator(a, kp_source=keypoints[0], kp_driving=keypoints[1])["prediction"]
        return made * 2 - 1


class FommEvaluation(Evaluation):
    """The same measurements of another model."""

    model: Fomm

    @torch.no_grad()
    def generate(self, clip: Clip, driver: Clip) -> tuple[NDArray[Any], NDArray[Any]]:
        """As ours does, without an edge map."""
        frames = driver.frames
        wanted = to_network(torch.from_numpy(frames.reshape(-1, *clip.source.shape)), CPU)
        first = to_network(torch.from_numpy(clip.source.copy())[None], CPU).expand_as(wanted)
        images = draw.to_image(self.model.eval().redraw(first, wanted).permute(0, 2, 3, 1).numpy())
        return images.reshape(frames.shape), np.zeros_like(clip.source)


def train_for(minutes: float, step: Callable[[], object], label: str, most: int = 10**9) -> int:
    """Take steps until the processor minutes are spent, or the steps are taken; how many there were."""
    start = time.process_time()
    with tqdm(total=round(minutes * 60), unit="s", desc=label) as bar:
        for taken in range(most):
            spent = time.process_time() - start
            if spent >= minutes * 60:
                return taken
            bar.update(round(spent) - bar.n)
            step()
    return most


def train_ours(config: Benchmark, stage_one: AutoLink, views: Views) -> tuple[PoseTransfer, int]:
    """A translator on our stage one, its schedule laid out for the time there is."""
    preset = PRESETS["figures"]
    model = replace(preset.model, keypoints=stage_one.config.keypoints)
    run = replace(preset, model=model, seed=config.seed, threads=config.threads)
    accelerator = Accelerator(mixed_precision=pick_precision(run.precision))
    probe = TransferTrainer(run, accelerator, stage_one, views)
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        probe.train_step()
    # every second step also trains the discriminator, which makes it a quarter longer
    steps = round(60 * config.minutes * TIMED_STEPS / (time.process_time() - start) / 1.15)
    trainer = TransferTrainer(replace(run, steps=steps), accelerator, stage_one, views)
    trainer.model.train()
    taken = train_for(config.minutes, trainer.train_step, "ours", steps)
    return PoseTransfer(trainer.stage_one, trainer.average).eval(), taken


def fomm_step(config: Benchmark, views: Views, model: Fomm) -> Callable[[], None]:
    """One step of the other model's training after each call."""
    perceptual = PerceptualLoss("efficientnet-lite0", 64)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE, BETAS)
    groups = np.flatnonzero(~views.test)
    numbers = count()

    def step() -> None:
        model.train()
        rng = np.random.default_rng((config.seed, next(numbers)))
        sources, targets = to_views(draw_pairs(views, groups, 16, True, rng), CPU, rng)
        own, images = model.losses((sources + 1) / 2, (targets + 1) / 2)
        loss = own + PERCEPTUAL_WEIGHT * perceptual(images * 2 - 1, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def figures(evaluation: Evaluation, clips: list[Clip]) -> dict[str, float]:
    """L1, L1 on moving pixels and joint distance of self-reconstruction; and of copying the source."""
    for clip in tqdm(clips, desc="measuring", unit="clip"):
        evaluation.reconstruct(clip)
    found = evaluation.tables["self"].summary()
    copied = evaluation.tables["self_copy"].summary()
    names = ("l1", "moving_l1", "akd_percent_of_side")
    return {name: found[name].value for name in names} | {f"copy_{name}": copied[name].value for name in names}


def main(config: Benchmark) -> None:
    """Train, measure, print a line of JSON each."""
    if not (config.fomm / "modules" / "model.py").is_file():
        raise UsageError(
            f"--fomm {config.fomm} is no clone of the First Order Motion Model: it has no modules/model.py"
        )
    keep_memory()
    torch.set_num_threads(config.threads)
    stage_one = AutoLink.from_pretrained(config.stage_one)
    views = rendered_views(3000, 0, 64)
    clips = list(load_clips("figures", config.clips, 10, 64, 0))
    rulers = Rulers(FeatureDistance(CPU), None, Judge.from_pretrained(CHECKPOINTS / "figures-judge").eval())
    ours, steps = train_ours(config, stage_one, views)
    evaluation = Evaluation(ours, rulers, CPU, BareNetwork(CPU))
    report("ours, on a stage one", config.minutes, steps, figures(evaluation, clips))

    torch.manual_seed(config.seed)
    model = Fomm(config.fomm)
    step = fomm_step(config, views, model)
    evaluations = [FommEvaluation(ours, rulers, CPU, BareNetwork(CPU)) for _ in range(2)]
    steps, spent = 0, 0.0
    for evaluation, minutes in zip(evaluations, (config.minutes, config.stage_one_minutes), strict=True):
        steps, spent = steps + train_for(minutes, step, "first order motion model"), spent + minutes
        evaluation.model = model
        report("first order motion model", spent, steps, figures(evaluation, clips))


def report(name: str, minutes: float, steps: int, found: dict[str, float]) -> None:
    """Print one model's figures."""
    print(json.dumps({"model": name, "minutes": minutes, "steps": steps} | found), flush=True)


if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmark)))
