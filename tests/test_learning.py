"""Does it learn: a short training from nothing, and the bundled faces on held-out people."""

import json
import os
from pathlib import Path

import pytest
from conftest import figures_in

from autolink import train
from autolink.eval import keypoints
from autolink.eval.keypoints import KeypointsConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerator")
def test_the_default_learns_poses_within_minutes(tmp_path: Path) -> None:
    train.run(["--out", str(tmp_path / "run"), "--steps", "500", "--decay-share", "0.25"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "regression_error" in line][-1]
    assert last["regression_error"] < 0.65 * last["mean_pose_error"]


def test_bundled_faces_on_people_never_seen(tmp_path: Path) -> None:
    folder = os.environ.get("AUTOLINK_TEST_DATA")
    if not folder:
        pytest.skip("AUTOLINK_TEST_DATA names no folder with faces/")
    checkpoint = ROOT / "checkpoints" / "faces"
    if not checkpoint.exists():
        pytest.skip("no faces are bundled yet")
    keypoints.run(KeypointsConfig(str(checkpoint), str(Path(folder) / "faces"), tmp_path / "faces.json"))
    found = figures_in(tmp_path / "faces.json")["error_with_bias"]
    assert found.unit == "% of the inter-ocular distance" and found.value and found.baseline
    assert found.value < 0.5 * found.baseline
