import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRANSFER, array
from processes import launched
from safetensors.torch import load_file
from test_nested import child_of, parent_model
from test_pairs import write_clip

from autolink.generation import train_transfer
from autolink.generation.nested import LocalTransfer
from autolink.generation.pairs import rendered_views
from autolink.generation.translator import PoseTransfer, Translator
from autolink.generation.translator_config import TranslatorConfig
from autolink.nested import NestedAutoLink
from autolink.run_state import RunFolder

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of five people."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(5):
        write_clip(folder / f"{n}.mp4", 8, n)
    return folder


@pytest.fixture
def options(clips: Path, tiny_checkpoint: Path) -> Callable[..., list[str]]:
    def build(out: Path, *more: str) -> list[str]:
        return ["--data", str(clips), "--stage-one", str(tiny_checkpoint), "--out", str(out), *TINY_TRANSFER, *more]

    return build


def test_a_run_leaves_what_it_promises(options: Callable[..., list[str]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_transfer.run(options(out))
    names = {p.name for p in out.iterdir()}
    assert {"config.json", "versions.json", "metrics.jsonl", "samples", "checkpoints", "model", "tensorboard"} <= names
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    measured = [line for line in lines if "moving_error" in line]
    assert [line["step"] for line in measured] == [6] and 0 < measured[0]["moving_error"] < 1
    picture = array(out / "samples" / "0000006.png")
    assert picture.shape[0] > 6 * 192 and picture.std() > 20
    model = PoseTransfer.from_pretrained(out / "model")
    assert model.transfer(torch.zeros(1, 1, 3, 40, 40), torch.zeros(1, 5, 2)).shape == (1, 3, 32, 32)
    assert json.loads((out / "config.json").read_text())["model"]["keypoints"] == 5  # the stage one's


def test_stopped_and_resumed_equals_uninterrupted(
    options: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_transfer.run(options(whole))
    one_step = train_transfer.TransferTrainer.train_step

    def step(self: train_transfer.TransferTrainer) -> torch.Tensor:
        if self.step == 4:  # the discriminator has begun
            signal.raise_signal(signal.SIGINT)
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(train_transfer.TransferTrainer, "train_step", step)
        with pytest.raises(SystemExit, match="130"):
            train_transfer.run(options(broken))
    assert f"generation/train_transfer.py --resume --out {broken}" in capsys.readouterr().out
    assert [p.name for p in RunFolder(broken).checkpoints()] == ["step-0000005"]
    train_transfer.run(["--resume", "--out", str(broken)])
    wanted, got = (load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors") for out in (whole, broken))
    assert wanted.keys() == got.keys() and any(name.startswith("discriminator_optimizer.") for name in wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)


def test_as_many_steps_as_minutes_allow_and_measuring_leaves_no_trace(
    options: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    now, taken = [0.0], list[int]()
    one_step = train_transfer.TransferTrainer.train_step

    def step(self: train_transfer.TransferTrainer) -> torch.Tensor:
        taken.append(self.step)
        now[0] += 3.0 if self.step >= self.config.steps / 2 else 1.0  # the discriminator's half is dearer
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(train_transfer.TransferTrainer, "train_step", step)
        patch.setattr("autolink.loop.time.monotonic", lambda: now[0])
        train_transfer.run(options(tmp_path / "timed", "--steps", "20", "--minutes", "0.35"))  # 21 s at 2 s a step
    assert json.loads((tmp_path / "timed/config.json").read_text())["steps"] == int(21 * 0.93 / 2) == 9
    assert taken == [*range(5), *range(10, 15), *range(9)]
    train_transfer.run(options(tmp_path / "plain", "--steps", "9"))
    wanted, got = (
        load_file(RunFolder(tmp_path / out).checkpoints()[-1] / "training.safetensors") for out in ("plain", "timed")
    )
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)


def test_it_learns_to_move(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_transfer, "load_views", lambda data, size: rendered_views(12, 4, size))
    arguments = ["--stage-one", str(tiny_checkpoint), "--out", str(tmp_path / "run"), *TINY_TRANSFER]
    train_transfer.run([*arguments, "--steps", "60", "--learning-rate", "3e-3", "--adversarial-weight", "0"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])


def test_dry_run_tells_and_writes_nothing(
    options: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_transfer.run(options(tmp_path / "run", "--dry-run"))
    said = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for part in (
        "5 clips or scenes and 0 single pictures, 1 of them held out",
        "parameters",
        "minutes for 6 steps",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--bones", "0"], "--bones"), (["--adversarial-from", "2"], "--adversarial-from"),
     (["--moved-weight", "-1"], "--moved-weight"), (["--preset", "cpu"], "needs --data")],
)  # fmt: skip
def test_options_that_cannot_be(more: list[str], said: str, fails: Callable[..., str], tmp_path: Path) -> None:
    assert said in fails(2, lambda: train_transfer.run([*more, "--out", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_faults_of_data_and_stage_one(
    fails: Callable[..., str], options: Callable[..., list[str]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = options(tmp_path / "run")
    missing = [*arguments, "--data", str(tmp_path / "no")]
    assert "does not exist" in fails(2, lambda: train_transfer.run(missing))
    other = [*arguments, "--stage-one", str(tmp_path)]
    assert "no config.json" in fails(1, lambda: train_transfer.run(other))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_stay_alike(options: Callable[..., list[str]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = launched(str(ROOT / "generation" / "train_transfer.py"), *options(out, "--batch", "2"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert PoseTransfer.from_pretrained(out / "model").size == 32


def test_trained_on_from_a_checkpoint_with_its_children(
    options: Callable[..., list[str]], tmp_path: Path, fails: Callable[..., str], tiny_checkpoint: Path
) -> None:
    stage_one = parent_model()
    stage_one.save_pretrained(tmp_path / "stage_one")
    own = ["--stage-one", str(tmp_path / "stage_one")]
    train_transfer.run(options(tmp_path / "first", *own))
    known = PoseTransfer.from_pretrained(tmp_path / "first/model")
    known.translator.layout.copy_(torch.tensor([0.25, 0.0, 0.75]))  # framed otherwise than its data
    small = TranslatorConfig(keypoints=3, size=16, bones=2, channels=(4, 4), motion_size=8, motion_channels=(4, 4))
    known.local = LocalTransfer(NestedAutoLink(stage_one, {"part": child_of(stage_one)}), {"part": Translator(small)})
    known.save_pretrained(tmp_path / "known")
    begin = ["--start-from", str(tmp_path / "known"), "--learning-rate", "1e-9"]
    train_transfer.run(options(tmp_path / "second", *own, *begin))
    further = PoseTransfer.from_pretrained(tmp_path / "second/model")
    learned = dict(further.translator.named_parameters())
    for name, value in known.translator.named_parameters():
        torch.testing.assert_close(learned[name], value, atol=1e-6, rtol=0)
    assert further.translator.layout.tolist() == [0.25, 0.0, 0.75]
    assert further.local and list(further.local.parts()[0]) == ["part"]
    third = options(tmp_path / "third", *begin)
    assert "has --bones 4, here it is 3" in fails(1, lambda: train_transfer.run([*third, *own, "--bones", "3"]))
    assert "learned from another stage one" in fails(1, lambda: train_transfer.run(third))
    assert not (tmp_path / "third").exists()
