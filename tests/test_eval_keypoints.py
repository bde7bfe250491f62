import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import figures_in
from PIL import Image

from autolink.data.landmarks import Annotation
from autolink.eval import keypoints
from autolink.eval.keypoints import KeypointsConfig, bootstrap_interval, in_detail

ROOT = Path(__file__).resolve().parents[1]


def test_the_command_reports_everything(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    """Run as a file from another folder, as a user would."""
    arguments = ["--checkpoint", str(tiny_checkpoint), "--data", str(pictures), "--json", "figures.json"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "eval" / "keypoints.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, figures = json.loads((tmp_path / "figures.json").read_text()), figures_in(tmp_path / "figures.json")
    error = figures["error_with_bias"]
    assert error.count == 8 and error.samples == "test pictures, fitted on 16" and "people are not" in error.protocol
    assert error.unit == "% of the image side" and error.headline and error.better == "lower"
    assert error.interval_95 is not None and error.value is not None
    assert error.interval_95[0] <= error.value <= error.interval_95[1]
    assert {"checkpoint", "seed", "versions"} <= found.keys()
    assert np.mean([row["error"] for row in found["landmarks"]]) == pytest.approx(error.value)
    assert np.mean([row["mean_pose_error"] for row in found["landmarks"]]) == pytest.approx(error.baseline)
    assert len(found["best_landmarks"]) == found["keypoints"]
    assert all(part in done.stdout for part in (error.shown_value, error.shown_spread, error.shown_baseline))


def test_a_keypoint_is_named_after_what_it_follows() -> None:
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(-1, 1, (40, 3, 2)).astype(np.float32)
    keypoints = np.stack([0.5 * landmarks[:, 2] + 0.1, landmarks[:, 0] + 0.1 * landmarks[:, 1]], 1)
    part = Annotation(landmarks, np.arange(40).astype(str), np.full((40, 2), 50.0), np.arange(40) >= 30)
    _, by_keypoint = in_detail(keypoints, part, np.full(40, 100.0), np.ones((10, 3)))
    assert [row.landmark for row in by_keypoint] == [2, 0]
    assert by_keypoint[0].error < 1e-4 < by_keypoint[1].error < by_keypoint[1].mean_pose_error


def test_normalised_by_a_pair(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    baselines, units = [], []
    for choice in ("side", "1,2"):
        path = tmp_path / f"{choice}.json"
        keypoints.run(KeypointsConfig(str(tiny_checkpoint), str(pictures), path, choice))
        error = figures_in(path)["error_with_bias"]
        baselines.append(error.baseline or 0)
        units.append(error.unit)
    assert units == ["% of the image side", "% of the landmarks 1,2"]
    assert baselines[1] > 3 * baselines[0]  # neck to head is short


def test_interval_holds_the_mean_and_shrinks_with_people() -> None:
    rng = np.random.default_rng(0)
    distances = rng.random((400, 3))
    many, few = np.arange(400).astype(str), (np.arange(400) % 4).astype(str)
    low, high = bootstrap_interval(distances, many, 0)
    assert low < distances.mean() < high and high - low < 0.1
    assert bootstrap_interval(distances, many, 0) == (low, high)
    shifted = distances + (np.arange(400) % 4)[:, None]  # people differ
    wide = np.ptp(bootstrap_interval(shifted, few, 0))
    assert wide > 3 * np.ptp(bootstrap_interval(shifted, many, 0))


def test_wrong_input_is_told(fails: Callable[..., str], tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    def said(code: int, **options: object) -> str:
        given = {"checkpoint": str(tiny_checkpoint), "data": str(pictures), **options}
        return fails(code, lambda: keypoints.run(KeypointsConfig(**given)))  # type: ignore[arg-type]

    assert "68-point" in said(2, normalise="eyes")
    assert "--normalise" in said(2, normalise="1,99")
    assert "--normalise" in said(2, normalise="²,1")
    assert "--seed" in said(2, seed=-1)
    assert "is a folder" in said(2, json=tmp_path)
    assert "does not exist" in said(2, data=str(tmp_path / "none"))
    assert "does not exist" in said(2, json=tmp_path / "no" / "x.json")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert "no landmarks.csv" in said(1, data=str(tmp_path))
    (tmp_path / "landmarks.csv").write_text("image,identity,split,x0,y0\na.png,,train,1,1\n")
    assert "annotated pictures to fit on" in said(1, data=str(tmp_path))
    (tmp_path / "x.json").write_text("mine")
    assert "--overwrite" in said(2, json=tmp_path / "x.json")


@pytest.mark.parametrize("bias", [True, False])
def test_the_headline_follows_the_bias_option(
    tiny_checkpoint: Path, pictures: Path, tmp_path: Path, bias: bool
) -> None:
    keypoints.run(KeypointsConfig(str(tiny_checkpoint), str(pictures), tmp_path / "r.json", bias=bias))
    headlines = [key for key, figure in figures_in(tmp_path / "r.json").items() if figure.headline]
    assert headlines == ["error_with_bias" if bias else "error_without_bias"]
