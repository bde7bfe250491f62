import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import TINY, array
from processes import launched
from safetensors.torch import load_file

from autolink import AutoLink, train
from autolink.config import PRESETS
from autolink.data.images import load_images
from autolink.edge_map import edge_pairs
from autolink.errors import UsageError
from autolink.run_state import RunFolder, read_run_config
from autolink.trainer import learning_rate, update_average

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def options(pictures: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(pictures), "--out", str(out), *TINY, *more]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: int = signal.SIGINT) -> None:
    """Send a signal, by default that of Ctrl-C, when so many steps are done."""
    one_step = train.Trainer.train_step

    def step(self: train.Trainer) -> torch.Tensor:
        if self.step + 1 == steps:
            signal.raise_signal(number)
        return one_step(self)

    monkeypatch.setattr(train.Trainer, "train_step", step)


def stopped(run: Callable[[], None], number: int = signal.SIGINT) -> None:
    """Run a training that a signal ends after saving."""
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 128 + number


def test_a_run_leaves_what_it_promises(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train.run(options(pictures, out))
    assert {p.name for p in out.iterdir()} == {
        "config.json", "versions.json", "metrics.jsonl", "samples", "checkpoints", "model", "cache", "tensorboard",
        ".lock",
    }  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert [line["step"] for line in lines if "regression_error" in line] == [6]
    picture = array(out / "samples" / "0000006.png")
    assert picture.shape[0] > 5 * 192 and picture.std() > 20
    model = AutoLink.from_pretrained(out / "model")
    assert model.keypoints(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 2)
    assert json.loads((out / "config.json").read_text())["model"]["keypoints"] == 4


def test_stopped_and_resumed_equals_uninterrupted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--relight", "1", "--vignette", "0.8", "--local-contrast", "--equivariance", "0.5"]
    train.run(options(pictures, whole, *more))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        stopped(lambda: train.run(options(pictures, broken, *more)))
    assert f"--resume --out {broken}" in capsys.readouterr().out
    assert [p.name for p in RunFolder(broken).checkpoints()] == ["step-0000003"]
    train.run(["--resume", "--out", str(broken)])
    wanted, got = (load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors") for out in (whole, broken))
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_save_too(name: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    with monkeypatch.context() as patch:
        stop_after(patch, 3, number)
        stopped(lambda: train.run(options(pictures, tmp_path)), number)
    assert [p.name for p in RunFolder(tmp_path).checkpoints()] == ["step-0000003"]


def test_a_signal_that_is_ignored_stays_ignored(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            stop_after(patch, 3, signal.SIGHUP)
            train.run(options(pictures, tmp_path))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [p.name for p in RunFolder(tmp_path).checkpoints()] == ["step-0000006"]


def test_training_learns_to_rebuild(pictures: Path, tmp_path: Path) -> None:
    train.run(options(pictures, tmp_path / "run", "--steps", "60", "--learning-rate", "3e-3"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_dry_run_tells_and_writes_nothing(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.run(options(pictures, tmp_path / "run", "--dry-run"))
    said = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for part in ("16 pictures to train on, 8 held out", "parameters", "minutes for 6 steps", '"keypoints": 4'):
        assert part in said


def test_test_people_are_not_trained_on(pictures: Path, tmp_path: Path) -> None:
    from accelerate import Accelerator

    from autolink.data import load_data

    config = train.parse_config(options(pictures, tmp_path))
    data = load_data(config.data, 32, "stretch")
    trainer = train.Trainer(config, Accelerator(), data)
    assert data.annotation is not None
    assert set(data.annotation.identity[trainer.train_rows]) == {"p2", "p3", "p4", "p5"}
    drawn, _ = train.draw_batch(data.images, trainer.train_rows, config, 0, 0)
    known = {data.images[n].tobytes() for n in trainer.train_rows}
    known |= {np.ascontiguousarray(data.images[n][:, ::-1]).tobytes() for n in trainer.train_rows}
    assert all(image.numpy().tobytes() in known for image in drawn)


def test_batches_follow_from_seed_step_and_process(pictures: Path, tmp_path: Path) -> None:
    config = train.parse_config(options(pictures, tmp_path))
    images, rows = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8), np.arange(9)
    first = train.draw_batch(images, rows, config, 4, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, train.draw_batch(images, rows, config, 4, 0), strict=True))
    for step, rank in ((5, 0), (4, 1)):
        assert not torch.equal(first[1], train.draw_batch(images, rows, config, step, rank)[1])
    masks = torch.cat([train.draw_batch(images, rows, config, step, 0)[1] for step in range(200)])
    assert 1 - masks.mean().item() == pytest.approx(config.masked, abs=0.01)


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    config = train.parse_config(["--steps", "1000", "--decay-share", "0.4", "--learning-rate", "1e-3"])
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-5) and rates[1000] == 0
    assert rates[100] == rates[600] == pytest.approx(1e-3) and rates[800] == pytest.approx(5e-4)


def test_average_follows_the_weights() -> None:
    model, average = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    assert model.num_batches_tracked is not None and average.num_batches_tracked is not None
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.num_batches_tracked.fill_(7)
    for step in range(2000):
        update_average(average, model, 0.99, step)
    assert average.weight.item() == pytest.approx(5.0, abs=1e-3) and average.num_batches_tracked.item() == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keypoints", "1"], "--keypoints"),
        (["--thickness", "0"], "--thickness"),
        (["--steps", "0"], "--steps"),
        (["--masked", "1.5"], "--masked"),
        (["--relight", "1.5"], "--relight"),
        (["--vignette", "-1"], "--vignette"),
        (["--equivariance", "-1"], "--equivariance"),
        (["--preset", "faces-cpu"], "--data FOLDER"),
        (["--resume", "--out", "nowhere/at/all"], "there is no run"),
    ],
)
def test_impossible_options_are_told(
    fails: Callable[..., str], arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in fails(2, lambda: train.run(arguments))


def test_it_begins_with_the_weights_of_another_model(
    fails: Callable[..., str], pictures: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing to learn, what it is given stays, at another size and with more keypoints; resumed or not."""
    known = AutoLink.from_pretrained(tiny_checkpoint)
    K, out = known.config.keypoints, tmp_path / "run"
    still = ["--start-from", str(tiny_checkpoint), "--keypoints", str(K + 2), "--learning-rate", "1e-30",
             "--weight-decay", "0", "--size", "64", "--local-contrast"]  # fmt: skip
    train.run([*options(pictures, out), *still, "--edge-learning-rate-scale", "32"])
    assert "trained without --local-contrast, unlike this one" in capsys.readouterr().out
    learned = AutoLink.from_pretrained(out / "model")
    between_known = [n for n, (i, j) in enumerate(edge_pairs(K + 2).T.tolist()) if max(i, j) < K]
    torch.testing.assert_close(learned.edge_weights[between_known], known.edge_weights)
    for name, weight in known.named_parameters():
        if name != "edge_logits":
            own = learned.get_parameter(name)
            torch.testing.assert_close(own[: len(weight)] if weight.ndim else own, weight, msg=name)

    resumed = train.Trainer(
        read_run_config(PRESETS["figures"], out), Accelerator(cpu=True), load_images(pictures, 64, "stretch")
    )
    pull = resumed.raw.detector.log_prior.abs().sum(1)
    assert (pull > 0).tolist() == [False] * K + [True] * 2  # only the new ones

    refused = options(pictures, tmp_path / "no", "--start-from", str(tiny_checkpoint))
    for more, said in (
        (["--keypoints", "3"], "--keypoints 5, more than the 3 here"),
        (["--sharpness", "2"], "has --sharpness 3.0, here it is 2.0"),
        (["--start-from", str(tmp_path)], "no config.json"),
    ):
        assert said in fails(1, lambda more=more: train.run([*refused, *more]))
    assert not (tmp_path / "no").exists()


def test_wrong_data_is_told(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "does not exist" in fails(2, lambda: train.run(options(tmp_path / "no", tmp_path / "run")))
    assert "holds no pictures and no videos" in fails(
        1, lambda: train.run(options(tmp_path / "empty", tmp_path / "run"))
    )
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_or_shared(fails: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train.run(options(pictures, out))
    assert "--resume continues it" in fails(2, lambda: train.run(options(pictures, out)))
    changed = ["--resume", "--out", str(out), "--keypoints", "5"]
    assert "--keypoints is 4" in fails(2, lambda: train.run(changed))
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    assert "holds files that are no run" in fails(2, lambda: train.run(options(pictures, other, "--overwrite")))
    (other / "config.json").write_text('{"my": "web app"}')
    assert "holds files that are no run" in fails(2, lambda: train.run(options(pictures, other, "--overwrite")))
    assert (other / "letter.txt").read_text() == "dear"
    folder = RunFolder(out)
    folder.open(train.parse_config(["--resume", "--out", str(out)]))
    try:
        assert "in use by another training" in fails(1, lambda: train.run(["--resume", "--out", str(out)]))
    finally:
        folder.close()
    newest = folder.checkpoints()[-1] / "training.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert "is damaged" in fails(1, lambda: train.run(["--resume", "--out", str(out)]))


def test_a_start_that_fails_leaves_the_old_run(fails: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train.run(options(pictures, out))
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "landmarks.csv").write_text("image,identity,split\n")
    assert "must begin with" in fails(1, lambda: train.run(options(data, out, "--overwrite")))
    assert all(p.read_bytes() == content for p, content in before.items())
    assert "must begin with" in fails(1, lambda: train.run(options(data, tmp_path / "new")))
    assert not (tmp_path / "new").exists()
    (data / "landmarks.csv").write_text(
        "image,identity,split,x0,y0\n" + "".join(f"{n:02}.png,a,test,1,1\n" for n in range(24))
    )
    assert "none is left to train on" in fails(1, lambda: train.run(options(data, tmp_path / "new")))
    train.run(options(pictures, out, "--overwrite", "--seed", "3"))
    assert json.loads((out / "config.json").read_text())["seed"] == 3


def test_divergence_keeps_the_last_good_checkpoint(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        stopped(lambda: train.run(options(pictures, out)))
    update = train.Trainer.update

    def spoiled(self: train.Trainer, loss: torch.Tensor) -> None:
        update(self, loss)
        next(self.raw.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(train.Trainer, "update", spoiled)
    monkeypatch.setattr(train, "reconstruction_loss", lambda output, *_: output.keypoints.sum().nan_to_num())
    said = fails(1, lambda: train.run(["--resume", "--out", str(out), "--log-every", "100"]))
    assert "diverged" in said and "--resume" in said
    assert [p.name for p in RunFolder(out).checkpoints()] == ["step-0000003"]
    assert AutoLink.from_pretrained(out / "model").keypoints(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_resume_bears_damage_of_what_it_does_not_need(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(pictures, data)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        stopped(lambda: train.run(options(data, out)))
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    array_file = next((out / "cache").glob("*.npy"))
    array_file.write_bytes(array_file.read_bytes()[:500])
    (out / "checkpoints" / ".step-0000004.part-00000000-1-ab").mkdir()  # of another machine
    (data / "images" / "00.png").rename(tmp_path / "00.png")
    assert "has changed since" in fails(1, lambda: train.run(["--resume", "--out", str(out)]))
    (tmp_path / "00.png").rename(data / "images" / "00.png")
    monkeypatch.chdir(data)  # the data's path is the run's own, from anywhere
    train.run(["--resume", "--out", str(out)])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    assert not list((out / "checkpoints").glob(".*"))


def test_full_disk_leaves_no_half_checkpoint(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "training.safetensors")

    monkeypatch.setattr("autolink.run_state.save_tensors", full)
    said = fails(1, lambda: train.run(options(pictures, tmp_path / "run")))
    assert "No space left" in said
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_two_processes_train_as_one(pictures: Path, tmp_path: Path) -> None:
    """Two processes on gloo see different pictures and end with the same weights."""
    out = tmp_path / "run"
    done = launched(str(ROOT / "train_autolink.py"), *options(pictures, out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: model in") == 1
    alone = tmp_path / "alone"
    train.run(options(pictures, alone))
    two, one = (load_file(RunFolder(p).checkpoints()[-1] / "training.safetensors") for p in (out, alone))
    assert any(not torch.equal(two[name], one[name]) for name in one)  # twice the pictures a step


def test_presets_are_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.parse_config(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "paper-k8" in said and "--keypoints" in said and "--resume" in said
    about = said[: said.index("data options")]
    assert about.count("accelerate launch train_autolink.py") == 2 and "faces-cpu: " in about
    titles = ["data", "model", "loss", "optimiser", "compute", "logging", "run"]
    places = [said.index(f" {title} options") for title in titles]
    assert places == sorted(places) and places[3] < said.index("--steps") < places[4]
    assert "--known-keypoints" not in said


def test_an_unknown_preset_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.parse_config(["--preset", "nothing"])
    assert stop.value.code == 2
    assert "figures" in capsys.readouterr().err


def test_resume_restores_the_runs_own_configuration(pictures: Path, tmp_path: Path) -> None:
    train.run(options(pictures, tmp_path / "run"))
    config = train.parse_config(["--resume", "--out", str(tmp_path / "run")])
    assert config.model.keypoints == 4 and config.steps == 6 and config.resume
    with pytest.raises(UsageError, match="--seed is 0"):
        train.parse_config(["--resume", "--out", str(tmp_path / "run"), "--seed", "3"])


def test_unreadable_pictures_leave_no_run_folder(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"bad")
    assert "can be read" in fails(1, lambda: train.run(options(tmp_path / "data", tmp_path / "run")))
    assert not (tmp_path / "run").exists()
