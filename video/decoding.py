"""Decodes the pictures of a file, on behind damage, each with the time at which it is shown."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from autolink.video.container import MOST_PIXELS, VideoError, default_stream, moving, opened, packet_end, to_seconds
from autolink.video.timing import Clock, Timing, scan

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the alpha of WebM, which FFmpeg's own leave out."""


LATE = 1
"""Seconds by which frames come out of a decoder later than they go in, at most."""


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream of pictures that a player shows.

    Raises:
        VideoError: there is none that can be decoded, or its frames are too large.
    """
    streams = moving(container)
    if not streams:
        raise VideoError(f"{path} has no video stream{', only sound' * bool(container.streams.audio)}; give a video")
    stream = default_stream(streams)
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{path} has a codec that is unknown here; convert it to H.264 in mp4 first")
    if context.width * context.height > MOST_PIXELS:
        raise VideoError(
            f"{path} has frames of {context.width}x{context.height} pixels, more than {MOST_PIXELS} in all; "
            "scale it down"
        )
    stream.thread_type = "AUTO"
    return stream


def timing(path: Path) -> Timing:
    """What a file's timestamps say.

    Raises:
        VideoError: it cannot be read, or its timestamps cannot be meant.
    """
    with opened(path) as container:
        return scan(container, video_stream(container, path), path)


@dataclass
class Decoding:
    """The decoding of one file, and what was found wrong on the way."""

    container: InputContainer
    path: Path
    timing: Timing
    stream: VideoStream = field(init=False)
    clock: Clock = field(init=False)
    faults: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.stream = video_stream(self.container, self.path)
        self.clock = Clock(self.timing, self.container.format.name)

    def frames(self) -> Iterator[tuple[av.VideoFrame, Fraction | None, Fraction]]:
        """The frames as they were coded, when each is shown, and for how long, in seconds."""
        decoder = _decoder(self.stream)
        reached = Fraction(0)
        lost = 0
        try:
            for packet in self.container.demux():  # all streams: sound may rightly last longer than the pictures
                if packet.pts is not None:
                    reached = max(reached, packet_end(packet))
                if packet.stream.type == "audio":
                    self.clock.sounded(packet)
                if packet.stream.index == self.stream.index:
                    self.clock.demuxed(packet)
                    try:
                        for frame in decoder.decode(packet):
                            yield frame, *self.clock.stamp(frame)
                    except (av.InvalidDataError, av.ArgumentError):
                        lost += 1
        except av.FFmpegError as error:
            self.faults.append(f"{error.strerror} after {float(reached):.1f} s")
        if lost:
            self.faults.append(f"{lost} of its packets cannot be decoded")
        end = Fraction((self.container.start_time or 0) + (self.container.duration or 0), av.time_base)
        if reached < end - max(Fraction(1, 2), end / 50):
            self.faults.append(f"it ends after {float(reached):.1f} of {float(end):.1f} s")


def _decoder(stream: VideoStream) -> VideoCodecContext:
    name = WITH_ALPHA.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.options = {"max_pixels": str(MOST_PIXELS)}
    return decoder


def frames_at(container: InputContainer, stream: VideoStream, seconds: Iterable[Fraction]) -> Iterator[av.VideoFrame]:
    """The frame that is shown at each of these times after the first, sought from the whole picture before it."""
    decoder = _decoder(stream)
    begins = to_seconds(stream.start_time, stream.time_base) or Fraction(0)
    for second in seconds:
        container.seek(int((begins + second) / (stream.time_base or 1)), stream=stream)
        decoder.flush_buffers()
        found = None
        with suppress(av.FFmpegError):  # damage there
            for packet in container.demux(stream):
                for frame in decoder.decode(packet):
                    time = to_seconds(frame.pts, frame.time_base)
                    if found is None or (time is not None and time <= begins + second):
                        found = frame
                if found is not None and (to_seconds(packet.dts, packet.time_base) or begins) > begins + second + LATE:
                    break
        if found is not None:
            yield found


def first_shown(path: Path, facts: Timing) -> Fraction:
    """When the first frame that can be decoded is shown, in seconds of the file's own time."""
    with opened(path) as container:
        for _, time, _ in Decoding(container, path, facts).frames():
            return time or Fraction(0)
    return Fraction(0)
