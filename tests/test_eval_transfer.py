import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import figures_in
from PIL import Image
from torch import Tensor

from autolink import AutoLink
from autolink.data.figures import figure_clip, figure_images
from autolink.errors import UserError
from autolink.eval import transfer
from autolink.eval.clips import FIRST_FIGURE, figure, is_clips, load_clips, spread_pairs, video_clip
from autolink.eval.judge_model import Found, Judge, JudgeConfig
from autolink.eval.measure import ARMS, BareNetwork, Evaluation, Mean, Measurements, Rulers, Table, measure
from autolink.eval.metrics import (
    FeatureDistance,
    l1,
    nearest_identity,
    optical_flow,
    ssim,
    warp,
    warping_error,
)  # fmt: skip
from autolink.eval.results import Figure
from autolink.eval.transfer import SHEET_ROWS, TransferConfig
from autolink.eval.transfer_figures import figures
from autolink.generation.moving import moving, moving_l1
from autolink.generation.translator import PoseTransfer, Translator
from autolink.generation.translator_config import TranslatorConfig
from autolink.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


def random_images(count: int, size: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def features() -> FeatureDistance:
    return FeatureDistance(CPU)


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Untrained, but one whose joints depend on the picture."""
    torch.manual_seed(0)
    return Judge(JudgeConfig(size=32, channels=(4, 8, 8))).eval()


def naive_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Window by window, as the formula reads; (H, W, 3) in [0, 1]."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for channel in range(3):
        for y in range(a.shape[0] - 10):
            for x in range(a.shape[1] - 10):
                p, q = (image[y : y + 11, x : x + 11, channel] for image in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return float(np.mean(values))


def test_ssim_equals_a_naive_one() -> None:
    a, b = random_images(2, 16), 0.6 * random_images(2, 16) + 0.4 * random_images(2, 16, seed=1)
    found = ssim(a, b)
    for n in range(2):
        x, y = (((t[n].permute(1, 2, 0) + 1) / 2).numpy().astype(np.float64) for t in (a, b))
        assert found[n].item() == pytest.approx(naive_ssim(x, y), abs=1e-6)
    torch.testing.assert_close(ssim(b, a), found)
    torch.testing.assert_close(ssim(a, a), torch.ones(2))


def test_error_on_moving_pixels_is_one_sum_over_another() -> None:
    """The formula of the first experiments, with all frames together."""
    source, real, made = (random_images(4, 12, seed) for seed in range(3))
    real[:, :, 3:] = source[:, :, 3:]  # only the upper quarter moves
    real[3] = source[3]
    foreground = ((real - source).abs().mean(1, keepdim=True) > 0.1).float()
    expected = (((made - real).abs() * foreground).sum() / foreground.sum() / 3).item() / 2
    table = Table()
    table.add({"moving": moving_l1(made, real, source).numpy()}, {"moving": moving(real, source).sum((1, 2)).numpy()})
    assert table.summary()["moving"].value == pytest.approx(expected, rel=1e-5)
    assert torch.isnan(moving_l1(made, real, source)[3])
    moved_only = made.clone()
    moved_only[:, :, 3:] = 0
    torch.testing.assert_close(moving_l1(moved_only, real, source)[:3], moving_l1(made, real, source)[:3])
    assert l1(made, real)[0].item() == pytest.approx((made[0] - real[0]).abs().mean().item() / 2)


def test_table_spreads_over_clips() -> None:
    table = Table()
    table.add({"a": np.array([1.0, 3.0]), "b": np.array([np.nan, np.nan])})
    table.add({"a": np.array([np.nan, 5.0]), "b": np.array([np.nan, np.nan])})
    assert table.summary() == {"a": Mean(3.0, 1.5)}


def textured(size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def test_flow_finds_a_shift_and_moving_along_it_leaves_no_error() -> None:
    big = textured(80)
    first, second = big[8:72, 8:72], big[6:70, 5:69]  # what was at (x, y) is at (x + 3, y + 2)
    flow, relied = optical_flow(first, second)
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(np.median(flow[inner], (0, 1)), [-3, -2], atol=0.15)
    assert relied[inner].mean() > 0.95
    still = np.zeros_like(flow)
    everywhere = np.ones_like(relied)
    difference = np.abs(first.astype(float) - second).mean() / 255
    assert warping_error(first, second, still, everywhere) == pytest.approx(difference, rel=1e-5)
    assert warping_error(first, second, flow, relied) < 0.2 * difference
    exact = np.broadcast_to(np.array([-3, -2], np.float32), flow.shape)
    np.testing.assert_array_equal(warp(first, exact)[2:, 3:], second[2:, 3:])
    assert np.isnan(warping_error(first, second, flow, np.zeros_like(relied)))


def test_what_is_uncovered_is_not_relied_on() -> None:
    first = textured().copy()
    second = first.copy()
    first[20:44, 8:32], second[20:44, 32:56] = (255, 0, 0), (255, 0, 0)  # a square jumps by its own width
    _, relied = optical_flow(first, second)
    assert relied[:16].mean() > 0.95 > relied[20:44, 8:56].mean() + 0.2


def test_nearest_identity_divides_by_the_spread_within_people() -> None:
    rng = np.random.default_rng(0)
    references = rng.normal(size=(4, 6, 5)) + rng.normal(size=(4, 1, 5)) * 2
    references[..., 0] = rng.normal(size=(4, 6)) * 100  # a dimension that changes with everything but the person
    signatures = references.mean(1) + rng.normal(size=(4, 5)) * [100, 0.3, 0.3, 0.3, 0.3]
    expected = []
    for signature in signatures:
        scores = []
        for person in references:
            parts = [
                (signature[d] - person[:, d].mean()) ** 2 / np.mean([p[:, d].var() for p in references])
                for d in range(5)
            ]
            scores.append(sum(parts))
        expected.append(int(np.argmin(scores)))
    assert nearest_identity(signatures, references).tolist() == expected
    assert nearest_identity(references.mean(1), references).tolist() == [0, 1, 2, 3]


def test_feature_distance_does_not_depend_on_the_batch(features: FeatureDistance) -> None:
    a, b = random_images(3, 32), random_images(3, 32, seed=1)
    together = features(a, b)
    alone = torch.cat([features(a[n : n + 1], b[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert features(a, a).abs().max() == 0 and together.min() > 0.1


def test_signatures_are_read_at_the_joints(features: FeatureDistance) -> None:
    """Painting over what lies far from a place doesn't change what is read there."""
    images = random_images(1, 64)
    painted = images.clone()
    painted[..., 40:] = 1
    left, right = (torch.tensor([[[x, 0.0]]]) for x in (-0.8, 0.8))
    torch.testing.assert_close(features.at(images, left), features.at(painted, left), rtol=0.05, atol=0.05)
    assert (features.at(images, right) - features.at(painted, right)).abs().max() > 0.5


class Told:
    """A judge that sees what it was told, picture after picture."""

    def __init__(self, *found: Found) -> None:
        self.found = list(found)

    def find(self, images: Tensor) -> Found:
        return self.found.pop(0)

    def missing(self, confidence: Tensor) -> Tensor:
        return confidence < 0.5


def test_joint_measures_by_hand(features: FeatureDistance) -> None:
    truth = np.zeros((1, 15, 2), np.float32)
    truth[0, 14] = 3.0  # outside the picture
    here, there = torch.zeros(1, 15, 2), torch.zeros(1, 15, 2)
    here[0, :, 0], there[0, :, 1] = 0.06, 0.08
    here[0, ARMS, 0] = 0.30
    sure, unsure = torch.ones(1, 15), torch.ones(1, 15)
    unsure[0, :3] = 0.1  # generated: three joints missing
    sure[0, 0] = 0.1  # real: one of them is missing there, too
    rulers = Rulers(features, None, Told(Found(here, unsure), Found(there, sure)))  # type: ignore[arg-type]
    found = rulers.joints(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), truth)
    assert len(ARMS) == 4
    expected = {
        "akd_percent_of_side": (10 * 5.0 + 4 * 50 * (0.3**2 + 0.08**2) ** 0.5) / 14,
        "mkr_percent": 2 / 14 * 100,
        "real_missing_percent": 1 / 15 * 100,
        "joint_error_percent_of_side": (10 * 3.0 + 4 * 15.0) / 14,
        "joint_error_arms_percent_of_side": 15.0,
        "judge_own_error_percent_of_side": 4.0,
        "judge_own_error_arms_percent_of_side": 4.0,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-5), name


def test_the_mouth_counts_by_its_shape_alone(features: FeatureDistance) -> None:
    """Eyes 0.5 apart, half of the side being 1; the whole face shifted, and the lower lip opened by 0.1."""
    there = torch.zeros(1, 68, 2)
    there[0, 42:48, 0] = 0.5
    here = there + 0.2
    here[0, 57] += torch.tensor([0.0, 0.1])
    sure = torch.ones(1, 68)
    rulers = Rulers(features, None, Told(Found(here, sure), Found(there, sure)))  # type: ignore[arg-type]
    found = rulers.joints(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), None)
    expected = (19 * 0.1 / 20 + 0.1 * 19 / 20) / 20 / 0.5 * 100  # the centre moves by a twentieth of it
    assert found["mouth_percent_of_inter_ocular"][0] == pytest.approx(expected, rel=1e-4)


class Fake:
    """A transfer whose keypoints number the drivers, so that a test can decide what it makes of them."""

    size = 32

    def __init__(self, made: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.made, self.stage_one = made, self

    def keypoints(self, images: Tensor) -> Tensor:
        self.drivers = images
        return torch.arange(len(images)).float().view(-1, 1, 1).expand(-1, 4, 2)

    def draw(self, keypoints: Tensor, size: int) -> Tensor:
        return torch.ones(len(keypoints), 1, size, size)

    def transfer(self, sources: Tensor, driving: Tensor) -> Tensor:
        assert sources.shape == (len(driving), 1, 3, 32, 32)
        return self.made(sources[:, 0], self.drivers[driving[:, 0, 0].long()])


def figures_of(made: Callable[[Tensor, Tensor], Tensor], features: FeatureDistance, judge: Judge) -> Measurements:
    clips = list(load_clips("figures", 3, 4, 32, 0))
    fake: Any = Fake(made)
    evaluation = Evaluation(fake, Rulers(features, None, judge), CPU, BareNetwork(CPU))
    found, sheet = measure(evaluation, clips, True, lambda: None)
    assert len(sheet) == 3 and all(len(column) == len(SHEET_ROWS) for column in sheet)
    return found


def test_a_transfer_that_copies_scores_what_copying_scores(features: FeatureDistance, judge: Judge) -> None:
    found = figures_of(lambda source, driver: source, features, judge)
    tables = found.tables
    assert tables["self"] == tables["self_copy"] and tables["cross"] == tables["cross_copy"]
    assert tables["self"]["moving_l1"].value > tables["self"]["l1"].value > 0
    assert found.appearance and found.appearance.generated == found.appearance.copy
    assert found.driver_gap["percent_of_side"].value > 0.5


def test_a_transfer_that_shows_the_driver(features: FeatureDistance, judge: Judge) -> None:
    """Perfect where the source drives itself; across people it has the wrong one."""
    found = figures_of(lambda source, driver: driver, features, judge)
    own, copied, cross = (
        {key: mean.value for key, mean in found.tables[name].items()} for name in ("self", "self_copy", "cross")
    )
    for name in ("l1", "moving_l1", "efficientnet_lite0_distance", "akd_percent_of_side", "mkr_percent"):
        assert own[name] == pytest.approx(0, abs=1e-6), name
    assert own["ssim"] == pytest.approx(1, abs=1e-6) and own["flicker_over_real"] == pytest.approx(1)
    for part in ("", "_arms"):
        judged = own[f"judge_own_error{part}_percent_of_side"]
        assert own[f"joint_error{part}_percent_of_side"] == pytest.approx(judged)
    assert copied["moving_l1"] > 0.05 and cross["moving_l1"] > 0.05
    assert found.appearance and found.appearance.generated_as_driver > 66 and found.appearance.generated < 20
    assert found.appearance.people == 3


def test_figures_stand_beside_copying_the_source(features: FeatureDistance, judge: Judge) -> None:
    found = figures_of(lambda source, driver: driver, features, judge)
    made = partial(Figure, data="figures", count=12, samples="frames")
    by_key = {figure.key: figure for figure in figures(found, made, "a judge", "users")}
    moving = by_key["self.moving_l1"]
    copied = found.tables["self_copy"]["moving_l1"]
    assert (moving.baseline, moving.baseline_name) == (copied.value, "copying the source")
    assert moving.spread == found.tables["self"]["moving_l1"].spread and moving.spread_over == "clips"
    assert by_key["cross.akd_percent_of_side"].measured_by == "a judge" and moving.measured_by == ""
    assert by_key["self.real_missing_percent"].baseline is None  # copying changes nothing of real frames
    assert by_key["appearance.real_percent"].baseline == pytest.approx(100 / 3)
    assert all(figure.protocol.endswith(".") for figure in by_key.values())


def test_the_cross_truth_is_the_source_in_the_drivers_motion() -> None:
    source, driver = figure(FIRST_FIGURE, 3, 32), figure(FIRST_FIGURE + 1, 3, 32)
    truth = figure(source.seed, 3, 32, driver.seed)
    images, joints = figure_clip(50, source.seed, 32, driver.seed)
    np.testing.assert_array_equal(truth.frames, images[[[1, 2], [24, 25], [48, 49]]])
    assert truth.joints is not None
    np.testing.assert_array_equal(truth.joints[1, 0], joints[24])


@pytest.mark.parametrize(("length", "count"), [(3, 10), (50, 10), (50, 2), (10, 200)])
def test_pairs_are_spread_over_the_clip(length: int, count: int) -> None:
    pairs = spread_pairs(length, count)
    assert (pairs[:, 1] - pairs[:, 0] == 1).all() and (np.diff(pairs[:, 0]) > 0).all()
    assert pairs.min() == 1 and pairs.max() == length - 1 and len(pairs) == min(count, length - 2)


def write_video(path: Path, frames: np.ndarray) -> None:
    with VideoWriter(path, Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for n, length in enumerate((8, 5)):
        square = figure_clip(length, n, 64)[0]
        write_video(folder / f"{n}.mp4", np.pad(square, ((0, 0), (0, 0), (16, 16), (0, 0))))
    return folder


def test_videos_are_read_by_their_central_square(videos: Path, fails: Callable[..., str]) -> None:
    clip = video_clip(videos / "0.mp4", 3, 32)
    truth = figure_clip(8, 0, 32)[0]
    assert clip.frames.shape == (3, 2, 32, 32, 3) and clip.joints is None
    assert np.abs(clip.source.astype(float) - truth[0]).mean() < 12
    assert np.abs(clip.frames[-1, 1].astype(float) - truth[7]).mean() < 12
    write_video(videos.parent / "short.mp4", truth[:3])
    assert "at least 4" in fails(1, lambda: video_clip(videos.parent / "short.mp4", 3, 32))


def test_pictures_are_read_scene_by_scene_of_people_kept_for_testing(scenes: Path) -> None:
    clips = list(load_clips(str(scenes), 9, 3, 48, 0))
    assert [clip.name for clip in clips] == ["identity p0", "identity p1"] and is_clips(str(scenes))
    truth = figure_clip(10, 1, 48)[0]
    np.testing.assert_array_equal(clips[1].source, truth[0])
    np.testing.assert_array_equal(clips[1].frames, truth[[[1, 2], [4, 5], [8, 9]]])
    assert len(list(load_clips(str(scenes), 1, 3, 48, 0))) == 1


def test_of_a_person_the_longest_scene_is_taken(scenes: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    """A person's second scene has one picture fewer; people of three pictures are left out."""
    header, *rows = (scenes / "landmarks.csv").read_text().splitlines()
    as_one = (
        {"00": "p0", "01": "p0", "02": "p0", "03": "p0"}
        | {f"1{n}": "p0" for n in range(5)}
        | {f"2{n}": "p2" for n in range(3)}
    )
    chosen = {name: row for row in rows if (name := row[:2]) in as_one}
    for name in chosen:
        (tmp_path / f"{name}.png").symlink_to(scenes / f"{name}.png")
    told = [f"{name}.png,{as_one[name]},test," + row.split(",", 3)[3] for name, row in chosen.items()]
    (tmp_path / "landmarks.csv").write_text("\n".join([header, *told]))
    (clip,) = load_clips(str(tmp_path), 9, 9, 48, 0)
    assert clip.name == "identity p0"
    np.testing.assert_array_equal(clip.source, figure_clip(10, 1, 48)[0][0])
    (tmp_path / "landmarks.csv").write_text("\n".join([header, *told[:2]]))
    assert "holds out no person" in fails(1, lambda: load_clips(str(tmp_path), 9, 9, 48, 0))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, judge: Judge) -> Path:
    """An untrained transfer and its untrained judge, 32 px."""
    from autolink import ModelConfig

    folder = tmp_path_factory.mktemp("transfer")
    torch.manual_seed(0)
    model = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    config = TranslatorConfig(keypoints=5, size=32, bones=4, channels=(4, 8), motion_size=16, motion_channels=(4, 8))
    PoseTransfer(AutoLink(model), Translator(config)).save_pretrained(folder / "transfer")
    judge.save_pretrained(folder / "judge", "card")
    return folder


@pytest.mark.parametrize("data", ["figures", "videos"])
def test_the_command_reports_everything(data: str, videos: Path, checkpoints: Path, tmp_path: Path) -> None:
    """Run as a file from another folder, as a user would."""
    options = ["--judge", str(checkpoints / "judge"), "--clips", "2", "--frames", "2", "--device", "cpu"]
    options += ["--size", "48"] if data == "figures" else ["--protocol", "network"]
    options += ["--json", "figures.json", "--sheet", "sheet.png"]
    source, side = ("figures", 48) if data == "figures" else (str(videos), 32)
    script = [sys.executable, str(ROOT / "eval" / "transfer.py"), "--checkpoint", str(checkpoints / "transfer")]
    done = subprocess.run(
        [*script, "--data", source, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert {"versions", "judge", "checkpoint", "data", "seed", "notes", "pictures"} <= found.keys()
    measured = figures_in(tmp_path / "figures.json")
    assert {(f.count, f.samples) for f in measured.values()} == {(4, f"frames of 2 clips, {side} px")}
    told = ("l1", "moving_l1", "ssim", "akd_percent_of_side", "mkr_percent", "flicker_over_real")
    assert {f"self.{name}" for name in told} <= measured.keys()
    assert (measured["self.akd_percent_of_side"].value or 0) > 0 and "self.lpips" not in measured
    known = {"cross.joint_error_percent_of_side", "cross.moving_l1", "cross.driver_percent_of_side"}
    assert known <= measured.keys() if data == "figures" else not known & measured.keys()
    assert measured["cross.akd_percent_of_side"].baseline is not None
    rows = len(SHEET_ROWS) - (data == "videos")
    shown = 128 // side * side + 2
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape == (rows * shown, 2 * shown, 3)
    assert all(f.shown_value in done.stdout and f.label in done.stdout for f in measured.values())


def test_wrong_input_is_told(fails: Callable[..., str], checkpoints: Path, tmp_path: Path, judge: Judge) -> None:
    def said(code: int, **options: object) -> str:
        given = {"checkpoint": str(checkpoints / "transfer"), "judge": "none", "device": "cpu", **options}
        return fails(code, lambda: transfer.run(TransferConfig(**given)))  # type: ignore[arg-type]

    assert "no checkpoint" in said(1, checkpoint=str(tmp_path / "none"))
    assert "no folder" in said(1, data=str(tmp_path / "none"))
    assert "no videos" in said(1, data=str(tmp_path))
    assert "--clips" in said(2, clips=1)
    assert "--frames" in said(2, frames=1)
    assert ".png" in said(2, sheet=tmp_path / "sheet.jpg")
    assert "does not exist" in said(2, json=tmp_path / "no" / "x.json")
    (tmp_path / "x.json").write_text("mine")
    assert "--overwrite" in said(2, json=tmp_path / "x.json")
    Judge(JudgeConfig(joints=3, size=32, channels=(4, 8, 8))).save_pretrained(tmp_path / "three", "card")
    assert "3 joints" in said(1, judge=str(tmp_path / "three"))
    write_video(tmp_path / "only.mp4", figure_images(4, 0, 32)[0])
    assert "one clip" in said(1, data=str(tmp_path))


def test_without_a_judge_pictures_are_still_measured(checkpoints: Path, tmp_path: Path) -> None:
    given = TransferConfig(
        str(checkpoints / "transfer"), "figures", tmp_path / "x.json", judge="none", clips=2, frames=2
    )
    transfer.run(given)
    found = figures_in(tmp_path / "x.json")
    assert "self.l1" in found and "self.akd_percent_of_side" not in found
    assert found["appearance.generated_percent"].measured_by == "efficientnet-lite0"
    with pytest.raises(UserError, match="exists"):
        TransferConfig("any", json=tmp_path / "x.json")
