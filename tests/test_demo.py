import json
from pathlib import Path

import numpy as np
import pytest
from conftest import array

from autolink.generation import demo
from autolink.generation.transfer_video import transfer_video
from autolink.generation.translator import PoseTransfer
from autolink.video.files import read_frames


def test_the_demo_writes_what_it_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time_ns", lambda: 7)  # the same people every time
    demo.run()
    figures = json.loads((tmp_path / "demo" / "figures.json").read_text())
    found, moved = figures["detection"], figures["pose_transfer"]
    error, baseline = found["regression_error_percent_of_side"], found["mean_pose_error_percent_of_side"]
    assert error < 0.5 * baseline  # the bundled model knows held-out figures
    assert moved["transfer_error_on_moving_pixels"] < 0.7 * moved["copying_error_on_moving_pixels"]
    assert array(tmp_path / "demo" / "figures.png").std() > 20
    for name in ("figures.mp4", "transfer.mp4"):
        assert len(list(read_frames(tmp_path / "demo" / name))) == 75
    assert array(tmp_path / "demo" / "animals.png").std() > 20
    assert len(list(read_frames(tmp_path / "demo" / "animals.mp4"))) == 96
    assert len(list(read_frames(tmp_path / "demo" / "face.mp4"))) == 50
    said = capsys.readouterr().out
    assert all(
        f"demo/{name}" in said
        for name in ("figures.png", "figures.mp4", "figures.json", "transfer.mp4", "face.mp4", "animals.mp4")
    )


def test_the_bundled_face_turns_and_opens_its_mouth_as_the_driver_does() -> None:
    source, driver = demo.EXAMPLES / "face.png", demo.EXAMPLES / "face_driver.mp4"
    assert sum(path.stat().st_size for path in (source, driver)) < 300_000
    transfer = transfer_video(source, driver)
    assert transfer.checkpoint == "faces-transfer"  # auto recognises a rendered face
    stage_one = PoseTransfer.from_pretrained("faces-transfer").stage_one
    moved, led = (
        stage_one.detect(list(frames)[::5]).mean(1)[:, 0].numpy() for frames in (transfer, read_frames(driver))
    )
    assert np.corrcoef(moved, led)[0, 1] > 0.8
