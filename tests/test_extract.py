"""Keypoints of many videos: the same rows whoever finds them and however often it is killed."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from faults import crashes
from numpy.typing import NDArray

from autolink import AutoLink, detect, extraction
from autolink.data.figures import figure_clip
from autolink.detect import DetectConfig
from autolink.errors import UserError
from autolink.files import clear_leftovers
from autolink.generation import extract, extract_worker
from autolink.generation.extract import ExtractConfig
from autolink.inference import detect_all
from autolink.video.container import VideoError
from autolink.video.files import read_frames, read_part
from autolink.video.motion import read_motion

pytest.importorskip("pyarrow")

RATE = 25


def encoded(path: Path, frames: NDArray[np.uint8], keyframes: int = 7, jitter: bool = False, begin: int = 0) -> Path:
    """H.264 with B-frames, a whole picture every so many; with `jitter`, at a rate that varies."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"bf": "2"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", keyframes
        unit = Fraction(1, RATE)
        if jitter or begin:
            unit = stream.codec_context.time_base = Fraction(1, 1000)
        time = begin
        for n, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, unit
            time += round((1 + (n % 3 if jitter else 0)) / RATE / unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def readable(frames: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Frames up to a fault: of a video that begins late Matroska claims a duration that it does not have."""
    with suppress(VideoError):
        yield from frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 60, 30 and 10 frames in folders, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    for name, count in (("a.mp4", 60), ("b.mkv", 30), ("more/c.mp4", 10)):
        encoded(folder / name, figure_clip(count, count, 64)[0])
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    return folder


def config(clips: Path, out: Path, checkpoint: Path | str, **options: object) -> ExtractConfig:
    return replace(ExtractConfig((str(clips),), out, str(checkpoint), segment=1), **options)  # type: ignore[arg-type]


def rows(out: Path) -> list[dict[str, object]]:
    found = extraction.read(out).to_pylist()
    return sorted(found, key=lambda row: (row["video"], row["frame"]))


@pytest.fixture(scope="module")
def whole(clips: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows, written in one go."""
    out = tmp_path_factory.mktemp("whole") / "out"
    extract.run(config(clips, out, tiny_checkpoint))
    return out


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("begin", [0, 520])
def test_a_part_is_what_reading_all_gives(ending: str, jitter: bool, begin: int, tmp_path: Path) -> None:
    path = encoded(tmp_path / f"a.{ending}", figure_clip(40, 3, 32)[0], jitter=jitter, begin=begin)
    known = list(readable(read_frames(path)))
    assert len(known) >= 40
    for first, last in ((0, 5), (5, 20), (14, 15), (21, None), (len(known) - 1, None), (len(known), None), (10, 999)):
        part = list(readable(read_part(path, first, last)))
        assert len(part) == len(known[first:last]), (first, last)
        assert all(np.array_equal(a, b) for a, b in zip(part, known[first:last], strict=True)), (first, last)


def test_a_part_far_in_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "a.mp4", figure_clip(40, 3, 32)[0])
    monkeypatch.setattr("autolink.video.files.read_frames", lambda path: pytest.fail("all was read"))
    assert len(list(read_part(path, 30, 35))) == 5


def test_the_rows_are_what_detect_finds(clips: Path, whole: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name, count in (("a.mp4", 60), ("b.mkv", 30), ("more/c.mp4", 10)):
        detect.run(DetectConfig(clips / name, tmp_path / Path(name).stem, str(tiny_checkpoint)))
        told = np.array(json.loads((tmp_path / Path(name).stem / "keypoints.json").read_text())["frames"])
        table = extraction.read(whole, clips / name)
        assert table["frame"].to_pylist() == list(range(count))
        np.testing.assert_allclose(table["time"].to_numpy(), np.arange(count) / RATE)
        pixels = (extraction.points_of(table).astype(float) + 1) / 2 * 63
        np.testing.assert_allclose(pixels, told, atol=0.005 + 64 / 8192)  # rounded to 0.01 there, to 16 bits here
    assert len(set(extraction.read(whole)["checkpoint"].to_pylist())) == 1


def test_a_broken_file_costs_one_row_of_errors(clips: Path, whole: Path) -> None:
    (error,) = extraction.read_errors(whole)
    assert error["video"] == str(clips / "broken.mp4") and error["frames"] == 0 and "broken.mp4" in error["error"]
    assert not [row for row in rows(whole) if "broken" in str(row["video"])]
    assert len(rows(whole)) == 100


def test_what_failed_is_tried_again_and_what_is_done_is_not(
    clips: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out = tmp_path / "v.mp4", tmp_path / "out"
    video.write_bytes(b"no video")
    listing = tmp_path / "list.txt"
    listing.write_text(f"{video}\n{clips / 'more' / 'c.mp4'}\n{tmp_path / 'gone.mp4'}\n")
    extract.run(config(listing, out, tiny_checkpoint))
    assert sorted(Path(error["video"]).name for error in extraction.read_errors(out)) == ["gone.mp4", "v.mp4"]
    video.write_bytes((clips / "b.mkv").read_bytes())
    extract_worker._known.cache_clear()
    capsys.readouterr()
    extract.run(config(listing, out, tiny_checkpoint))
    assert "30 frames in 3 new segments, 1 of them" in capsys.readouterr().out
    assert [Path(error["video"]).name for error in extraction.read_errors(out)] == ["gone.mp4"]
    assert len(rows(out)) == 40


def test_if_all_failed_so_does_the_command(fails: Callable[..., str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    said = fails(1, lambda: extract.run(config(tmp_path / "v.mp4", tmp_path / "out", tiny_checkpoint)))
    assert "1 of 1 segments failed" in said and "v.mp4" in said


def test_a_truncated_video_keeps_what_can_be_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mkv", figure_clip(60, 1, 64)[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    count = len(list(readable(read_frames(path))))
    extract.run(config(path, tmp_path / "out", tiny_checkpoint))
    found = rows(tmp_path / "out")
    assert 0 < count < 60 and [row["frame"] for row in found] == list(range(count))
    assert extraction.read_errors(tmp_path / "out")


def test_shards_together_are_the_whole(clips: Path, whole: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    readable = tuple(str(clips / name) for name in ("a.mp4", "b.mkv", "more/c.mp4"))
    extract.run(
        config(clips / "more", tmp_path / "both", tiny_checkpoint)
    )  # else a shard may hold the broken one alone
    for shard in ("0/2", "1/2"):
        extract.run(config(clips, tmp_path / "both", tiny_checkpoint, shard=shard))
        extract.run(config(clips, tmp_path / shard[0], tiny_checkpoint, shard=shard, videos=readable))
    assert rows(tmp_path / "both") == rows(whole)
    names = [{path.name for path in (tmp_path / part).rglob("*.parquet")} for part in "01"]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {path.name for path in (whole / "points").rglob("*.parquet")}
    assert len(extraction.read_errors(tmp_path / "both")) == 1


def test_shards_are_dealt_evenly() -> None:
    count = Counter(extraction.Segment(f"/{n}.mp4", part, 5).draw % 4 for n in range(200) for part in range(5))
    assert sorted(count) == [0, 1, 2, 3] and min(count.values()) > 200


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_rows(
    every: int, clips: Path, whole: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"

    def work(folder: Path) -> None:
        extract.run(config(clips, folder / "out", tiny_checkpoint))

    for _ in crashes(work, folder, lambda folder: folder.mkdir(), every):
        clear_leftovers.cache_clear()
        work(folder)
        assert rows(folder / "out") == rows(whole)
        assert not list((folder / "out").rglob(".*"))


def test_a_bundled_transfer_finds_and_follows_and_its_rows_are_a_motion(tmp_path: Path) -> None:
    from autolink.generation.transfer_video import transfer_video

    frames = np.full((30, 96, 160, 3), 120, np.uint8)
    frames[:, 16:80, 80:144] = figure_clip(30, 0, 64)[0]  # small and beside the middle
    path = encoded(tmp_path / "small.mp4", frames)
    motion = tmp_path / "motion.json"
    extract.run(config(path, tmp_path / "out", "figures-transfer", motion=motion, segment=60))
    told = read_motion(motion)
    followed = transfer_video(path, path, "figures-transfer").driving.motion
    assert told.rate == followed.rate == RATE and (told.width, told.height) == (160, 96)
    np.testing.assert_allclose(told.keypoints, followed.keypoints, atol=160 / 8192 + 1e-3)
    assert told.weights is not None and followed.weights is not None
    np.testing.assert_allclose(told.weights, followed.weights, rtol=1e-4)
    moved = transfer_video(path, motion, "figures-transfer", size=32)
    assert len(list(moved)) == 30


def test_videos_followed_together_are_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for n, count in enumerate((30, 12, 25)):
        frames = np.full((count, 96, 160, 3), 120, np.uint8)
        frames[:, 16:80, 20 * n : 20 * n + 64] = figure_clip(count, n, 64)[0]
        if n == 0:
            frames[15:20] = 120  # gone, and searched for again
        encoded(clips / f"{n}.mp4", frames)
    (clips / "broken.mp4").write_bytes(b"no video")
    sizes: list[int] = []

    def noted(model: AutoLink, crops: NDArray[np.uint8], device: torch.device) -> NDArray[np.float32]:
        sizes.append(len(crops))
        return detect_all(model, crops, device)

    monkeypatch.setattr(extract_worker, "detect_all", noted)
    extract.run(config(clips, tmp_path / "together", "figures-transfer", segment=60))
    together, batches = rows(tmp_path / "together"), len(sizes)
    with monkeypatch.context() as patch:
        patch.setattr("autolink.generation.in_step.ROOM", 1)
        extract.run(config(clips, tmp_path / "alone", "figures-transfer", segment=60))
    alone = rows(tmp_path / "alone")
    assert batches < (len(sizes) - batches) / 2
    assert len(together) == len(alone) == 67 and len({row["state"] for row in alone}) > 1
    for one, other in zip(together, alone, strict=True):
        points, known = (np.array(row.pop("points"), float) for row in (one, other))
        assert one == other
        np.testing.assert_allclose(points, known, atol=1e-3)  # rounding comes back in the next frame's crop
    assert len(extraction.read_errors(tmp_path / "together")) == 1


@pytest.mark.slow
def test_a_killed_run_that_follows_goes_on_to_the_same_rows(clips: Path, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "work"
    extract.run(config(clips, whole, "figures-transfer"))

    def work(folder: Path) -> None:
        extract.run(config(clips, folder / "out", "figures-transfer"))

    kills = 0
    for _ in crashes(work, folder, lambda folder: folder.mkdir(), every=3):
        clear_leftovers.cache_clear()
        work(folder)
        found, known = rows(folder / "out"), rows(whole)
        assert [(row["video"], row["frame"]) for row in found] == [(row["video"], row["frame"]) for row in known]
        kills += 1
    assert kills >= 10


def test_children_look_closer_as_in_a_nested_model(tmp_path: Path) -> None:
    from faces import drawn_face

    from autolink.nested import NestedAutoLink

    frames = np.stack([np.asarray(drawn_face(3 + n, 5 - n)) for n in range(4)])
    path = encoded(tmp_path / "face.mp4", frames)
    extract.run(config(path, tmp_path / "out", "faces-transfer/stage_one"))
    nested = NestedAutoLink.from_pretrained("faces-transfer/stage_one")
    known = nested.detect(list(read_frames(path))).numpy()
    found = extraction.points_of(extraction.read(tmp_path / "out")).astype(float)
    about = extraction.About.read(tmp_path / "out")
    assert nested.named() and known.shape == (4, about.keypoints + about.children, 2) == found.shape
    assert np.abs(found - known).max() < 0.03  # resized by Pillow here, by torch there
    assert extraction.read_motion(tmp_path / "out", path).keypoints.shape == (4, about.keypoints, 2)


def test_the_motion_of_half_a_video_is_refused(clips: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    assert len(extraction.read_motion(out, clips / "a.mp4").keypoints) == 60
    (out / "points" / extraction.Segment(extraction.named(clips / "a.mp4"), 1, 3).name).unlink()
    with pytest.raises(UserError, match="holds 2 of the 3 segments of"):
        extraction.read_motion(out, clips / "a.mp4")
    assert len(extraction.read_motion(out, clips / "b.mkv").keypoints) == 30


def test_wrong_use_is_told(
    fails: Callable[..., str], clips: Path, whole: Path, tiny_checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def said(code: int, videos: Path = clips, out: Path = tmp_path / "new", **options: object) -> str:
        return fails(code, lambda: extract.run(config(videos, out, tiny_checkpoint, **options)))

    assert "another --segment" in said(2, out=whole, segment=2)
    assert "another checkpoint" in fails(2, lambda: extract.run(config(clips, whole, "figures")))
    assert "no extraction" in said(2, out=clips)
    assert "does not exist" in said(2, tmp_path / "gone")
    assert "i from 0 to n - 1" in said(2, shard="2/2")
    assert "--segment" in said(2, segment=0)
    assert "one video" in said(2, motion=tmp_path / "a.json")
    (tmp_path / "there.json").touch()
    assert "there.json exists" in said(2, clips / "a.mp4", motion=tmp_path / "there.json")
    (tmp_path / "empty").mkdir()
    assert "no videos" in said(2, tmp_path / "empty")
    assert "holds no extraction" in fails(1, lambda: extraction.read(tmp_path))
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(extract, "find_spec", lambda name: None)
    assert "pip install 'autolink-keypoints[scale]'" in said(1)


@pytest.mark.slow
def test_ray_writes_the_same(clips: Path, whole: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    try:
        extract.run(config(clips, tmp_path / "out", tiny_checkpoint, ray=True, workers=1))
    finally:
        ray.shutdown()
    assert rows(tmp_path / "out") == rows(whole)
    assert len(extraction.read_errors(tmp_path / "out")) == 1
