from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as imageio
import numpy as np
import pytest

from autolink.data.figures import figure_clip
from video.files import VideoError, VideoWriter, read_frames, video_facts


def write(path: Path, frames: np.ndarray, rate: Fraction = Fraction(25)) -> Path:
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("size", [64, 45])
def test_written_and_read_again(tmp_path: Path, size: int) -> None:
    frames = figure_clip(12, 1, size)[0]
    path = write(tmp_path / "clip.mp4", frames, Fraction(30000, 1001))
    assert video_facts(path).rate == Fraction(30000, 1001) and video_facts(path).frames == 12
    again = np.stack(list(read_frames(path)))
    even = size + size % 2
    assert again.shape == (12, even, even, 3)
    assert np.abs(again[:, :size, :size].astype(int) - frames).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        list(read_frames(tmp_path / "text.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound\.mp4 has no video"):
        video_facts(tmp_path / "sound.mp4")
    with pytest.raises(VideoError, match=r"none\.mp4"):
        video_facts(tmp_path / "none.mp4")


def test_a_damaged_file_gives_what_it_can(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", figure_clip(50, 2, 64)[0])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    frames = []
    try:
        for frame in read_frames(path):
            frames.append(frame)
    except VideoError as error:
        assert "clip.mkv" in str(error)
    assert len(frames) > 5


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        writer.write(figure_clip(1, 1, 64)[0][0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "clip.gif", figure_clip(5, 1, 32)[0], duration=100, loop=0)
    assert len(list(read_frames(tmp_path / "clip.gif"))) == 5
