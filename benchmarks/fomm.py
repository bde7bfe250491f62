"""Our pose transfer beside the First Order Motion Model (Siarohin et al., 2019), both trained here on the same clips.

python benchmarks/fomm.py --fomm CHECKOUT, where CHECKOUT is a clone of its authors' published code (MIT); none of it is
part of this project. Both learn from the same people at 64 px, for the same processor time on as many threads.
Clips of people that neither has seen are then redrawn from their first frames, and an independent, supervised judge
finds the joints. Ours rests on a stage one that was trained before, so the First Order Motion Model, which learns its
keypoints on the way, is measured once more after the time that this took on top.

With `--judge mediapipe` and folders of clips, `--train` and `--test` of other people, both learn from faces and are
measured as `autolink eval transfer --judge mediapipe` does: mouth, eyes, mesh, person and flicker, driven by oneself
and by others. Ours is then `--ours`, a trained checkpoint, through `transfer_video`; the other moves relative to the
driver's first frame across people, as its authors do, and by the keypoints as they are where it reconstructs a clip.
`--minutes` is what ours took, stage one and children included.

Its networks, its equivariance losses with their weights, optimiser and learning rate are those of its published Tai-Chi
configuration, at half the width, with keypoints and motion at 32 px. The perceptual loss is ours for both, on
the feature network that needs no download, at the weight where its part of the loss is as large as published.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

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
from autolink.eval.expression import face_figures
from autolink.eval.judge_model import Judge
from autolink.eval.measure import BareNetwork, Evaluation, Rulers, UsersPath, measure
from autolink.eval.mediapipe import MediaPipeJudge
from autolink.eval.metrics import FeatureDistance
from autolink.eval.results import Figure
from autolink.generation.pairs import Views, draw_pairs, load_views, rendered_views, to_views
from autolink.generation.train_transfer import PRESETS, TransferTrainer
from autolink.generation.translator import PoseTransfer
from autolink.model import AutoLink
from autolink.perceptual import PerceptualLoss

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
CPU = torch.device("cpu")

KEYPOINTS = {"num_kp": 10, "num_channels": 3, "estimate_jacobian": True}
DETECTOR = {"temperature": 0.1, "block_expansion": 16, "max_features": 512, "num_blocks": 5}
GENERATOR = {
    "block_expansion": 32, "max_features": 256, "num_down_blocks": 2, "num_bottleneck_blocks": 6,
    "estimate_occlusion_map": True,
}  # fmt: skip
MOTION = {"block_expansion": 32, "max_features": 512, "num_blocks": 5}
MOTION_SIZE = 32
"""Side in pixels of the pictures that keypoints and motion are found in."""
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
    """Clips of people that neither has seen."""
    frames: int = 10
    """Frames measured in each."""
    judge: Literal["joints", "mediapipe"] = "joints"
    """Joints: rendered people, by a judge of their joints. Mediapipe: faces of --train and --test."""
    train: Path | None = None
    """Folder of clips to learn from, with --judge mediapipe."""
    test: Path | None = None
    """Folder of clips of other people to measure on, with --judge mediapipe."""
    ours: str = "faces-transfer"
    """Our trained pose transfer, with --judge mediapipe."""
    size: int = 64
    """Side of the other model's pictures in pixels, a multiple of 32."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of both trainings."""

    def __post_init__(self) -> None:
        if not (self.fomm / "modules" / "model.py").is_file():
            raise UsageError(
                f"--fomm {self.fomm} is no clone of the First Order Motion Model: it has no modules/model.py"
            )
        if self.judge == "mediapipe" and not (self.train and self.test):
            raise UsageError("--judge mediapipe needs --train and --test, folders of clips of different people")
        if self.judge == "joints" and (self.train or self.test or self.size != 64):
            raise UsageError("--train, --test and --size go with --judge mediapipe")
        if self.size < MOTION_SIZE or self.size % MOTION_SIZE:
            raise UsageError(f"--size must be a multiple of {MOTION_SIZE}, got {self.size}")


class Fomm(nn.Module):
    """The published networks, and how they redraw a source."""

    def __init__(self, checkout: Path, size: int) -> None:
        super().__init__()
        sys.path.insert(0, str(checkout))
        from modules.generator import OcclusionAwareGenerator
        from modules.keypoint_detector import KPDetector
        from modules.model import GeneratorFullModel

        scale = {"scale_factor": MOTION_SIZE / size}
        detector = KPDetector(**KEYPOINTS, **DETECTOR, **scale)
        generator = OcclusionAwareGenerator(**KEYPOINTS, **GENERATOR, dense_motion_params=MOTION | scale)
        judge = nn.Module()
        judge.scales = [1]  # type: ignore[assignment]
        self.full = GeneratorFullModel(detector, generator, judge, LOSSES)

    def losses(self, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Its own losses, and the pictures; all pictures in [0, 1], as it wants them."""
        values, generated = self.full({"source": sources, "driving": targets})
        return sum(value.mean() for value in values.values()), generated["prediction"]

    def redraw(self, sources: Tensor, drivers: Tensor, start: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) twice in [-1, 1] -> (B, 3, H, W), driven by the keypoints as they are.

        With `start`, the driver's first frame (1, 3, H, W), the source's keypoints move as the driver's moved since.
        """
        a, b = (sources + 1) / 2, (drivers + 1) / 2
        own, driving = (self.full.kp_extractor(x) for x in (a, b))
        if start is not None:
            first = self.full.kp_extractor((start + 1) / 2)
            driving = {
                "value": own["value"] + driving["value"] - first["value"],
                "jacobian": driving["jacobian"] @ torch.inverse(first["jacobian"]) @ own["jacobian"],
            }
        made: Tensor = self.full.generator(a, kp_source=own, kp_driving=driving)["prediction"]
        return made * 2 - 1


class FommEvaluation(Evaluation):
    """The same measurements of another model."""

    model: Fomm
    relative = False
    """Whether motion across people is relative to the driver's first frame."""

    @torch.no_grad()
    def generate(self, clip: Clip, driver: Clip) -> tuple[NDArray[Any], NDArray[Any]]:
        """As ours does, without an edge map."""
        source, start = (to_network(torch.from_numpy(c.source.copy())[None], CPU) for c in (clip, driver))
        made = []
        for frames in driver.frames:  # a pair at a time: a clip's warped sources take gigabytes
            wanted = to_network(torch.from_numpy(frames), CPU)
            moved = start if self.relative and driver is not clip else None
            made.append(self.model.eval().redraw(source.expand_as(wanted), wanted, moved))
        images = draw.to_image(torch.stack(made).permute(0, 1, 3, 4, 2).numpy())
        return images, np.zeros_like(clip.source)


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
    perceptual = PerceptualLoss("efficientnet-lite0", config.size)
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


def face_figures_of(evaluation: Evaluation, clips: list[Clip]) -> dict[str, float | None]:
    """What the judge of faces measures, the clips driven by themselves and by each other; and L1 on moving pixels."""
    with tqdm(total=len(clips), desc="measuring", unit="clip") as bar:
        found, _ = measure(evaluation, clips, False, bar.update)
    assert found.expressions is not None
    made = partial(Figure, data="")
    values = {figure.key: figure.value for figure in face_figures(found.expressions, made, "", len(clips[0].source))}
    return values | {"self.moving_l1": found.tables["self"]["moving_l1"].value}


def compare_faces(config: Benchmark) -> None:
    """Ours as it stands, and the other model trained here, on the same clips."""
    assert config.train and config.test
    judge = MediaPipeJudge()
    read = config.clips, config.frames, config.size, config.seed, 2 * config.frames
    clips = list(load_clips(str(config.test), *read))
    views = load_views(str(config.train), config.size)
    views = replace(views, test=np.zeros_like(views.test))  # people to measure on are in a folder of their own
    rulers = Rulers(FeatureDistance(CPU), None, None, judge)
    ours = PoseTransfer.from_pretrained(config.ours)
    report("ours", config.minutes, 0, face_figures_of(Evaluation(ours, rulers, CPU, UsersPath(CPU)), clips))

    torch.manual_seed(config.seed)
    model = Fomm(config.fomm, config.size)
    steps = train_for(config.minutes, fomm_step(config, views, model), "first order motion model")
    evaluation = FommEvaluation(ours, rulers, CPU, BareNetwork(CPU))
    evaluation.model, evaluation.relative = model, True
    report("first order motion model", config.minutes, steps, face_figures_of(evaluation, clips))


def compare_figures(config: Benchmark) -> None:
    """Both trained here on rendered people."""
    stage_one = AutoLink.from_pretrained(config.stage_one)
    views = rendered_views(3000, 0, 64)
    clips = list(load_clips("figures", config.clips, config.frames, 64, 0))
    rulers = Rulers(FeatureDistance(CPU), None, Judge.from_pretrained(CHECKPOINTS / "figures-judge").eval())
    ours, steps = train_ours(config, stage_one, views)
    evaluation = Evaluation(ours, rulers, CPU, BareNetwork(CPU))
    report("ours, on a stage one", config.minutes, steps, figures(evaluation, clips))

    torch.manual_seed(config.seed)
    model = Fomm(config.fomm, config.size)
    step = fomm_step(config, views, model)
    evaluations = [FommEvaluation(ours, rulers, CPU, BareNetwork(CPU)) for _ in range(2)]
    steps, spent = 0, 0.0
    for evaluation, minutes in zip(evaluations, (config.minutes, config.stage_one_minutes), strict=True):
        steps, spent = steps + train_for(minutes, step, "first order motion model"), spent + minutes
        evaluation.model = model
        report("first order motion model", spent, steps, figures(evaluation, clips))


def main(config: Benchmark) -> None:
    """Train, measure, print a line of JSON each."""
    keep_memory()
    torch.set_num_threads(config.threads)
    if config.judge == "mediapipe":
        compare_faces(config)
    else:
        compare_figures(config)


def report(name: str, minutes: float, steps: int, found: Mapping[str, float | None]) -> None:
    """Print one model's figures."""
    print(json.dumps({"model": name, "minutes": minutes, "steps": steps} | dict(found)), flush=True)


if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmark)))
