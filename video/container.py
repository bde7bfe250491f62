"""What reading, writing and sound have in common: opening a file, choosing its streams, and telling its time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from autolink.errors import UserError

FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,avi,caf,dts,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mp3,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rm,truehd,tta,vc1,w64,wav,wv,yuv4mpegpipe"
)
"""FFmpeg's demuxers that are used: files with pictures or sound in themselves, no lists that name other files."""

MOST_PIXELS = 1 << 26
"""Pixels of a frame at most: twice 8K."""

T = TypeVar("T", bound=Stream)

Packet: TypeAlias = "av.Packet[Any]"
"""A packet of any stream; quoted, for the class itself takes no parameter."""


class VideoError(UserError):
    """A file that cannot be read or written as video; the message names it and says what to do."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """A file that FFmpeg can read, closed after the block.

    Raises:
        VideoError: there is none, it is no regular file, or it cannot be read.
    """
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    advice = "give a video, an animated GIF, a picture or a folder of pictures"
    if not path.is_file():
        raise VideoError(f"{path} is no regular file; {advice}")
    options = {"format_whitelist": FORMATS, "max_pixels": str(MOST_PIXELS)}
    try:  # the prefix: a colon in a name is no protocol
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}; {advice}") from None
    with container:
        yield container


def moving(container: InputContainer) -> list[VideoStream]:
    """The video streams, without the cover of a record."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & still]


def default_stream(streams: Sequence[T]) -> T:
    """The stream that a player shows or plays of several: the first that is marked as default, else the first."""
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def to_seconds(units: int | None, unit: Fraction | None) -> Fraction | None:
    """A time as streams count it, in seconds; None where it is not known."""
    return None if units is None or unit is None else units * unit


def packet_end(packet: Packet) -> Fraction:
    """When a packet is over, in seconds."""
    return to_seconds((packet.pts or 0) + (packet.duration or 0), packet.time_base) or Fraction(0)
