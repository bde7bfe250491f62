"""Reads video: frame by frame in constant memory, at exact rates, upright and square."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autolink.pictures import VIDEOS, warn_once
from autolink.video.container import VideoError, moving, opened, packet_end, to_seconds
from autolink.video.stills import STILL_RATE, find_stills, pace_of, read_stills

Image = NDArray[np.uint8]

SUFFIXES = VIDEOS
"""Files that are read as video."""

LONG_PAUSE = 10
"""Seconds that one frame may be shown where a file does not say how long it is."""


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before it is read through."""

    rate: Fraction
    """Frames a second, as `read_frames` delivers them."""
    frames: int | None
    """How many those are by the file's header (a close estimate where the rate varies), None where it is silent."""
    width: int
    """Of the delivered frames: upright, with square pixels."""
    height: int
    audio: bool
    """Whether there is sound."""


def video_facts(path: Path) -> VideoFacts:
    """Rate, length, size and sound of a video, an animated GIF, a picture or a folder of pictures.

    Raises:
        VideoError: not even one frame can be read.
    """
    with closing(read_frames(path)) as frames:
        height, width = next(frames).shape[:2]
    stills = find_stills(path)
    if stills:
        return VideoFacts(*pace_of(stills), width, height, audio=False)
    with opened(path) as container:
        stream = _video_stream(container, path)
        rate = _rate(stream, path)
        count = round(stream.duration * stream.time_base * rate) if stream.duration and stream.time_base else None
        return VideoFacts(rate, count or None, width, height, bool(container.streams.audio))


def read_frames(path: Path) -> Generator[Image, None, None]:
    """The frames of a video, an animated GIF, a picture or a folder of pictures in natural order: (H, W, 3), RGB.

    All have one size and follow each other at the constant rate of `video_facts`: where the file's own rate varies,
    frames are repeated or left out by their timestamps, so that sound stays in step. Frames are upright, pixels
    square, and what is transparent is white.

    Raises:
        VideoError: nothing can be read; or some cannot, then all that could was delivered before.
    """
    stills = find_stills(path)
    if stills:
        yield from read_stills(stills)
        return
    with opened(path) as container:
        stream = _video_stream(container, path)
        faults: list[str] = []
        count = 0
        duration = Fraction(container.duration or 0, av.time_base)
        for frame in _paced(_decode(container, stream, faults), _rate(stream, path), duration):
            if count == 0:
                size = _square_size(frame, stream)
            yield _to_rgb(frame, *size)
            count += 1
    if count == 0:
        raise VideoError(f"no frame of {path} can be decoded; it is empty or damaged, save or copy it again")
    if faults:
        raise VideoError(f"{path} is damaged: {faults[0]}; {count} frames could be read")


def spread_frames(path: Path, count: int) -> list[Image]:
    """The first frame of a video and `count` - 1 more, evenly spread as far as its length is known."""
    with closing(read_frames(path)) as frames:
        pictures = [next(frames)]
        if count > 1:
            length = video_facts(path).frames or count
            wanted = set(np.linspace(0, length - 1, count).round().astype(int)[1:].tolist())
            try:
                for n, frame in enumerate(frames, 1):
                    if n in wanted:
                        pictures.append(frame)
            except VideoError as error:  # what could be read is enough
                warn_once(str(error))
    return pictures


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = moving(container)
    if not streams:
        raise VideoError(f"{path} has no video stream{', only sound' * bool(container.streams.audio)}; give a video")
    if streams[0].codec_context is None:
        raise VideoError(f"{path} has a codec that is unknown here; convert it to H.264 in mp4 first")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _rate(stream: VideoStream, path: Path) -> Fraction:
    """The rate at which most frames lie on whole steps, unless that is far from how many there are a second."""
    mean, steps = stream.average_rate, stream.guessed_rate
    if mean and steps and 0.85 * mean <= steps <= 2.5 * mean:
        return steps
    return mean or _counted_rate(path, stream.index) or STILL_RATE


def _counted_rate(path: Path, index: int) -> Fraction | None:
    """Frames a second over the first 200, in whole numbers: browsers record files that do not say."""
    with opened(path) as container:
        packets = list(islice((p for p in container.demux(container.streams[index]) if p.pts is not None), 200))
    seconds = packet_end(packets[-1]) - packet_end(packets[0]) if packets else 0
    return Fraction(max(1, round((len(packets) - 1) / seconds))) if seconds > 0 else None


def _decode(container: InputContainer, stream: VideoStream, faults: list[str]) -> Iterator[av.VideoFrame]:
    """The frames as they were coded; goes on behind damage and tells it in `faults`."""
    reached = Fraction(0)
    lost = 0
    try:
        for packet in container.demux():  # all streams: sound may rightly last longer than the pictures
            if packet.pts is not None:
                reached = max(reached, packet_end(packet))
            if packet.stream.index == stream.index:
                try:
                    yield from stream.decode(packet)
                except av.InvalidDataError:
                    lost += 1
    except av.FFmpegError as error:
        faults.append(f"{error.strerror} after {float(reached):.1f} s")
    if lost:
        faults.append(f"{lost} of its packets cannot be decoded")
    end = Fraction((container.start_time or 0) + (container.duration or 0), av.time_base)
    if reached < end - max(Fraction(1, 2), end / 50):
        faults.append(f"it ends after {float(reached):.1f} of {float(end):.1f} s")


def _paced(frames: Iterable[av.VideoFrame], rate: Fraction, duration: Fraction) -> Iterator[av.VideoFrame]:
    """Frames at a constant rate by their timestamps, the last as long as it lasts.

    Timestamps that run backwards, or far ahead and beyond `duration`, are faulty: time goes on from the frame before.
    """

    def latest(place: int) -> Fraction:
        return max(duration * rate, place + LONG_PAUSE * rate)

    held: av.VideoFrame | None = None
    place = 0
    origin: Fraction | None = None
    for frame in frames:
        time = to_seconds(frame.pts, frame.time_base)
        step = -1 if time is None or origin is None else round((time - origin) * rate)
        before, place = place, place + 1 if held else 0
        if before <= step <= latest(before):
            place = step
        elif time is not None:
            origin = time - place / rate
        if held:
            for _ in range(before, place):
                yield held
        held = frame
    if held:
        shown = to_seconds(held.duration, held.time_base) or 0
        for _ in range(max(1, min(round(shown * rate), int(latest(place)) - place))):
            yield held


def _square_size(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(width, height) with square pixels, before turning upright: as players do, the width is changed."""
    ratio = stream.sample_aspect_ratio or 1
    return (max(1, round(frame.width * ratio)) if 0.1 < ratio < 10 else frame.width), frame.height


def _to_rgb(frame: av.VideoFrame, width: int, height: int) -> Image:
    """(H, W, 3), upright, over white."""
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", width=width, height=height).astype(np.uint16)
        alpha = rgba[..., 3:]
        image = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        image = frame.to_ndarray(format="rgb24", width=width, height=height)  # type: ignore[assignment]
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix:
        image = _upright(image, np.frombuffer(matrix, np.int32))  # type: ignore[call-overload]
    return np.ascontiguousarray(image)


def _upright(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Turned and mirrored as the 3x3 display matrix says, which maps (x, y) to (a x + c y, b x + d y)."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(a) < abs(b):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
