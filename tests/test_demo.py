import json
from pathlib import Path

import pytest
from conftest import array

from autolink import demo
from video.files import read_frames


def test_the_demo_writes_what_it_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    demo.main()
    figures = json.loads((tmp_path / "demo" / "figures.json").read_text())
    error, baseline = figures["regression_error_percent_of_side"], figures["mean_pose_error_percent_of_side"]
    assert error < 0.5 * baseline  # the bundled model knows figures it has never seen
    assert array(tmp_path / "demo" / "figures.png").std() > 20
    assert len(list(read_frames(tmp_path / "demo" / "figures.mp4"))) == 75
    said = capsys.readouterr().out
    assert all(f"demo/figures.{kind}" in said for kind in ("png", "mp4", "json"))


def test_bundled_checkpoints_are_small_and_documented() -> None:
    for folder in demo.CHECKPOINT.parent.iterdir():
        assert {"config.json", "model.safetensors", "README.md"} == {p.name for p in folder.iterdir()}
        assert (folder / "model.safetensors").stat().st_size < 6_000_000
        card = (folder / "README.md").read_text().lower()
        assert all(word in card for word in ("data", "limits", "command"))
