"""What reading, writing and sound have in common: opening a file, and telling its time."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from autolink.errors import UserError


class VideoError(UserError):
    """A file that cannot be read or written as video; the message names it and says what to do."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """A file that FFmpeg can read, closed after the block.

    Raises:
        VideoError: there is none, or it cannot be read.
    """
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")  # the prefix: a colon in a name is no protocol
    except (av.FFmpegError, OSError) as error:
        advice = "give a video, an animated GIF, a picture or a folder of pictures"
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}; {advice}") from None
    with container:
        yield container


def moving(container: InputContainer) -> list[VideoStream]:
    """The video streams, without the cover of a record."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def to_seconds(units: int | None, unit: Fraction | None) -> Fraction | None:
    """A time as streams count it, in seconds; None where it is not known."""
    return None if units is None or unit is None else units * unit


def packet_end(packet: av.Packet) -> Fraction:
    """When a packet is over, in seconds."""
    return to_seconds((packet.pts or 0) + (packet.duration or 0), packet.time_base) or Fraction(0)
