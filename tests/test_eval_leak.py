from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import figures_in

from autolink import AutoLink, ModelConfig
from autolink.eval.leak import LeakConfig, run
from autolink.eval.leak_measures import explained, off_subject, ridge, subject_masks
from autolink.relight import centre_colours

CLASSES = np.arange(200) // 100


def test_what_follows_is_explained_and_what_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(200, 6))
    follows = known[:, :2] @ rng.normal(size=(2, 2))
    noise = rng.normal(size=(200, 2)) * follows.std(0)
    full, half, none = (explained(known, wanted, CLASSES, 0) for wanted in (follows, follows + noise, noise))
    assert full and half and none
    assert full.r2 == pytest.approx(1, abs=1e-3) and half.r2 == pytest.approx(0.5, abs=0.1) and abs(none.r2) < 0.05
    assert half.interval_95[0] < 0.5 < half.interval_95[1] and none.interval_95[0] < 0 < none.interval_95[1]


def test_a_difference_between_classes_is_no_leak() -> None:
    rng = np.random.default_rng(1)
    known, wanted = rng.normal(size=(200, 3)) + CLASSES[:, None], rng.normal(size=(200, 1)) + 5 * CLASSES[:, None]
    within, across = explained(known, wanted, CLASSES, 0), explained(known, wanted, np.zeros(200, np.int64), 0)
    assert within and across and abs(within.r2) < 0.05 and across.r2 > 0.3


def test_there_is_nothing_to_explain() -> None:
    assert explained(np.zeros((19, 2)), np.zeros((19, 1)), CLASSES[:19], 0) is None
    assert explained(np.random.default_rng(0).normal(size=(50, 2)), np.ones((50, 1)), CLASSES[:50], 0) is None


def test_the_ridge_solves_its_normal_equations_and_chooses_by_leaving_out() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))

    def solved(rows: np.ndarray, penalty: float) -> np.ndarray:
        return np.linalg.solve(x[rows].T @ x[rows] + penalty * np.eye(4), x[rows].T @ y[rows])

    def left_out(penalty: float) -> float:
        others = [np.arange(30) != n for n in range(30)]
        return sum(float(np.square(y[n] - x[n] @ solved(rows, penalty)).sum()) for n, rows in enumerate(others))

    best = min(30 * 10.0 ** np.arange(-5, 4), key=left_out)
    np.testing.assert_allclose(ridge(x, y), solved(np.ones(30, bool), best), rtol=1e-8)


def test_colours_are_those_of_the_centre() -> None:
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    pictures[:, 8:24, 8:24] = [[[200, 30, 30]]]
    pictures[1, :8] = 255
    lab = cv2.cvtColor(np.full((1, 1, 3), [200, 30, 30], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    np.testing.assert_allclose(centre_colours(pictures), [lab, lab], rtol=1e-4)
    assert 35 < lab[0] < 50 < lab[1]  # a red of medium lightness


def test_edges_off_the_subject_by_hand() -> None:
    masks = np.zeros((1, 128, 128), bool)
    masks[:, :, :64] = True  # the left half
    keypoints = np.array([[[-0.5, 0.0], [0.5, 0.0], [-0.5, 0.5]]])  # edges 0-1 across, 0-2 inside, 1-2 across
    share = (0.5 * 1 * 2 + 0 + 0.5 * np.sqrt(1.25) * 1) / (1 * 2 + 0.5 * 4 + np.sqrt(1.25) * 1)
    assert off_subject(keypoints, np.array([2.0, 4.0, 1.0]), masks)[0] == pytest.approx(share, rel=0.05)
    assert off_subject(keypoints + 5, np.ones(3), masks | True)[0] == 1  # outside of the picture


def test_the_subject_is_found_before_its_background() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 60, (96, 96, 3), dtype=np.uint8)
    picture[..., 1] += 120  # a green ground
    fur = np.zeros((96, 96), np.uint8)
    cv2.ellipse(fur, (48, 52), (30, 36), 0, 0, 360, 1, -1)
    picture[fur == 1] = rng.integers(150, 220, ((fur == 1).sum(), 3), dtype=np.uint8) // [1, 2, 4]
    mask = subject_masks(picture[None])[0]
    wanted = cv2.resize(fur, (128, 128)) == 1
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.9
    np.testing.assert_array_equal(mask, subject_masks(picture[None])[0])
    assert subject_masks(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 128, 128)  # one colour all over


def test_the_command_measures_a_bare_stage_one(
    tiny_checkpoint: Path, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    config = ModelConfig(keypoints=4, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    AutoLink(config).save_pretrained(tmp_path / "judge")
    judge = str(tmp_path / "judge")
    run(LeakConfig(str(tiny_checkpoint), str(animals), judge=judge, json=tmp_path / "leak.json"))
    figures = figures_in(tmp_path / "leak.json")
    fitted = {"leak_keypoints_lightness", "leak_keypoints_colour", "structure_told"}
    assert {k.removeprefix("all.") for k in figures if k.startswith("all.")} == fitted | {"off_subject"}
    assert {"cat.off_subject", "dog.off_subject"} < figures.keys() and "cat.structure_told" not in figures
    off = figures["all.off_subject"]
    assert 0 <= (off.value or 0) <= 100 and 0 < (off.baseline or 0) < 100 and "GrabCut" in off.protocol
    assert "Leak, keypoints -> lightness, R2" in capsys.readouterr().out


def test_faults(
    tiny_checkpoint: Path, tiny_gan: Path, animals: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    def said(code: int, checkpoint: Path = tiny_checkpoint, **options: Any) -> str:
        return fails(code, lambda: run(LeakConfig(str(checkpoint), **{"data": str(animals), **options})))

    assert "at least 20" in said(1, data=str(animals / "cat"))
    assert (
        "holds a conditional GAN" in said(1, tiny_gan)
        and "--count" in said(2, count=3)
        and "--seed" in said(2, seed=-1)
    )
    assert "does not exist" in said(2, data=str(tmp_path / "none"))
