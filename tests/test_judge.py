import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import array
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from autolink.data.figures import figure_images
from autolink.data.images import load_images
from autolink.errors import UserError
from autolink.eval import judge as judge_command
from autolink.eval import judge_data
from autolink.eval.augment import COVERED, FACE_MIRROR, Augmentation, augment, blurred, covered, moved, recoloured
from autolink.eval.judge_data import figure_data
from autolink.eval.judge_loss import DISTANCE_WEIGHT, TARGET_WIDTH, joint_loss
from autolink.eval.judge_model import NEAR, Judge, JudgeConfig
from autolink.regression import inter_ocular_lengths
from autolink.run_state import RunFolder

ROOT = Path(__file__).resolve().parents[1]
TINY = JudgeConfig(joints=3, size=32, channels=(4, 8, 8))


class Shown(nn.Module):
    """A network that gives the same logits for every picture."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1, -1, -1)


def test_confidence_is_the_share_near_the_joint() -> None:
    judge = Judge(TINY).eval()
    side = TINY.detector.heatmap_size
    logits = torch.full((1, 3, side, side), -40.0)
    logits[0, 0, 2, 5] = 0  # one peak: certain
    logits[0, 1] = 0  # anywhere
    logits[0, 2, 0, 0] = logits[0, 2, -1, -1] = 0  # two corners: the mean lies between, where nothing is
    judge.detector.network = Shown(logits)  # type: ignore[assignment]
    found = judge.find(torch.zeros(2, 3, 50, 40))
    assert found.joints.shape == (2, 3, 2) and found.confidence.shape == (2, 3)
    axis = np.linspace(-1, 1, side)
    np.testing.assert_allclose(found.joints[1].numpy(), [[axis[5], axis[2]], [0, 0], [0, 0]], atol=1e-5)
    around = np.hypot(*np.meshgrid(axis, axis)) < NEAR
    np.testing.assert_allclose(found.confidence[0].numpy(), [1, around.mean(), 0], atol=1e-5)
    judge.config = replace(judge.config, missing_below=0.5)
    assert judge.missing(found.confidence).tolist() == [[False, True, True]] * 2


def naive_loss(heatmaps: np.ndarray, truth: np.ndarray, grid: np.ndarray) -> float:
    width = TARGET_WIDTH * (grid[1, 0] - grid[0, 0])
    losses = []
    for picture, points in zip(heatmaps, truth, strict=True):
        for heatmap, point in zip(picture, points, strict=True):
            if np.isnan(point).any():
                continue
            if np.abs(point).max() > 1:
                losses.append(-np.mean(np.log(heatmap)))
                continue
            target = np.array([np.exp(-((g - point) ** 2).sum() / 2 / width**2) for g in grid])
            found = sum(p * g for p, g in zip(heatmap, grid, strict=True))
            cross_entropy = -(target / target.sum() * np.log(heatmap)).sum()
            losses.append(cross_entropy + DISTANCE_WEIGHT * np.linalg.norm(found - point))
    return float(np.mean(losses))


def test_loss_equals_a_naive_one_and_ignores_what_is_not_annotated() -> None:
    torch.manual_seed(0)
    axis = torch.linspace(-1, 1, 5)
    grid = torch.cartesian_prod(axis, axis).flip(1)
    heatmaps = (torch.randn(2, 4, 25) * 2).log_softmax(2).requires_grad_()
    truth = torch.rand(2, 4, 2) * 1.6 - 0.8
    truth[0, 1] = float("nan")
    truth[1, 2, 0] = 1.3  # outside
    loss = joint_loss(heatmaps, truth, grid)
    expected = naive_loss(heatmaps.detach().exp().numpy(), truth.numpy(), grid.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert heatmaps.grad is not None and torch.isfinite(heatmaps.grad).all()
    assert not heatmaps.grad[0, 1].any() and heatmaps.grad[0, 0].any() and heatmaps.grad[1, 2].any()


def blobs(joints: Tensor, size: int) -> Tensor:
    """A channel a joint, with a smooth spot at it: (B, J, 2) -> (B, J, size, size)."""
    axis = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    return torch.exp(-(grid - joints[:, :, None, None]).square().sum(-1) / 0.01)


def test_joints_move_with_the_picture() -> None:
    joints = torch.tensor([[0.3, -0.2], [-0.3, 0.1], [0.1, 0.4]]).expand(16, -1, -1)
    images = blobs(joints, 64)
    strong = Augmentation(scale=(0.8, 1.2), rotation=0.6, shift=0.2, mirror=(1, 0, 2))
    changed, there = moved(images, joints, strong, torch.Generator().manual_seed(0))
    axis = torch.linspace(-1, 1, 64)
    mass = changed / changed.sum((2, 3), keepdim=True)
    centres = torch.stack([(mass.sum(2) * axis).sum(2), (mass.sum(3) * axis).sum(2)], -1)
    straight = (centres - there).abs().amax((1, 2)) < 0.02
    swapped = (centres[:, [1, 0, 2]] - there).abs().amax((1, 2)) < 0.02  # mirrored: joints 0 and 1 change names
    assert (straight ^ swapped).all() and straight.any() and swapped.any()
    assert (there - joints).abs().amax((1, 2)).min() > 0.02
    unchanged = Augmentation(scale=(1.0, 1.0), rotation=0.0, shift=0.0)
    same, here = moved(images, joints, unchanged, torch.Generator())
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    torch.testing.assert_close(here, joints)


def test_the_face_in_the_mirror() -> None:
    assert [FACE_MIRROR[n] for n in FACE_MIRROR] == list(range(68))
    known = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 30: 30, 31: 35, 36: 45, 39: 42, 41: 46, 40: 47, 37: 44, 48: 54}
    known |= {51: 51, 57: 57, 50: 52, 59: 55, 60: 64, 62: 62, 66: 66, 67: 65, 61: 63}
    assert all(FACE_MIRROR[a] == b and FACE_MIRROR[b] == a for a, b in known.items())


def test_changed_colours_stay_in_range_and_blur_keeps_the_mean() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(64, 3, 64, 64, generator=generator) * 2 - 1
    recolour = recoloured(images, generator)
    assert recolour.abs().max() <= 1 and (recolour - images).abs().mean() > 0.05
    flat = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(blurred(flat, generator), flat, atol=1e-5, rtol=0)
    spread = blurred(images, generator).std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.15 < (spread < 0.95).float().mean() < 0.6 and spread.max() > 0.999  # half are left sharp
    hidden = (covered(images, generator) != images).any(1).flatten(1).any(1).float().mean()
    assert abs(hidden - COVERED) < 0.2
    twice = [augment(images, torch.zeros(64, 1, 2), Augmentation((1, 1), 0, 0), torch.Generator()) for _ in range(2)]
    assert torch.equal(twice[0][0], twice[1][0])


def test_a_judge_is_what_was_saved(tmp_path: Path, tiny_checkpoint: Path) -> None:
    torch.manual_seed(0)
    judge = Judge(replace(TINY, missing_below=0.25, own_error=1.5, own_error_unit="side")).eval()
    judge.save_pretrained(tmp_path / "judge", "a card", half=False)
    again = Judge.from_pretrained(tmp_path / "judge")
    assert again.config == judge.config and not again.training
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(again.joints(images), judge.joints(images))
    pixels = ((images.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    torch.testing.assert_close(judge.find_all(pixels, batch=1).joints, judge.joints(images), atol=0.02, rtol=0)
    with pytest.raises(UserError, match="where a judge of joints is wanted"):
        Judge.from_pretrained(tiny_checkpoint)


def test_figures_are_newly_drawn_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_data, "TEST_FIGURES", 20)
    data = figure_data(16)
    first, second = (data.draw(np.random.default_rng(seed), 2) for seed in (0, 1))
    assert not (first[1] == second[1]).any()
    np.testing.assert_array_equal(first[0], data.draw(np.random.default_rng(0), 2)[0])
    assert not np.isin(first[1][:, 0], data.truth.landmarks[:, 0]).any()


def options(data: Path | str, out: Path, *more: str) -> list[str]:
    tiny = ["--size", "32", "--channels", "4", "8", "8", "--steps", "6", "--batch", "4", "--threads", "1"]
    return ["--data", str(data), "--out", str(out), *tiny, "--log-every", "2", *more]


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_command_trains_and_documents(
    fails: Callable[..., str], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    judge_command.run(options(pictures, out))
    said = capsys.readouterr().out
    assert "8 of 2 other people for the own error" in said and f"done: model in {out / 'model'}" in said
    judge = Judge.from_pretrained(out / "model")
    assert judge.config.joints == 15 and 0 < judge.config.missing_below < 1 and judge.config.own_error > 0
    card = (out / "model" / "README.md").read_text()
    assert all(word in card.lower() for word in ("data", "limits", "command"))
    assert f"{judge.config.own_error:.2f} % of the image side" in card and str(pictures) not in card
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["own_error"] == pytest.approx(judge.config.own_error, abs=1e-5)
    assert array(out / "samples" / "0000006.png").std() > 20
    assert "--overwrite" in fails(2, lambda: judge_command.run(options(pictures, out)))


@pytest.mark.usefixtures("fresh_accelerator")
def test_stopped_and_resumed_equals_uninterrupted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    judge_command.run(options(pictures, whole))
    one_batch = judge_command.JudgeTrainer.train_batch

    def interrupted(self: judge_command.JudgeTrainer, shard: int) -> Tensor:
        if self.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return one_batch(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(judge_command.JudgeTrainer, "train_batch", interrupted)
        with pytest.raises(SystemExit, match="143"):
            judge_command.run(options(pictures, broken))
    judge_command.run(["--resume", "--out", str(broken)])
    wanted, got = (load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors") for out in (whole, broken))
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)


@pytest.mark.usefixtures("fresh_accelerator")
def test_it_learns(pictures: Path, tmp_path: Path) -> None:
    judge_command.run(options(pictures, tmp_path / "run", "--steps", "80", "--save-minutes", "10"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_wrong_input_is_told(fails: Callable[..., str], tmp_path: Path) -> None:
    def said(code: int, *more: str, data: Path | str = "figures") -> str:
        return fails(code, lambda: judge_command.run(options(data, tmp_path / "new", *more)))

    assert "does not exist" in said(2, data=tmp_path / "none")
    assert "--size must be a multiple" in said(2, "--size", "30")
    assert "--channels" in said(2, "--channels", "4")
    assert "--steps must be at least 1" in said(2, "--steps", "0")
    assert "--learning-rate must be above zero" in said(2, "--learning-rate", "0")
    assert "needs --data" in fails(2, lambda: judge_command.run(["--preset", "faces"]))
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert "no landmarks.csv" in said(1, data=tmp_path)
    (tmp_path / "landmarks.csv").write_text("image,identity,split,x0,y0,x1,y1\na.png,,train,1,1,2,2\n")
    assert "to test on" in said(1, data=tmp_path)
    (tmp_path / "landmarks.csv").write_text("image,identity,split,x0,y0\na.png,,train,1,1\n")
    assert "at least two" in said(1, data=tmp_path)
    assert not (tmp_path / "new").exists()


def test_the_bundled_judge_knows_new_figures() -> None:
    judge = Judge.from_pretrained(ROOT / "checkpoints" / "figures-judge")
    images, joints = figure_images(200, seed=123_456, size=64)
    found = judge.find_all(images)
    inside = (np.abs(joints) <= 1).all(2)
    error = np.linalg.norm(found.joints.numpy() - joints, axis=2)[inside].mean() / 2 * 100
    assert error < 1.25 * judge.config.own_error < 2.5
    missing = judge.missing(found.confidence).numpy()
    assert 0.003 < missing[inside].mean() < 0.02
    assert missing[~inside].mean() > 0.5  # a wrist outside the picture
    empty = judge.find(torch.rand(8, 3, 1, 1).expand(-1, -1, 64, 64) * 2 - 1)
    assert judge.missing(empty.confidence).float().mean() > 0.8  # nobody there


def test_the_bundled_judge_of_faces_knows_new_people() -> None:
    folder = os.environ.get("AUTOLINK_TEST_DATA")
    if not folder:
        pytest.skip("AUTOLINK_TEST_DATA names no folder with faces/")
    judge = Judge.from_pretrained(ROOT / "checkpoints" / "faces-judge")
    data = load_images(Path(folder) / "faces", judge.config.size, judge.config.fit)
    assert data.annotation is not None
    rows = np.flatnonzero(data.annotation.annotated & data.annotation.test)[::4]
    truth = data.annotation[rows]
    offsets = (judge.find_all(data.images[rows]).joints.numpy() - truth.landmarks) * truth.pixels[:, None]
    error = (np.linalg.norm(offsets, axis=2).mean(1) / inter_ocular_lengths(truth)).mean() * 100
    assert error < 1.2 * judge.config.own_error < 15


@pytest.mark.parametrize("name", ["figures-judge", "faces-judge"])
def test_bundled_judges_are_small(name: str) -> None:
    folder = ROOT / "checkpoints" / name
    assert (folder / "model.safetensors").stat().st_size < 1_500_000
    card = (folder / "README.md").read_text().lower()
    assert all(word in card for word in ("data", "limits", "command", "own error"))
