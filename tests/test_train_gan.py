import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY_GAN, array
from PIL import Image
from processes import launched
from safetensors.torch import load_file

from autolink.data import load_data
from autolink.generation import gan_progress, train_gan
from autolink.generation.classes import class_names, classes_of
from autolink.generation.gan import Gan
from autolink.generation.gan_data import RELIT, GanData
from autolink.generation.generator import REMEMBERED
from autolink.generation.structures import principal_directions
from autolink.model import AutoLink
from autolink.run_state import RunFolder

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "few_measured")

Options = Callable[..., list[str]]


@pytest.fixture
def few_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_progress, "MEASURED", 8)
    monkeypatch.setattr(gan_progress, "TRIED", 1)


@pytest.fixture
def options(animals: Path, tiny_checkpoint: Path) -> Options:
    def build(out: Path, *more: str) -> list[str]:
        return ["--data", str(animals), "--stage-one", str(tiny_checkpoint), "--out", str(out), *TINY_GAN, *more]

    return build


def test_a_run_leaves_what_it_promises(options: Options, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_gan.run(options(out))
    names = {p.name for p in out.iterdir()}
    assert {"config.json", "versions.json", "metrics.jsonl", "samples", "checkpoints", "model", "tensorboard"} <= names
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4]
    terms = {"generator_loss", "discriminator_loss", "structure_distance", "variety_loss", "appearance_loss"}
    assert terms | {"divergence"} <= logged[0].keys()
    (measured,) = [line for line in lines if "structure_error" in line]
    assert all(measured[name] > 0 for name in ("structure_error", "random_structure_error", "variety", "real_variety"))
    picture = array(out / "samples" / "0000004.png")
    assert picture.shape == (5 * 130, 9 * 130, 3)  # five structures; picture, edge map, seven appearances
    gan = Gan.from_pretrained(out / "model")
    assert gan.config.classes == ("cat", "dog") and gan.config.keypoints == 5 and gan.config.size == 32
    assert gan.generator.structures.shape == (REMEMBERED, 5, 2) and gan.generator.structures.std() > 0
    assert set(gan.generator.structure_classes.tolist()) == {0, 1}
    assert json.loads((out / "config.json").read_text())["model"]["classes"] == ["cat", "dog"]


def test_structures_that_are_drawn_best_are_remembered(
    animals: Path, tiny_gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gan = Gan.from_pretrained(tiny_gan)
    pictures = load_data(str(animals), gan.config.size, "crop")
    data = GanData.find(pictures, gan.config.classes, gan.stage_one, False, torch.device("cpu"))
    wrong = torch.from_numpy(np.random.default_rng(0).random(len(data.classes), np.float32))
    # a "picture" is its structure and how wrong that comes out
    monkeypatch.setattr(gan_progress, "generate", lambda gan, data, rows, noise, batch: torch.from_numpy(rows))
    monkeypatch.setattr(
        gan.stage_one, "keypoints", lambda rows: data.keypoints[0, rows] + wrong[rows][:, None, None], raising=False
    )
    groups, chosen = data.candidates(), gan_progress.faithful_rows(gan, data, 4)
    assert chosen.tolist() == [min(group, key=wrong.__getitem__) for group in groups.tolist()]
    assert set(groups.ravel()) == set(data.train_rows)
    assert sum(len(set(data.classes[group])) > 1 for group in groups) <= 1
    data.remember(gan.generator, gan.stage_one, chosen)
    torch.testing.assert_close(gan.generator.structures, data.keypoints[0, chosen])
    assert gan.generator.structure_classes.tolist() == data.classes[chosen].tolist()


@pytest.mark.parametrize("finer", [False, True])
def test_stopped_and_resumed_equals_uninterrupted(
    finer: bool, options: Options, tiny_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--start-from", str(tiny_gan), "--directions", "3", "--fixed-scales", "1", "--close-up-weight", "1"] * finer
    train_gan.run(options(whole, *more))
    one_step = train_gan.GanTrainer.train_step

    def step(self: train_gan.GanTrainer) -> torch.Tensor:
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(train_gan.GanTrainer, "train_step", step)
        with pytest.raises(SystemExit, match="130"):
            train_gan.run(options(broken, *more))
    assert f"generation/train_gan.py --resume --out {broken}" in capsys.readouterr().out
    assert [p.name for p in RunFolder(broken).checkpoints()] == ["step-0000003"]
    train_gan.run(["--resume", "--out", str(broken)])
    wanted, got = (load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors") for out in (whole, broken))
    assert wanted.keys() == got.keys() and any(name.startswith("discriminator_optimizer.") for name in wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)


def test_it_learns_a_colour(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    for n in range(4):
        Image.new("RGB", (32, 32), (230, 20 + n, 30)).save(tmp_path / "red" / f"{n}.png")
    arguments = ["--data", str(tmp_path / "red"), "--stage-one", str(tiny_checkpoint), *TINY_GAN, "--augment", "0"]

    def colour(steps: int) -> torch.Tensor:
        out = tmp_path / str(steps)
        more = ["--steps", str(steps), "--learning-rate", "5e-3", "--ema", "0.5", "--variety-weight", "0"]
        train_gan.run([*arguments, "--out", str(out), *more])
        gan = Gan.from_pretrained(out / "model")
        return gan.generate(gan.generator.structures[:8], torch.ones(8, 6)).mean((0, 2, 3))

    before, after = colour(1), colour(60)
    assert after[0] - after[1:].mean() > before[0] - before[1:].mean() + 0.3


def test_the_control_trains_without_structure(options: Options, tmp_path: Path) -> None:
    train_gan.run(options(tmp_path / "run", "--no-conditional", "--steps", "2"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "structure_distance" not in lines[0] and "structure_error" in lines[-1]
    assert not Gan.from_pretrained(tmp_path / "run" / "model").config.conditional


def test_without_data_it_learns_from_rendered_animals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autolink.data.ANIMALS_TRAIN", 12)
    monkeypatch.setattr("autolink.data.ANIMALS_TEST", 4)
    train_gan.run(["--out", str(tmp_path / "run"), *TINY_GAN, "--steps", "2"])
    assert "16 pictures of 32 px (8 cat, 8 dog), 4 held out; 16 keypoints" in capsys.readouterr().out
    assert Gan.from_pretrained(tmp_path / "run" / "model").config.classes == ("cat", "dog")


def test_dry_run_tells_and_writes_nothing(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_gan.run(options(tmp_path / "run", "--dry-run"))
    said = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for part in ("24 pictures of 32 px (12 cat, 12 dog)", "M parameters", "minutes for 4 steps"):
        assert part in said


@pytest.mark.parametrize(
    ("names", "classes"),
    [(["a.png", "b.png"], ("all",)), (["cat/a.png", "dog/b.png"], ("cat", "dog")), (["images/a.png"], ("all",)),
     (["cat/a.png", "b.png"], ("all",)), (["dog/x/a.png", "cat/y.png"], ("cat", "dog"))],
)  # fmt: skip
def test_classes_are_subfolders(names: list[str], classes: tuple[str, ...]) -> None:
    assert class_names(names) == classes
    numbers = classes_of(names, classes)
    assert len(numbers) == len(names) and numbers.max() < len(classes)


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--batch", "5"], "--batch must be even"), (["--batch", "2"], "--batch"), (["--edge-size", "12"], "--edge-size"),
     (["--augment", "2"], "--augment"), (["--structure-weight", "-1"], "--structure-weight"),
     (["--preset", "pets-cpu"], "needs --data"), (["--preset", "gpu", "--data", "."], "needs --stage-one"),
     (["--data", "afhq-cat"], "--root"), (["--close-up-weight", "-1"], "--close-up-weight"),
     (["--directions", "3"], "add --start-from"), (["--fixed-scales", "1"], "add --start-from"),
     (["--fixed-scales", "5", "--start-from", "."], "--fixed-scales must leave one")],
)  # fmt: skip
def test_options_that_cannot_be(
    more: list[str], said: str, fails: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    stage_one = [] if "gpu" in more else ["--stage-one", str(tiny_checkpoint)]
    assert said in fails(2, lambda: train_gan.run([*stage_one, *more, "--out", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_faults_of_data_and_stage_one(
    fails: Callable[..., str], options: Options, animals: Path, tmp_path: Path
) -> None:
    arguments = options(tmp_path / "run")
    assert "does not exist" in fails(2, lambda: train_gan.run([*arguments, "--data", str(tmp_path / "no")]))
    assert "no config.json" in fails(1, lambda: train_gan.run([*arguments, "--stage-one", str(tmp_path)]))
    (tmp_path / "one").mkdir()
    shutil.copy(next(animals.rglob("*.png")), tmp_path / "one" / "a.png")
    assert "at least two" in fails(1, lambda: train_gan.run([*arguments, "--data", str(tmp_path / "one")]))
    assert not (tmp_path / "run").exists()


def test_it_begins_with_the_weights_of_another_gan(
    options: Options, fails: Callable[..., str], animals: Path, tiny_checkpoint: Path, tiny_gan: Path, tmp_path: Path
) -> None:
    """With nothing to learn from, the weights stay: all but the class that the other GAN does not know."""
    (tmp_path / "data").mkdir()
    for name, folder in (("dog", "cat"), ("wolf", "dog")):
        (tmp_path / "data" / name).symlink_to(animals / folder)
    still = ["--data", str(tmp_path / "data"), "--learning-rate", "1e-30", "--start-from", str(tiny_gan)]
    out = tmp_path / "run"
    train_gan.run(options(out, *still, "--steps", "2"))
    train_gan.run(["--resume", "--out", str(out)])
    known, learned = (Gan.from_pretrained(folder).generator for folder in (tiny_gan, out / "model"))
    names = known.embedding.weight, learned.embedding.weight
    torch.testing.assert_close(names[1][0], names[0][1])
    assert (names[1][1] - names[0][0]).abs().max() > 0.1
    for name, weight in learned.named_parameters():
        if name != "embedding.weight":
            torch.testing.assert_close(weight, known.get_parameter(name), msg=name)
    assert (learned.structures - known.structures).abs().max() > 0.1
    assert known.encoder and learned.encoder
    torch.testing.assert_close(learned.encoder.mean[0], known.encoder.mean[1], atol=0.05, rtol=0)  # a few pictures on
    torch.testing.assert_close(learned.encoder.mean[1], torch.zeros(6), atol=0.05, rtol=0)

    refused = options(tmp_path / "no", "--start-from", str(tiny_gan))
    assert "--latent 6, here it is 7" in fails(1, lambda: train_gan.run([*refused, "--latent", "7"]))
    narrower = [*refused, "--channels", "8", "8", "6"]
    assert "give those or larger ones, or one more width" in fails(1, lambda: train_gan.run(narrower))
    assert "no checkpoint" in fails(1, lambda: train_gan.run([*refused, "--start-from", str(tmp_path / "none")]))
    assert not (tmp_path / "no").exists()


def test_it_begins_with_a_run_and_its_discriminator(
    options: Options, fails: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ["--steps", "1", "--learning-rate", "1e-30"]
    train_gan.run(options(tmp_path / "first"))
    train_gan.run(options(tmp_path / "same", "--start-from", str(tmp_path / "first"), *still))
    assert "discriminator of --start-from" not in capsys.readouterr().out
    begun = load_file(RunFolder(tmp_path / "first").checkpoints()[-1] / "training.safetensors")
    went_on = load_file(RunFolder(tmp_path / "same").checkpoints()[-1] / "training.safetensors")
    names = [
        n for n in begun if n.startswith("discriminator.") and n.endswith(("original", "bias", "embedding.weight"))
    ]
    assert len(names) > 20
    for name in names:
        torch.testing.assert_close(went_on[name], begun[name], msg=name)
    first = Gan.from_pretrained(tmp_path / "first" / "model").generator
    torch.testing.assert_close(went_on["model.constant"], first.constant.detach())
    closer = options(tmp_path / "closer", "--start-from", str(tmp_path / "first"), *still, "--close-up-weight", "1")
    train_gan.run(closer)
    assert "tensors of the discriminator of --start-from" in capsys.readouterr().out
    (tmp_path / "first" / "model" / "model.safetensors").unlink()
    again = options(tmp_path / "no", "--start-from", str(tmp_path / "first"))
    assert "model.safetensors" in fails(1, lambda: train_gan.run(again))
    assert not (tmp_path / "no").exists()


def test_close_ups_are_learned_from(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_gan, "CLOSE_UPS_FROM", 2)
    for name, more in (("with", ["--close-up-weight", "1"]), ("without", [])):
        train_gan.run(options(tmp_path / name, *more))
    logged = [json.loads(line) for line in (tmp_path / "with" / "metrics.jsonl").read_text().splitlines()]
    assert {"close_up_loss", "close_up_discriminator_loss"} <= logged[0].keys()
    weights = [
        load_file(tmp_path / name / "model" / "model.safetensors")["last.weight"] for name in ("with", "without")
    ]
    assert (weights[0] - weights[1]).abs().max() > 0


def test_fixed_scales_stay_and_finer_ones_learn(options: Options, tiny_gan: Path, tmp_path: Path) -> None:
    train_gan.run(options(tmp_path / "run", "--start-from", str(tiny_gan), "--fixed-scales", "2"))
    train_gan.run(["--resume", "--out", str(tmp_path / "run")])
    known, learned = (Gan.from_pretrained(folder).generator for folder in (tiny_gan, tmp_path / "run" / "model"))
    for name, weight in learned.named_parameters():
        fixed = not name.startswith(("blocks.2.", "blocks.3.", "last."))
        assert torch.equal(weight, known.get_parameter(name)) == fixed, name


def test_structures_are_learned_along_remembered_directions(
    options: Options, fails: Callable[..., str], animals: Path, tiny_gan: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = options(tmp_path / "run", "--start-from", str(tiny_gan), "--directions", "3")
    trainers: list[train_gan.GanTrainer] = []
    begin = train_gan.GanTrainer.__init__

    def noted(self: train_gan.GanTrainer, *given: Any) -> None:
        begin(self, *given)
        trainers.append(self)

    monkeypatch.setattr(train_gan.GanTrainer, "__init__", noted)
    train_gan.run([*asked, "--steps", "2"])
    keypoints = trainers[0].data.keypoints.double().flatten(0, 1).flatten(1)
    mean, axes = principal_directions(Gan.from_pretrained(tiny_gan).generator)
    off = (keypoints.numpy() - mean) @ axes[3:].T
    assert len(axes) > 3 and np.abs(off).max() < 1e-5 and keypoints.std(0).max() > 1e-3
    assert len(principal_directions(Gan.from_pretrained(tmp_path / "run" / "model").generator)[1]) == 3
    assert (tmp_path / "run" / "checkpoints").is_dir()
    many = [*asked[:-1], "40", "--out", str(tmp_path / "no")]
    assert "--directions 40" in fails(2, lambda: train_gan.run(many))
    one = [*asked, "--data", str(animals / "cat"), "--out", str(tmp_path / "no")]
    assert "leave --directions out" in fails(2, lambda: train_gan.run(one))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("width", ["6", "9"])
def test_one_more_width_begins_by_enlarging_the_pictures(
    options: Options, tiny_gan: Path, tmp_path: Path, width: str
) -> None:
    small = Gan.from_pretrained(tiny_gan)
    grown = ["--start-from", str(tiny_gan), "--channels", *map(str, small.config.channels), width]
    out = tmp_path / "run"
    train_gan.run(options(out, *grown, "--steps", "1", "--learning-rate", "1e-30"))
    large = Gan.from_pretrained(out / "model")
    assert large.config.size == 2 * small.config.size
    styles, keypoints = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), small.generator.structures[:3]
    wanted, found = small.generate(keypoints, styles), F.avg_pool2d(large.generate(keypoints, styles), 2)
    assert (found - wanted).abs().mean() < 0.3 * (wanted - wanted.mean()).abs().mean()


def test_one_more_width_may_be_a_narrower_one(options: Options, tiny_gan: Path, tmp_path: Path) -> None:
    known = Gan.from_pretrained(tiny_gan)
    grown = ["--start-from", str(tiny_gan), "--channels", *map(str, known.config.channels), "3"]
    train_gan.run(options(tmp_path / "run", *grown, "--steps", "1", "--learning-rate", "1e-30"))
    last = Gan.from_pretrained(tmp_path / "run" / "model").generator.last.weight
    torch.testing.assert_close(last, known.generator.last.weight[:, :3])


@pytest.mark.parametrize("widths", [["9", "12", "8", "6"], ["9", "12", "8", "6", "4"]])
def test_larger_widths_begin_by_drawing_the_same(
    options: Options, tiny_gan: Path, tmp_path: Path, widths: list[str]
) -> None:
    small = Gan.from_pretrained(tiny_gan)
    begin = ["--start-from", str(tiny_gan), "--channels", *widths]
    train_gan.run(options(tmp_path / "still", *begin, "--steps", "1", "--learning-rate", "1e-30"))
    still = Gan.from_pretrained(tmp_path / "still" / "model")
    assert still.config.channels == tuple(map(int, widths))
    styles, keypoints = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), small.generator.structures[:3]
    wanted, found = small.generate(keypoints, styles), still.generate(keypoints, styles)
    if len(widths) == len(small.config.channels):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        train_gan.run(options(tmp_path / "run", *begin, "--steps", "2"))
        learned = Gan.from_pretrained(tmp_path / "run" / "model").generator
        for name, weight in learned.named_parameters():  # the new channels learn too
            if name.startswith("blocks.1.") and weight.shape != small.generator.get_parameter(name).shape:
                assert (weight[-1] - still.generator.get_parameter(name)[-1]).abs().max() > 0, name
    else:
        difference = F.avg_pool2d(found, 2) - wanted
        assert difference.abs().mean() < 0.3 * (wanted - wanted.mean()).abs().mean()


def test_it_begins_with_a_gan_of_another_stage_one(
    options: Options, tiny_checkpoint: Path, tiny_gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = AutoLink(replace(AutoLink.from_pretrained(tiny_checkpoint).config, keypoints=7))
    more.save_pretrained(tmp_path / "other")
    arguments = options(tmp_path / "run", "--start-from", str(tiny_gan), "--stage-one", str(tmp_path / "other"))
    train_gan.run([*arguments, "--steps", "1", "--learning-rate", "1e-30"])
    assert "was trained with another stage one" in capsys.readouterr().out
    learned = Gan.from_pretrained(tmp_path / "run" / "model").generator
    assert learned.structures.shape == (REMEMBERED, 7, 2)
    known = Gan.from_pretrained(tiny_gan).generator
    torch.testing.assert_close(learned.constant, known.constant)


def test_keypoints_are_found_in_other_lights_too(animals: Path, tiny_checkpoint: Path) -> None:
    stage_one, pictures = AutoLink.from_pretrained(tiny_checkpoint), load_data(str(animals), 32, "stretch")
    classes, device = ("cat", "dog"), torch.device("cpu")
    plain, relit = (GanData.find(pictures, classes, stage_one, True, device, strength) for strength in (0.0, 1.0))
    assert plain.mirrored.tolist() == [False, True] and relit.mirrored.tolist() == [False, True] * (1 + RELIT)
    torch.testing.assert_close(relit.keypoints[:2], plain.keypoints)
    assert all((view - plain.keypoints[n % 2]).abs().max() > 1e-4 for n, view in enumerate(relit.keypoints) if n > 1)
    batch = relit.batch(64, np.random.default_rng(0), torch.device("cpu"))
    assert batch.images.shape == (64, 3, 32, 32) and batch.keypoints.shape == (64, 5, 2)


def test_every_class_is_as_likely_as_any_other() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    data = GanData(
        np.zeros((100, 8, 8, 3), np.uint8), torch.zeros(1, 100, 5, 2), np.array([False]), classes, np.arange(100),
        np.arange(0),
    )  # fmt: skip
    drawn = data.batch(2000, np.random.default_rng(0), torch.device("cpu")).classes
    assert 0.45 < drawn.float().mean() < 0.55


def test_divergence_keeps_the_last_good_checkpoint(
    options: Options, fails: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(train_gan, "variety_loss", lambda first, *_: first.mean() * float("nan"))
    said = fails(1, lambda: train_gan.run(options(out, "--save-minutes", "1e-9")))
    assert "diverged by step" in said
    assert all(
        value.isfinite().all()
        for folder in RunFolder(out).checkpoints()
        for value in load_file(folder / "training.safetensors").values()
    )


def test_changed_data_is_not_gone_on_with(
    options: Options, fails: Callable[..., str], animals: Path, tmp_path: Path
) -> None:
    shutil.copytree(animals, tmp_path / "data")
    out = tmp_path / "run"
    train_gan.run([*options(out), "--data", str(tmp_path / "data"), "--steps", "2"])
    shutil.rmtree(tmp_path / "data" / "dog")
    said = fails(1, lambda: train_gan.run(["--resume", "--out", str(out)]))
    assert "has changed" in said and "12 pictures of all now" in said


@pytest.mark.slow
def test_two_processes_stay_alike(options: Options, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = launched(str(ROOT / "generation" / "train_gan.py"), *options(out))
    assert done.returncode == 0, done.stderr[-2000:]
    assert Gan.from_pretrained(out / "model").config.size == 32
