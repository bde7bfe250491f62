import builtins
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from test_translator import transfer_model

from autolink import transfer_video
from autolink.data.figures import figure_clip
from autolink.errors import UserError
from autolink.generation import live, transfer
from autolink.generation.live import Latest, recorded, redrawn, run_live
from autolink.generation.networks import Networks
from autolink.generation.subjects import read_appearance
from autolink.generation.transfer_options import TransferConfig, TransferOptions
from autolink.generation.translator import PoseTransfer
from autolink.video.clip import Clip


def picture(n: int) -> np.ndarray:
    return np.full((8, 8, 3), n, np.uint8)


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    shown = threading.Event()

    def camera() -> Generator[np.ndarray, None, None]:
        yield picture(0)
        shown.wait(10)  # while the first is looked at, five come
        for n in range(1, 6):
            yield picture(n)

    newest = Latest(camera())
    frames = iter(newest)
    assert next(frames)[0, 0, 0] == 0
    shown.set()
    newest.thread.join(10)
    assert [frame[0, 0, 0] for frame in frames] == [5]
    assert (newest.captured, newest.taken) == (6, 2)


def test_what_a_camera_raises_is_raised_where_its_frames_are_wanted() -> None:
    def camera() -> Generator[np.ndarray, None, None]:
        yield picture(1)
        raise UserError("the camera gives no more frames")

    frames = iter(Latest(camera()))
    assert next(frames)[0, 0, 0] == 1
    with pytest.raises(UserError, match="no more frames"):
        next(frames)


def test_a_closed_camera_is_let_go() -> None:
    released = threading.Event()

    def camera() -> Generator[np.ndarray, None, None]:
        try:
            while True:
                time.sleep(0.001)
                yield picture(0)
        finally:
            released.set()

    newest = Latest(camera())
    next(iter(newest))
    newest.close()
    assert released.wait(5) and not newest.thread.is_alive()


def test_a_recording_comes_at_its_rate() -> None:
    begin = time.perf_counter()
    assert len(list(recorded(Clip.of([picture(n) for n in range(6)], 50)))) == 6
    assert time.perf_counter() - begin >= 5 / 50


@pytest.mark.parametrize("motion", ["relative", "absolute", "retarget"])
def test_live_frames_are_those_of_the_file_but_for_its_later_frames(motion: Any) -> None:
    """In a still crop nothing is smoothed: with the first frame as reference, both redraw the same."""
    clip = list(figure_clip(6, 3, 64)[0])
    model, options = transfer_model(), {"motion": motion, "crop": "none", "device": "cpu", "size": 48}
    written = transfer_video(clip[0], clip, model, best_frame="0", **options)
    networks = Networks(model, torch.device("cpu"))
    settings = TransferOptions(**options)
    appearance = read_appearance(Clip.of(clip[0]), settings, networks)
    seen = list(redrawn(clip, settings, networks, appearance))
    assert len(seen) == 6
    np.testing.assert_allclose(np.stack(seen).astype(float), np.stack(list(written)).astype(float), atol=1)
    beside = next(redrawn(clip, TransferOptions(side_by_side=True, **options), networks, appearance))
    assert beside.shape == (48, 144, 3)


def test_children_follow_live_as_in_a_file(tmp_path: Path) -> None:
    examples = Path(live.__file__).parent / "examples"
    options = TransferOptions(size=96, device="cpu")
    networks = Networks(PoseTransfer.from_pretrained("faces-transfer"), torch.device("cpu"))
    appearance = read_appearance(Clip.of(examples / "face.png"), options, networks)
    frames = list(Clip.of(examples / "face_driver.mp4").between(0, 0.2).frames())
    with_children = np.stack(list(redrawn(frames, options, networks, appearance))).astype(float)
    networks.model.local = None
    networks = Networks(networks.model, torch.device("cpu"))
    alone = np.stack(list(redrawn(frames, options, networks, appearance._replace(details=None)))).astype(float)
    changed = np.abs(with_children - alone).mean((0, 3))
    assert len(alone) == len(frames) and changed.max() > 5 and np.median(changed) < 1


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    frames = figure_clip(12, 3, 64)[0]
    (tmp_path / "driver").mkdir()
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "driver" / f"{n:02}.png")
    Image.fromarray(frames[0]).save(tmp_path / "me.png")
    transfer_model().save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(*more: str, driver: str = "driver") -> TransferConfig:
    arguments = ["--src", "me.png", "--driver", driver, "--checkpoint", "model", "--crop", "none", "--device", "cpu"]
    return tyro.cli(TransferConfig, args=[*arguments, *more])


@pytest.mark.parametrize("end", ["file", "q", "ctrl-c"])
def test_a_recorded_file_is_shown_and_how_fast_is_told(
    end: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[np.ndarray] = []

    def show(image: np.ndarray) -> bool:
        if end == "ctrl-c" and shown:
            raise KeyboardInterrupt
        shown.append(image)
        return end != "q"

    before = set(files.iterdir())
    run_live(config("--show"), show)
    said = capsys.readouterr().out
    assert f"{len(shown)} frames shown" in said and "at the 95th percentile" in said and "frames dropped" in said
    assert 1 <= len(shown) <= (12 if end == "file" else 1)
    assert set(files.iterdir()) == before


@pytest.mark.parametrize(
    ("code", "driver", "more", "said"),
    [(2, "webcam", [], "--driver webcam is shown as it comes; add --show"),
     (2, "nobody.mp4", ["--show"], "--driver nobody.mp4 does not exist"),
     (2, "webcam", ["--show", "--smooth", "2"], "leave out --smooth"),
     (2, "driver", ["--show", "--best-frame", "3"], "leave out --best-frame"),
     (2, "driver", ["--show"], "--show: there is no display here")],
)  # fmt: skip
def test_what_cannot_be_shown_is_told_in_a_sentence(
    code: int, driver: str, more: list[str], said: str, files: Path, fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "QT")
    assert said in fails(code, lambda: transfer.run(config(*more, driver=driver)))


def test_without_windows_camera_or_package(
    files: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCamera:
        def __init__(self, index: int) -> None:
            assert index == 0

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            """Nothing to release."""

    monkeypatch.setattr(cv2, "VideoCapture", NoCamera)
    show = config("--show", driver="webcam")
    assert "no camera could be opened" in fails(1, lambda: run_live(show, lambda _: True))
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "mss":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    show = config("--show", driver="screen")
    assert "pip install 'autolink-keypoints[live]'" in fails(1, lambda: run_live(show, lambda _: True))
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")
    assert "opens no windows" in fails(2, lambda: run_live(show))
