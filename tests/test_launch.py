"""What `accelerate launch` asks for: accumulated batches, precision, processes; and where a run is logged."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import TINY, TINY_GAN, TINY_TRANSFER
from processes import launched, stopped_by_one
from safetensors.torch import load_file

from autolink import AutoLink, train
from autolink.data.images import load_images
from autolink.errors import UsageError
from autolink.eval import judge, judge_options
from autolink.eval.judge_data import folder_data
from autolink.generation import appearance, gan_options, train_gan, train_transfer
from autolink.generation.pairs import rendered_views
from autolink.run_state import RunFolder
from autolink.stop import Stop
from autolink.trainer import BaseTrainer

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

Trainer = BaseTrainer[Any, Any]
Build = Callable[[Accelerator], Trainer]


@pytest.fixture(params=["stage one", "transfer", "gan", "judge"])
def build(request: pytest.FixtureRequest, pictures: Path, animals: Path, tiny_checkpoint: Path) -> Build:
    """Each of the trainings, in full precision and without clipping: the same one for every call."""
    common = ["--precision", "no", "--clip", "1e9", "--data"]

    def stage_one(accelerator: Accelerator) -> Trainer:
        config = train.parse_config([*TINY, *common, str(pictures)])
        return train.Trainer(config, accelerator, load_images(pictures, 32, "stretch"))

    def transfer(accelerator: Accelerator) -> Trainer:
        config = train_transfer.parse_config([*TINY_TRANSFER, *common, "figures", "--adversarial-from", "0"])
        config = train_transfer.with_keypoints(config, 5)
        known = AutoLink.from_pretrained(tiny_checkpoint)
        return train_transfer.TransferTrainer(config, accelerator, known, rendered_views(6, 2, 32))

    def gan(accelerator: Accelerator) -> Trainer:
        config = gan_options.parse_config([*TINY_GAN, *common, str(animals), "--stage-one", str(tiny_checkpoint)])
        known = AutoLink.from_pretrained(tiny_checkpoint)
        config = train_gan.with_data(config, known, ("cat", "dog"))
        return train_gan.GanTrainer(config, accelerator, known, load_images(animals, 32, "stretch"))

    def judged(accelerator: Accelerator) -> Trainer:
        options = ["--size", "32", "--channels", "4", "8", "8", "--batch", "4", *common, str(pictures)]
        return judge.JudgeTrainer(
            judge_options.parse_config(options), accelerator, folder_data(pictures, 32, "stretch")
        )

    return {"stage one": stage_one, "transfer": transfer, "gan": gan, "judge": judged}[request.param]


def gradients(trainer: Trainer, shards: list[int] | None = None) -> list[dict[str, torch.Tensor]]:
    """What each optimiser is given in one step, or for some batches alone; the weights stay."""
    taken: list[dict[str, torch.Tensor]] = []

    def look(optimizer: torch.optim.Optimizer) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        taken.append({str(n): p.grad.clone() for n, p in enumerate(weights) if p.grad is not None})
        optimizer.zero_grad()

    trainer.take_step = look  # type: ignore[method-assign]
    trainer.model.train()
    for discriminator in trainer.learners[1:]:
        discriminator.eval()  # each pass would refine what spectral normalisation divides by
    if shards is None:
        trainer.train_step()
    for shard in shards or []:
        with trainer.accelerator.accumulate(*trainer.learners):
            trainer.train_batch(shard)
    return taken


def test_accumulated_gradients_are_the_mean_of_their_batches(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appearance, "RATE", 0.0)  # the first batch would change what the second's noise follows
    together = gradients(build(Accelerator(cpu=True, gradient_accumulation_steps=2)))
    alone = [gradients(build(Accelerator(cpu=True)), [shard]) for shard in (0, 1)]
    assert len(together) == len(alone[0]) >= 1
    for both, first, second in zip(together, *alone, strict=True):
        assert both.keys() == first.keys() and both
        for name, value in both.items():
            torch.testing.assert_close(value, (first[name] + second[name]) / 2, rtol=2e-3, atol=1e-5, msg=name)
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(alone[0][0].values(), alone[1][0].values(), strict=True))


def options(pictures: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(pictures), "--out", str(out), *TINY, *more]


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors")


def same(first: Path, second: Path) -> bool:
    one, other = last_weights(first), last_weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_is_an_optimiser_step_also_when_resumed(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, whole, broken = tmp_path / "plain", tmp_path / "whole", tmp_path / "broken"
    train.run(options(pictures, plain))
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    train.run(options(pictures, whole))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    assert not same(plain, whole)
    one_batch = train.Trainer.train_batch

    def interrupted(self: train.Trainer, shard: int) -> torch.Tensor:
        if (self.step, shard) == (2, 0):  # between two batches of one step
            signal.raise_signal(signal.SIGTERM)
        return one_batch(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "train_batch", interrupted)
        with pytest.raises(SystemExit, match="143"):
            train.run(options(pictures, broken))
    with monkeypatch.context() as patch:
        patch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
        said = fails(1, lambda: train.run(["--resume", "--out", str(broken)]))
    assert "saved with --gradient-accumulation-steps 2, this launch has 1" in said and len(said.splitlines()) == 1
    train.run(["--resume", "--out", str(broken)])
    assert same(whole, broken)


def test_another_number_of_processes_is_refused(fails: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    train.run(options(pictures, tmp_path))
    state = RunFolder(tmp_path).checkpoints()[-1] / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"processes": 2}))
    said = fails(1, lambda: train.run(["--resume", "--out", str(tmp_path)]))
    assert "saved with --num_processes 2, this launch has 1" in said and len(said.splitlines()) == 1


def test_a_run_of_an_earlier_version_is_resumed(pictures: Path, tmp_path: Path) -> None:
    """Its checkpoint says less, and its configuration has options that are no more."""
    train.run(options(pictures, tmp_path))
    state = RunFolder(tmp_path).checkpoints()[-1] / "state.json"
    kept = {name: json.loads(state.read_text())[name] for name in ("step", "scaler", "data")}
    state.write_text(json.dumps(kept))
    config = json.loads((tmp_path / "config.json").read_text())
    del config["log_with"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"forgotten": 3}))
    before = last_weights(tmp_path)
    train.run(["--resume", "--out", str(tmp_path)])
    assert all(torch.equal(before[name], value) for name, value in last_weights(tmp_path).items())


def test_fp16_cannot_be_accumulated_against_a_discriminator(
    fails: Callable[..., str], animals: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    arguments = ["--data", str(animals), "--stage-one", str(tiny_checkpoint), *TINY_GAN, "--out", str(tmp_path / "run")]
    assert "cannot be had with --precision fp16" in fails(2, lambda: train_gan.run(arguments))
    assert not (tmp_path / "run").exists()


def test_the_launchers_precision_counts(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autolink.loop.pick_precision", lambda name: "no" if name == "auto" else name)
    for asked, ours, used in (("bf16", "auto", "bf16"), ("no", "auto", "no"), ("no", "bf16", "bf16")):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
        AcceleratorState._reset_state(True)
        train.run(options(pictures, tmp_path / "run", "--dry-run", "--precision", ours))
        assert f"precision {used}" in capsys.readouterr().out
    for asked, ours in (("bf16", "no"), ("fp8", "auto")):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
        with pytest.raises(UsageError, match=f"--mixed_precision {asked}"):
            train.run(options(pictures, tmp_path / "run", "--precision", ours))
    assert not (tmp_path / "run").exists()


def test_trackers_are_asked_for(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(options(pictures, tmp_path / "board"))
    events = list((tmp_path / "board" / "tensorboard").glob("events*"))
    assert len(events) == 1 and events[0].stat().st_size > 100
    train.run(options(pictures, tmp_path / "none", "--log-with", "none"))
    assert not (tmp_path / "none" / "tensorboard").exists() and (tmp_path / "none" / "metrics.jsonl").exists()
    monkeypatch.setattr("autolink.log.find_spec", lambda name: None)
    said = fails(2, lambda: train.run(options(pictures, tmp_path / "wandb", "--log-with", "wandb")))
    assert "pip install wandb" in said and not (tmp_path / "wandb").exists()


@pytest.mark.slow
def test_two_processes_stop_and_resume_as_one_run(pictures: Path, tmp_path: Path) -> None:
    """On gloo: SIGTERM to one of them stops both; resumed, the weights are those of an uninterrupted run."""
    script = stopped_by_one(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = launched(str(ROOT / "train_autolink.py"), *options(pictures, whole))
    assert done.returncode == 0 and done.stdout.count("done: model in") == 1, done.stderr
    stopped = launched(str(script), *options(pictures, broken))
    assert stopped.stdout.count("code 143") == 2, stopped.stdout + stopped.stderr
    assert [p.name for p in RunFolder(broken).checkpoints()] == ["step-0000004"]
    alone = launched(str(ROOT / "train_autolink.py"), "--resume", "--out", str(broken), processes=1)
    assert alone.returncode != 0 and "saved with --num_processes 2" in alone.stderr
    resumed = launched(str(ROOT / "train_autolink.py"), "--resume", "--out", str(broken))
    assert resumed.returncode == 0, resumed.stderr
    assert same(whole, broken)


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(pictures: Path, tmp_path: Path) -> None:
    """On gloo, the same pictures and masks in two halves or in one batch; the loss a mean over pictures."""
    script = tmp_path / "doubled.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from dataclasses import replace\n"
        "import torch\n"
        "from autolink import losses, perceptual, train\n"
        "perceptual.relative_feature_distance = losses.feature_distance  # the other divides by means of a batch\n"
        "half = train.draw_batch\n"
        "def both(images, chosen_from, config, step, shard):\n"
        "    if os.environ['WORLD_SIZE'] == '2' or len(chosen_from) == config.batch:\n"
        "        return half(images, chosen_from, config, step, shard)\n"
        "    config = replace(config, batch=config.batch // 2)\n"
        "    parts = [half(images, chosen_from, config, step, shard) for shard in (0, 1)]\n"
        "    return tuple(torch.cat(part) for part in zip(*parts, strict=True))\n"
        "train.draw_batch = both\n"
        "train.run(sys.argv[1:])\n"
    )
    common = [*TINY, "--precision", "no", "--data", str(pictures)]
    one, two = tmp_path / "one", tmp_path / "two"
    for done in (
        launched(str(script), *common, "--batch", "4", "--out", str(two)),
        launched(str(script), *common, "--batch", "8", "--out", str(one), processes=1),
    ):
        assert done.returncode == 0, done.stderr
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
        for out in (one, two)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    first, second = last_weights(one), last_weights(two)
    torch.manual_seed(0)
    begun = AutoLink(train.parse_config(common).model).state_dict()
    way, apart = (
        sum(float((first[f"model.{name}"] - other[name]).square().sum()) for name in begun if "running" not in name)
        for other in (begun, {name: second[f"model.{name}"] for name in begun})
    )
    assert way > 0 and apart < 1e-3 * way  # AdamW makes noise of gradients near zero as large as any other


@pytest.mark.slow
def test_accelerates_own_launcher(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "1",
        "--num_cpu_threads_per_process", "1", "--mixed_precision", "bf16", str(ROOT / "train_autolink.py"),
    ]  # fmt: skip
    done = subprocess.run(
        [*command, *options(pictures, tmp_path / "launched", "--gradient_accumulation_steps", "2")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0 and "precision bf16" in done.stdout, done.stderr
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    train.run(options(pictures, tmp_path / "here"))
    assert same(tmp_path / "launched", tmp_path / "here")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_training_whose_launcher_dies_saves_and_stops(number: int, pictures: Path, tmp_path: Path) -> None:
    """Accelerate's launcher passes no signal on."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here, as by what a shell runs in the background; so it would be there")
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "1"]
    command += [str(ROOT / "train_autolink.py"), *options(pictures, tmp_path / "run", "--steps", "5000")]
    told = tmp_path / "told.txt"
    with told.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as launcher:
        try:
            wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
            launcher.send_signal(number)
            launcher.wait(60)
        finally:
            launcher.kill()
    wait_for(lambda: "stopped and saved at step" in told.read_text())
    assert len(RunFolder(tmp_path / "run").checkpoints()) == 1


def wait_for(happened: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_launched_process_stops_when_its_parent_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolink.stop._LAUNCHED", False)
    assert Stop().asked == 0
    monkeypatch.setattr("os.getppid", lambda: 1)
    assert Stop().asked == 0  # as under nohup, when the shell ends
    monkeypatch.setattr("autolink.stop._LAUNCHED", True)
    assert Stop().asked == signal.SIGTERM


@pytest.mark.slow
def test_batch_normalisation_sees_all_processes(tmp_path: Path) -> None:
    """Two processes with half a batch each, on CPUs, against one with the whole."""
    script = tmp_path / "norm.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import torch\n"
        "from accelerate import Accelerator\n"
        "from torch import nn\n"
        "from autolink.layers import synchronise_batch_norm\n"
        "def network():\n"
        "    torch.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))\n"
        "    for module in net:\n"
        "        if isinstance(module, nn.BatchNorm2d):\n"
        "            nn.init.normal_(module.weight), nn.init.normal_(module.bias)\n"
        "    return net\n"
        "accelerator = Accelerator(cpu=True)\n"
        "torch.manual_seed(1)\n"
        "images, weights = torch.randn(6, 3, 8, 8) * 2 + 1, torch.randn(6, 2, 4, 4)\n"
        "whole, ours = network(), network()\n"
        "synchronise_batch_norm(ours, torch.device('cpu'))\n"
        "model = accelerator.prepare(ours)\n"
        "rank = accelerator.process_index\n"
        "part = slice(3 * rank, 3 * rank + 3)\n"
        "for _ in range(2):\n"
        "    wanted, got = whole(images), model(images[part])\n"
        "    torch.testing.assert_close(got, wanted[part])\n"
        "(wanted * weights).mean().backward(), (got * weights[part]).mean().backward()\n"
        "for one, two in zip(whole.parameters(), ours.parameters()):\n"
        "    torch.testing.assert_close(two.grad, one.grad)\n"
        "for (name, one), two in zip(whole.state_dict().items(), ours.state_dict().values()):\n"
        "    torch.testing.assert_close(two, one, msg=name)\n"
        "torch.testing.assert_close(ours.eval()(images), whole.eval()(images))\n"
        "print('alike')\n"
    )
    done = launched(str(script))
    assert done.returncode == 0 and done.stdout.count("alike") == 2, done.stderr
