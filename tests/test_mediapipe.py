import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from faces import drawn_face

from autolink.errors import UserError
from autolink.eval import mediapipe, prepare_judge
from autolink.eval.mediapipe import ANCHORS, FILES, Face, MediaPipeJudge, judge_folder, network_file
from autolink.eval.prepare_judge import PrepareJudgeConfig

PREPARED = all((judge_folder() / name).is_file() for name in FILES)
needs_networks = pytest.mark.skipif(not PREPARED, reason="autolink eval prepare-judge, AUTOLINK_JUDGE")


@pytest.fixture(scope="module")
def judge() -> MediaPipeJudge:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("dlib")
    return MediaPipeJudge()


@needs_networks
def test_the_mouth_and_the_lids_are_seen(judge: MediaPipeJudge) -> None:
    mouths = [face.mouth for m in (0, 3, 6, 10) if (face := judge.look(drawn_face(m, 6)))]
    assert len(mouths) == 4 and (np.diff(mouths) > 0.05).all() and mouths[0] < 0.1
    closed, opened = (judge.look(drawn_face(3, lids)) for lids in (2, 6))
    assert closed and opened and closed.eyes < 0.25 < 0.4 < opened.eyes
    assert judge.look(np.full((64, 64, 3), 128, np.uint8)) is None


@needs_networks
def test_the_mesh_follows_the_picture(judge: MediaPipeJudge) -> None:
    """The eyes lie where they were drawn, in pixels of the picture, whatever its size, place and turn."""
    picture = drawn_face(3, 6)
    face = judge.look(picture)
    assert face is not None
    drawn = np.array([[103, 122], [153, 122]])
    found = np.array(
        [face.mesh[list(corners)].mean(0) for corners in (mediapipe.LEFT_CORNERS, mediapipe.RIGHT_CORNERS)]
    )
    assert np.abs(found - drawn).max() < 5 and face.inter_ocular == pytest.approx(50, abs=5)
    turn = cv2.getRotationMatrix2D((128, 128), 15, 0.8)
    turned = cv2.warpAffine(picture, turn, (256, 256), borderValue=(120, 140, 160))
    large = cv2.resize(picture, (700, 700), interpolation=cv2.INTER_CUBIC)
    wide = np.pad(picture, ((0, 0), (90, 10), (0, 0)), "edge")
    for other, expected in (
        (turned, face.mesh @ turn[:, :2].T + turn[:, 2]),
        (large, (face.mesh + 0.5) * 700 / 256 - 0.5),
        (wide, face.mesh + np.array([90, 0])),
    ):
        again = judge.look(other)
        assert again is not None
        apart = np.linalg.norm(again.mesh - expected, axis=1).mean() / again.inter_ocular
        assert apart < 0.06 and again.mouth == pytest.approx(face.mouth, abs=0.04)


@needs_networks
def test_one_person_is_one_person(judge: MediaPipeJudge) -> None:
    def who(picture: np.ndarray) -> np.ndarray:
        face = judge.look(picture)
        assert face is not None
        return judge.embedding(picture, face)

    first, speaking = who(drawn_face(0, 6)), who(drawn_face(6, 6))
    other = who(np.ascontiguousarray(255 - drawn_face(0, 6)[..., ::-1] // 2))
    assert first.shape == (128,)
    assert np.linalg.norm(first - speaking) < np.linalg.norm(first - other)


def test_anchors_are_those_of_the_detector() -> None:
    """As MediaPipe's SsdAnchorsCalculator lays them: rows of strides 8, 16, 16, 16, two each, a stride's together."""
    expected = []
    for cells, each in ((16, 2), (8, 6)):
        for y in range(cells):
            for x in range(cells):
                expected += [[(x + 0.5) / cells, (y + 0.5) / cells]] * each
    np.testing.assert_allclose(ANCHORS, expected)


def test_a_cut_brings_points_back() -> None:
    picture = np.zeros((80, 100, 3), np.uint8)
    picture[30:33, 60:63] = 255
    crop, back = mediapipe._cut(picture, mediapipe._Square(np.array([55.0, 35.0]), 40.0, 0.3), 64)
    y, x = (axis.mean() for axis in np.nonzero(crop[..., 0] > 128))
    np.testing.assert_allclose(back(np.array([[x, y]])), [[61, 31]], atol=0.4)


def test_the_distance_of_the_eyes() -> None:
    mesh = np.zeros((468, 2))
    mesh[[33, 133]], mesh[[362, 263]] = [[0, 0], [2, 0]], [[4, 4], [4, 4]]
    assert Face(mesh, 0, 0).inter_ocular == pytest.approx(5)


def test_what_is_missing_or_damaged_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    name = next(iter(FILES))
    assert "prepare-judge" in fails(1, lambda: network_file(tmp_path, name))
    (tmp_path / name).write_bytes(b"something else")
    assert "SHA-256" in fails(1, lambda: network_file(tmp_path, name))
    monkeypatch.setenv("AUTOLINK_JUDGE", str(tmp_path))
    assert judge_folder() == tmp_path
    monkeypatch.setitem(sys.modules, "dlib", None)
    said = fails(2, MediaPipeJudge)
    assert "dlib" in said and "[judge]" in said
    monkeypatch.setattr(mediapipe, "find_spec", lambda name: None)
    assert "face-recognition-models" in fails(2, mediapipe.embedding_file)


def wheel(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"mediapipe/modules/any/{name}", content)
    return path


def test_networks_are_taken_out_of_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {name: name.encode() for name in FILES}
    given = wheel(tmp_path / "a.whl", contents)
    out = tmp_path / "networks"
    config = PrepareJudgeConfig(out, given)
    assert "SHA-256" in fails(1, lambda: prepare_judge.run(config)) and not out.exists()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(prepare_judge, "FILES", digests)
    prepare_judge.run(config)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents
    assert f"AUTOLINK_JUDGE={out}" in capsys.readouterr().out
    assert "--overwrite" in fails(2, lambda: prepare_judge.run(config))
    prepare_judge.run(PrepareJudgeConfig(out, given, overwrite=True))
    lacking = wheel(tmp_path / "b.whl", dict(list(contents.items())[:2]))
    assert "whole wheel" in fails(1, lambda: prepare_judge.run(PrepareJudgeConfig(tmp_path / "x", lacking)))
    (tmp_path / "c.whl").write_text("text")
    assert "whole wheel" in fails(1, lambda: prepare_judge.run(PrepareJudgeConfig(tmp_path / "x", tmp_path / "c.whl")))
    assert "--wheel" in fails(2, lambda: prepare_judge.run(PrepareJudgeConfig(tmp_path / "x", tmp_path / "d.whl")))
    assert "no folder" in fails(2, lambda: prepare_judge.run(PrepareJudgeConfig(given)))
    assert not (tmp_path / "x").exists()


def test_a_failed_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "mediapipe==0.10.21" in words and "--no-deps" in words
        return subprocess.CompletedProcess(words, 1, "", "WARNING: x\nERROR: no matching distribution\n")

    monkeypatch.setattr(subprocess, "run", failed)
    with pytest.raises(UserError, match=r"no matching distribution.*--wheel"):
        prepare_judge.run(PrepareJudgeConfig(tmp_path / "out"))
    assert not any(tmp_path.iterdir())
