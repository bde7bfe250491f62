"""Reading and writing video files frame by frame, in constant memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif"})
"""Files that are read as video."""


class VideoError(Exception):
    """A file that is no readable video; the message says which and why."""


@dataclass(frozen=True)
class VideoFacts:
    """What a file says of its video before any frame is decoded."""

    rate: Fraction
    """Frames a second."""
    frames: int | None
    """Number of frames where the file says so."""


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}") from None
    with container:
        if not container.streams.video:
            raise VideoError(f"{path} has no video stream")
        yield container, container.streams.video[0]


def video_facts(path: Path) -> VideoFacts:
    """Rate and length of a video.

    Raises:
        VideoError: the file is no readable video.
    """
    with _opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return VideoFacts(Fraction(rate), stream.frames or None)


def read_frames(path: Path) -> Iterator[Image]:
    """The frames of a video one after the other, upright: (H, W, 3), RGB.

    Raises:
        VideoError: the file is no readable video, or damaged (after the frames that could be read).
    """
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                image: Image = frame.to_ndarray(format="rgb24")  # type: ignore[assignment]
                yield np.rot90(image, round(frame.rotation / 90)) if frame.rotation else image
        except av.FFmpegError as error:
            raise VideoError(f"{path} is damaged: {error.strerror}") from None


class VideoWriter:
    """H.264 in mp4 at an exact rate; odd sizes are padded by a pixel. The file appears when the block ends well."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self.beside = path.with_name(f".{path.stem}.part{path.suffix}")
        self.stream: VideoStream | None = None

    def __enter__(self) -> "VideoWriter":
        self.container = av.open(str(self.beside), "w", format="mp4")
        return self

    def write(self, image: Image) -> None:
        """Append a frame, (H, W, 3) RGB; all must have the first one's size."""
        even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        if self.stream is None:
            self.stream = self.container.add_stream("libx264", rate=self.rate, options={"crf": "18"})
            self.stream.height, self.stream.width = even.shape[:2]
            self.stream.pix_fmt = "yuv420p"
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.stream is not None:
                self.container.mux(self.stream.encode())
            self.container.close()
            if kind is None and self.stream is not None:
                self.beside.replace(self.path)
        finally:
            self.beside.unlink(missing_ok=True)
