from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import figures_in
from faces import ToldJudge

from autolink import AutoLink
from autolink.data.figures import figure_clip
from autolink.eval import keypoints
from autolink.eval.keypoints import KeypointsConfig
from autolink.eval.readout import (
    Frames,
    held_out,
    keypoint_blocks,
    r2_within_clips,
    read_opening,
    readout_figures,
    ridge,
    with_products,
)
from autolink.nested import NestedAutoLink
from autolink.video.writer import VideoWriter

CPU = torch.device("cpu")


def test_r2_within_clips_equals_a_naive_one() -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 5, 60).astype(str)
    truth = rng.normal(size=60)
    told = truth + rng.normal(scale=0.4, size=60)
    left = whole = 0.0
    for name in set(clips):
        mine = [n for n in range(60) if clips[n] == name]
        a, b = (sum(values[n] for n in mine) / len(mine) for values in (truth, told))
        left += sum(((truth[n] - a) - (told[n] - b)) ** 2 for n in mine)
        whole += sum((truth[n] - a) ** 2 for n in mine)
    assert r2_within_clips(truth, told, clips) == pytest.approx(1 - left / whole)
    shifted = told + clips.astype(float) * 10  # what tells clips apart does not count
    assert r2_within_clips(truth, shifted, clips) == pytest.approx(1 - left / whole)
    assert r2_within_clips(truth, clips.astype(float), clips) == pytest.approx(0)
    assert np.isnan(r2_within_clips(clips.astype(float), told, clips))


@pytest.mark.parametrize("count", [40, 5])
def test_ridge_equals_least_squares_with_more_rows(count: int) -> None:
    """Also with fewer pictures than features, which goes another way."""
    rng = np.random.default_rng(count)
    features, truth, unseen = rng.normal(2, 3, (count, 8)), rng.normal(size=count), rng.normal(size=(4, 8))
    mean, spread = features.mean(0), features.std(0)
    rows = np.concatenate([np.c_[(features - mean) / spread, np.ones(count)], np.c_[10**0.5 * np.eye(8), np.zeros(8)]])
    weights = np.linalg.lstsq(rows, np.r_[truth, np.zeros(8)], rcond=None)[0]
    expected = np.c_[(unseen - mean) / spread, np.ones(4)] @ weights
    np.testing.assert_allclose(ridge(features, truth, 10.0, False)(unseen), expected, rtol=1e-4, atol=1e-6)


def test_products_hold_every_two() -> None:
    assert with_products(np.array([[2.0, 3.0, 5.0]])).tolist() == [[2, 3, 5, 4, 6, 10, 9, 15, 25]]


def test_every_fifth_person_is_held_out() -> None:
    people = np.array(list("aabcddefghiijj"))
    assert set(people[held_out(people)]) == {"d", "i"}


def known_frames(noise: float) -> Frames:
    """Twenty people in two clips each; the mouth opens as two of the child's points are apart."""
    rng = np.random.default_rng(0)
    N = 20 * 2 * 12
    child, parent = rng.normal(size=(N, 4)), rng.normal(size=(N, 6))
    mouth = (child[:, 0] - child[:, 2]) ** 2 + noise * rng.normal(size=N)
    people = np.repeat([f"p{n:02}" for n in range(20)], 24)
    clips = np.array([f"{p}_{n // 12 % 2}" for n, p in enumerate(people)])
    eyes = rng.normal(scale=0.001, size=N)
    return Frames({"parent": parent, "mouth": child}, {"mouth": mouth, "eyes": eyes}, clips, people)


def test_an_opening_is_read_from_who_knows_it() -> None:
    frames = known_frames(0.01)
    found = read_opening(frames, "mouth", held_out(frames.people))
    assert found.r2 > 0.99 and found.source == "mouth with products" and found.left_out == 0
    assert len(found.correlations) == 8 and min(found.correlations) > 0.99
    eyes = read_opening(frames, "eyes", held_out(frames.people))
    assert eyes.r2 < 0.1 and eyes.left_out == 8 and eyes.correlations == []


def test_the_people_held_out_do_not_choose() -> None:
    """Whatever their openings are, the readout of them stays the same."""
    frames = known_frames(0.5)
    test = held_out(frames.people)
    other = frames._replace(openings={"mouth": np.where(test, -frames.openings["mouth"], frames.openings["mouth"])})
    a, b = (read_opening(f, "mouth", test) for f in (frames, other))
    assert a.source == b.source and a.r2 > 0.8 and b.r2 < 0
    np.testing.assert_allclose(a.correlations, [-c for c in b.correlations])


def test_figures_say_what_they_are() -> None:
    by_key = {figure.key: figure for figure in readout_figures(known_frames(0.01), "clips", 0)}
    mouth = by_key["mouth_r2"]
    read = "frames of 8 clips of people held out, fitted on 32 clips, read from mouth with products"
    assert mouth.count == 96 and mouth.samples == read and mouth.headline
    assert by_key["eyes_correlation"].value is None and "8 left out" in by_key["eyes_correlation"].samples


def test_place_and_size_of_the_head_are_taken_out(tiny_checkpoint: Path) -> None:
    model = NestedAutoLink.from_pretrained(tiny_checkpoint)
    pictures = figure_clip(3, 0, 64)[0]
    (block,) = keypoint_blocks(model, pictures, CPU).values()
    points = block.reshape(3, 5, 2)
    np.testing.assert_allclose(points.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose((points**2).sum(2).mean(1), 1, rtol=1e-5)
    raw = AutoLink.from_pretrained(tiny_checkpoint).detect(list(pictures)).numpy()
    centred = raw - raw.mean(1, keepdims=True)
    np.testing.assert_allclose(points, centred / np.sqrt((centred**2).sum(2).mean(1))[:, None, None], atol=0.05)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for n in range(10):
        with VideoWriter(folder / f"p{n}_1.mp4", Fraction(25)) as writer:
            for frame in figure_clip(8, n, 48)[0]:
                writer.write(frame)
    return folder


def test_the_command(
    tiny_checkpoint: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(keypoints, "MediaPipeJudge", ToldJudge)
    options: dict[str, Any] = {"judge": "mediapipe", "frames": 6, "device": "cpu"}
    keypoints.run(KeypointsConfig(str(tiny_checkpoint), str(films), tmp_path / "x.json", **options))
    found = figures_in(tmp_path / "x.json")
    assert set(found) == {f"{part}_{what}" for part in ("mouth", "eyes") for what in ("r2", "correlation")}
    assert found["mouth_r2"].count == 12 and found["mouth_r2"].data == films.name
    said = fails(2, lambda: keypoints.run(KeypointsConfig(str(tiny_checkpoint), "figures", **options)))
    assert "videos of heads" in said
    assert "--frames" in fails(2, lambda: keypoints.run(KeypointsConfig(str(tiny_checkpoint), str(films), frames=4)))
    with VideoWriter(films / "dark_1.mp4", Fraction(25)) as writer:
        for _ in range(8):
            writer.write(np.zeros((48, 48, 3), np.uint8))
    capsys.readouterr()
    keypoints.run(KeypointsConfig(str(tiny_checkpoint), str(films), **options))
    assert "skipped dark_1: fewer than 5 frames show a face" in capsys.readouterr().err
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "p0_1.mp4").symlink_to(films / "p0_1.mp4")
    one = KeypointsConfig(str(tiny_checkpoint), str(tmp_path / "one"), **options)
    assert "1 people" in fails(1, lambda: keypoints.run(one))
