import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import figures_in
from faces import ToldJudge, told_picture

from autolink import AutoLink, ModelConfig
from autolink.eval import transfer
from autolink.eval.clips import Clip, driver_of, person_of, spread_pairs
from autolink.eval.expression import Expressions, face_figures, flicker, following, row_notes
from autolink.eval.results import Figure
from autolink.eval.transfer import TransferConfig
from autolink.generation.translator import PoseTransfer, Translator
from autolink.generation.translator_config import TranslatorConfig

MADE = partial(Figure, data="clips")


def test_gain_is_a_slope_and_correlation_pearsons() -> None:
    rng = np.random.default_rng(0)
    driver = rng.uniform(0, 0.4, 30)
    result = 0.3 + 0.6 * driver + rng.normal(scale=0.05, size=30)
    found = following(driver, result)
    assert found.gain == pytest.approx(np.polyfit(driver, result, 1)[0])
    assert found.correlation == pytest.approx(np.corrcoef(driver, result)[0, 1])
    assert found.deviation == pytest.approx(driver.std())
    exact = following(driver, 0.7 - 0.5 * driver)
    assert exact.gain == pytest.approx(-0.5) and exact.correlation == pytest.approx(-1)


def test_only_frames_with_two_faces_count() -> None:
    rng = np.random.default_rng(1)
    driver, result = rng.uniform(0, 0.4, (2, 20))
    holes = result.copy(), driver.copy()
    holes[0][3], holes[1][7] = np.nan, np.nan
    kept = np.delete(np.arange(20), [3, 7])
    assert following(holes[1], holes[0]) == following(driver[kept], result[kept])
    few = np.full(20, np.nan)
    few[:4] = result[:4]
    assert following(driver, few)[:2] == (None, None)


def test_a_driver_that_hardly_moves_is_left_out_and_a_still_result_follows_nothing() -> None:
    driver = np.linspace(0, 0.4, 10)
    assert following(driver * 0.05, driver)[:2] == (None, None)
    assert following(driver * 0.05, driver).deviation == pytest.approx(driver.std() * 0.05)
    assert following(driver, np.full(10, 0.3))[:2] == (0, 0)


def clip(name: str, mouths: np.ndarray, person: float = 0.5) -> Clip:
    """A clip of as many measured frames as mouths; the eyes close as the mouth opens."""
    whole = np.stack([told_picture(m, 1 - m, person) for m in (mouths[0], *np.repeat(mouths, 2))])
    pairs = 1 + np.arange(len(mouths))[:, None] * 2 + np.arange(2)
    return Clip(name, whole, pairs, person=person_of(name))


MOUTHS = np.array([0.1, 0.5, 0.2, 0.9, 0.4, 0.6])


def test_a_perfect_result() -> None:
    judge, film = ToldJudge(), clip("a", MOUTHS)
    measured = Expressions(judge)
    measured.add("self", film, film, film.frames)
    (row,) = measured.rows["self"]
    assert row["mouth_gain"] == pytest.approx(1) and row["eyes_correlation"] == pytest.approx(1)
    assert row["mesh_distance"] == 0 and row["aed"] == 0 and row["same_percent"] == 100 and row["lost_percent"] == 0
    downwards = np.abs(np.round(MOUTHS * 255) / 255 - np.round(MOUTHS[0] * 255) / 255).mean() * 10
    assert row["copy_mesh_distance"] == pytest.approx(downwards)  # of 100 pixels, in per cent


def test_half_of_the_motion_across_people() -> None:
    judge = ToldJudge()
    source, driver = clip("a", MOUTHS * 0 + 0.3, 0.2), clip("b", MOUTHS, 0.9)
    made = clip("made", 0.2 + MOUTHS / 2, 0.3).frames.copy()
    made[2, 0] = told_picture(0.5, 0.5, 0)  # a face is lost
    measured = Expressions(judge)
    measured.add("cross", source, driver, made)
    (row,) = measured.rows["cross"]
    assert row["mouth_gain"] == pytest.approx(0.5, abs=0.02) and row["mouth_correlation"] == pytest.approx(1, abs=1e-3)
    assert row["lost_percent"] == pytest.approx(100 / 6)
    assert row["aed"] == pytest.approx(0.1, abs=0.01) and row["beside_aed"] == pytest.approx(0.7, abs=0.01)
    assert "mesh_distance" not in row
    assert judge.embedded == 1 + 3 + 3  # source once; result and driver in those of four frames that show a face


def test_a_source_without_a_face_has_no_identity() -> None:
    measured = Expressions(ToldJudge())
    measured.add("cross", clip("a", MOUTHS, 0.0), clip("b", MOUTHS), clip("b", MOUTHS).frames)
    (row,) = measured.rows["cross"]
    assert row["aed"] is None and row["same_percent"] is None and row["mouth_gain"] == pytest.approx(1)


def test_flicker_is_what_motion_does_not_explain() -> None:
    rng = np.random.default_rng(0)
    steady = np.repeat(rng.integers(0, 256, (3, 1, 48, 48, 3), np.uint8), 2, 1)
    shimmer = (steady + rng.normal(scale=[[[[[0]]], [[[12]]]]], size=steady.shape)).clip(0, 255).astype(np.uint8)
    assert flicker(steady) == 0 and 0.005 < flicker(shimmer) < 0.06


def test_figures_are_means_over_clips_and_count_what_is_left_out() -> None:
    measured = Expressions(ToldJudge())
    films = [clip("a", MOUTHS), clip("b", 0.3 + MOUTHS / 100), clip("c", 1 - MOUTHS)]
    for film, gain in zip(films, (1.0, 1.0, 0.5), strict=True):
        measured.add("self", film, film, clip("made", 0.5 + gain * (film_mouths(film) - 0.5)).frames)
    by_key = {f.key: f for f in face_figures(measured.rows, MADE, "As it is.", 32)}
    mouth = by_key["face.self.mouth_gain"]
    assert mouth.value == pytest.approx(0.75, abs=0.02) and mouth.count == 2 and mouth.headline
    assert mouth.spread == pytest.approx(0.25, abs=0.02)
    assert "1 left out: their driver hardly moves" in mouth.samples and "6 frames at most" in mouth.samples
    assert by_key["face.self.mesh_distance"].count == 3 and "left out" not in by_key["face.self.mesh_distance"].samples
    assert by_key["face.self.mesh_distance"].baseline_name == "copying the source"
    assert not any(key.startswith("face.cross") for key in by_key)
    assert all(f.protocol.endswith("As it is.") and "{" not in f.protocol for f in by_key.values())
    lines = list(row_notes(measured.rows))
    assert len(lines) == 3 and "mouth gain 1.00" in lines[0] and "mouth left out, deviation 0.00" in lines[1]


def film_mouths(film: Clip) -> np.ndarray:
    return film.frames[:, 0, 0, 0, 0] / 255


def test_another_person_drives() -> None:
    films = [clip(name, MOUTHS) for name in ("anna_1", "anna_2", "ben_1")]
    assert [driver_of(n, films).name for n in range(3)] == ["ben_1", "ben_1", "anna_1"]
    assert driver_of(0, films[:2]).name == "anna_2"
    assert person_of("anna_12") == "anna" and person_of("anna") == "anna" and person_of("a_b") == "a_b"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer") / "transfer"
    model = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    config = TranslatorConfig(keypoints=5, size=32, bones=4, channels=(4, 8), motion_size=16, motion_channels=(4, 8))
    PoseTransfer(AutoLink(model), Translator(config)).save_pretrained(folder)
    return folder


def test_the_command_makes_them_the_headline(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    films = [clip(name, MOUTHS) for name in ("a_1", "b_1")]
    monkeypatch.setattr(transfer, "MediaPipeJudge", ToldJudge)
    asked: list[Any] = []

    def load_clips(*arguments: Any) -> list[Clip]:
        asked.append(arguments)
        return films

    monkeypatch.setattr(transfer, "load_clips", load_clips)
    options: dict[str, Any] = {"judge": "mediapipe", "device": "cpu", "frames": 6, "size": 32}
    transfer.run(TransferConfig(str(checkpoint), "any", tmp_path / "x.json", protocol="network", **options))
    found = figures_in(tmp_path / "x.json")
    assert asked[0][-1] == 12  # twice as many frames as are measured
    headlines = {key for key, figure in found.items() if figure.headline}
    assert {"face.self.mouth_gain", "face.cross.eyes_gain", "face.self.mesh_distance", "face.cross.aed"} <= headlines
    assert {key for key in headlines if not key.startswith("face.")} == {"self.moving_l1"}
    assert not any(key.startswith("appearance") for key in found)
    written = json.loads((tmp_path / "x.json").read_text())
    printed = capsys.readouterr().out
    assert len(written["notes"]) == 4 and all(note in printed for note in written["notes"])
    assert written["judge"] == "mediapipe"


def test_without_preparation_the_command_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    monkeypatch.setenv("AUTOLINK_JUDGE", str(tmp_path / "none"))
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("dlib")
    options: dict[str, Any] = {"judge": "mediapipe", "device": "cpu"}
    config = TransferConfig(str(checkpoint), str(tmp_path), **options)
    assert "prepare-judge" in fails(1, lambda: transfer.run(config))
    assert "heads" in fails(2, lambda: TransferConfig(str(checkpoint), **options))
    assert "--frames" in fails(2, lambda: TransferConfig(str(checkpoint), str(tmp_path), frames=4, **options))


def test_clips_without_faces_are_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    films = [clip(name, MOUTHS, person=0.0) for name in ("a_1", "b_1")]
    monkeypatch.setattr(transfer, "MediaPipeJudge", ToldJudge)
    monkeypatch.setattr(transfer, "load_clips", lambda *_: films)
    options: dict[str, Any] = {"judge": "mediapipe", "device": "cpu", "protocol": "network"}
    assert "no clip shows a face" in fails(1, lambda: transfer.run(TransferConfig(str(checkpoint), "any", **options)))


def test_pairs_of_a_short_part_are_consecutive() -> None:
    pairs = spread_pairs(72, 36)
    assert len(pairs) == 36 and pairs.max() == 71 and set(np.diff(pairs[:, 0])) <= {1, 2, 3}
