import json
from pathlib import Path

import pytest
from conftest import array

from autolink.generation import demo
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
    said = capsys.readouterr().out
    assert all(
        f"demo/{name}" in said for name in ("figures.png", "figures.mp4", "figures.json", "transfer.mp4", "animals.mp4")
    )
