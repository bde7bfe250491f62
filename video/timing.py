"""When each frame of a file is shown, and all of them at a constant rate."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from autolink.video.container import Packet, VideoError, packet_end, to_seconds
from autolink.video.rates import constant_rate, next_place
from autolink.video.stills import shown_milliseconds

SCANNED = 20_000
"""Packets of pictures whose timestamps are looked at: a quarter of an hour."""
LONG_PAUSE = 10
"""Seconds that one frame may be shown where neither the file's length nor its sound bears it out."""
MOST_REPEATS, FREE_REPEATS = 100, 100_000
"""How many times over a file's frames may be repeated to last as long as it says, once that are many."""
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """What a file's timestamps say."""

    rate: Fraction
    """Frames a second: the step on which the timestamps lie, so that each frame has one of its own."""
    frames: int | None
    """How many those are at this rate, None where neither timestamps nor header say."""
    duration: Fraction
    """Seconds by the header, or of all frames where that is no truth; 0 where unknown."""
    decoding_order: bool
    """Whether timestamps are in the order of decoding: the n-th belongs to the n-th frame shown."""
    seekable: bool = False
    """Whether a time means one place in the file, which an index tells."""
    shifts: tuple[Fraction, ...] = ()
    """Where files were joined, by how many seconds each part but the first is shown later than its timestamps say."""


class Stamp(NamedTuple):
    """Timestamps of a packet, in the stream's units."""

    time: int
    decoded: int | None
    shown: int
    """How long its frame is shown."""


def scan(container: InputContainer, stream: VideoStream, name: object) -> Timing:
    """Look at the timestamps of a file, all but the longest ones to their end; nothing is decoded.

    Raises:
        VideoError: a few frames claim to last so long that only a bomb or a fault can be meant.
    """
    unit = stream.time_base or Fraction(1, 1000)
    stamps, heard, whole = _stamps(container, stream)
    decoding_order = stream.codec_context.has_b_frames and all(a.time <= b.time for a, b in pairwise(stamps))
    if container.format.name == "gif":
        stamps = _gif_stamps(stamps, unit)
    elif container.format.name == "avi" and decoding_order:
        stamps = [stamp if stamp.decoded is None else stamp._replace(time=stamp.decoded) for stamp in stamps]
    runs = _runs(stamps)
    longest = max(runs, key=len)
    rate = constant_rate(np.unique([stamp.time for stamp in longest]).astype(np.int64), unit, stream)
    duration = Fraction(container.duration or 0, av.time_base)
    if container.format.name == "gif":
        duration = sum((stamp.shown for stamp in stamps), 0) * unit
    frames: int | None = None
    if stamps and whole:
        frames = sum(round(_length(run, unit, rate) * rate) for run in runs)
    elif stream.duration or duration:
        frames = round((to_seconds(stream.duration, unit) or duration) * rate) or None
    claimed = max(_length(longest, unit, rate) if longest else Fraction(0), duration) * rate
    if claimed > MOST_REPEATS * len(stamps) + FREE_REPEATS and heard < duration / 2:
        raise VideoError(
            f"{name} says that its {len(stamps)} frames last {float(claimed / rate):.0f} s; "
            "its timestamps are faulty, re-encode it at a constant rate"
        )
    seekable = len(runs) == 1 and container.format.name.startswith(("mov", "matroska"))
    return Timing(rate, frames, duration, decoding_order, seekable, _shifts(runs, unit, rate))


def _stamps(container: InputContainer, stream: VideoStream) -> tuple[list[Stamp], Fraction, bool]:
    """The stamps of a stream's packets, how far its sound goes, and whether these are all."""
    stamps: list[Stamp] = []
    heard, found = Fraction(0), False
    try:
        for packet in container.demux():
            if packet.stream.index == stream.index:
                time = packet.dts if packet.pts is None else packet.pts
                if packet.is_keyframe and not found:  # those before it cannot be decoded
                    found = True
                    stamps.clear()
                if time is not None:
                    stamps.append(Stamp(time, packet.dts, packet.duration or 0))
                if len(stamps) == SCANNED:
                    return stamps, heard, False
            elif packet.stream.type == "audio" and packet.pts is not None:
                heard = max(heard, packet_end(packet))
    except av.FFmpegError:
        pass  # reported by the decoder
    return stamps, heard, True


def _gif_stamps(stamps: list[Stamp], unit: Fraction) -> list[Stamp]:
    """The stamps of a GIF's frames as browsers show them, one after the other."""
    shown = [round(shown_milliseconds(stamp.shown * unit * 1000) / 1000 / unit) for stamp in stamps]
    return [Stamp(time, None, lasts) for time, lasts in zip(accumulate(shown, initial=0), shown, strict=False)]


def _runs(stamps: list[Stamp]) -> list[list[Stamp]]:
    """The parts of a file that are decoded in order: where files were joined, time begins again."""
    known = [(n, stamp.decoded) for n, stamp in enumerate(stamps) if stamp.decoded is not None]
    starts = [n for (_, a), (n, b) in pairwise(known) if b < a]
    return [stamps[a:b] for a, b in pairwise([0, *starts, len(stamps)])]


def _length(run: list[Stamp], unit: Fraction, rate: Fraction) -> Fraction:
    """How long the pictures of a part are shown, in seconds; the last for one step of the rate at least."""
    last = max(run, key=lambda stamp: stamp.time)
    return (last.time - min(stamp.time for stamp in run)) * unit + max(last.shown * unit, 1 / rate)


def _shifts(runs: list[list[Stamp]], unit: Fraction, rate: Fraction) -> tuple[Fraction, ...]:
    """By how much later than its timestamps say each part but the first is shown, in seconds."""
    shifts: list[Fraction] = []
    end = Fraction(0)
    for run in runs:
        begins = min((stamp.time for stamp in run), default=0) * unit
        shifts.append(end - begins if shifts else Fraction(0))
        end = begins + shifts[-1] + (_length(run, unit, rate) if run else 0)
    return tuple(shifts[1:])


class Clock:
    """Presentation times of frames, as they are decoded."""

    def __init__(self, timing: Timing, container_format: str) -> None:
        self.timing, self.is_gif, self.is_avi = timing, container_format == "gif", container_format == "avi"
        self.waiting: deque[tuple[Fraction, Fraction]] = deque()  # of packets: presentation time, decoding time
        self.last: Fraction | None = None
        self.elapsed = Fraction(0)
        self.heard: Fraction | None = None
        self.origin: Fraction | None = None

    def demuxed(self, packet: Packet) -> None:
        """Register a packet of pictures, before it is decoded."""
        shown = to_seconds(packet.dts if packet.pts is None else packet.pts, packet.time_base)
        if self.timing.decoding_order and shown is not None:  # AVI has no other times than those of decoding
            decoded = to_seconds(packet.dts, packet.time_base) if self.is_avi else shown
            self.waiting.append((shown, shown if decoded is None else decoded))

    def sounded(self, packet: Packet) -> None:
        """Register a packet of sound: while sound continues, a still picture is believed."""
        start, end = to_seconds(packet.pts, packet.time_base), packet_end(packet)
        if start is not None and (self.heard is None or start <= self.heard + LONG_PAUSE):
            self.heard = max(self.heard or end, end)

    def stamp(self, frame: av.VideoFrame) -> tuple[Fraction | None, Fraction]:
        """When a frame is shown and for how long, in seconds; frames must come in the decoder's order."""
        shown = to_seconds(frame.duration, frame.time_base) or Fraction(0)
        time = to_seconds(frame.dts if frame.pts is None else frame.pts, frame.time_base)
        if self.is_gif:
            time, shown = self.elapsed, shown_milliseconds(shown * 1000) / 1000
            self.elapsed += shown
        elif self.waiting:
            while frame.key_frame and len(self.waiting) > 1 and time is not None and self.waiting[0][0] < time:
                self.waiting.popleft()  # of what could not be decoded
            time = self.waiting.popleft()[1]
        elif self.last is not None and time is not None and time < self.last:
            decoded = to_seconds(frame.dts, frame.time_base)
            time = decoded if decoded is not None and decoded > self.last else time
        self.last = time
        if self.origin is None:
            self.origin = time
        return time, shown

    def borne_out(self) -> Fraction:
        """Seconds from the first frame up to which timestamps are believed."""
        heard = self.heard - self.origin if self.heard is not None and self.origin is not None else 0
        return max(self.timing.duration, Fraction(heard))


def paced(
    frames: Iterable[tuple[T, Fraction | None, Fraction]], rate: Fraction, borne_out: Callable[[], Fraction]
) -> Iterator[T]:
    """Frames at a constant rate by their timestamps, the last as long as it lasts.

    Timestamps that run backwards, or far ahead and beyond what is `borne_out`, are faulty: time goes on from the frame
    before.
    """

    def latest(place: int) -> Fraction:
        return max(borne_out() * rate, place + LONG_PAUSE * rate)

    held: list[T] = []
    place, shown, last = -1, Fraction(0), Fraction(0)
    origin: Fraction | None = None
    for frame, time, lasts in frames:
        before = place
        if time is None:
            place += 1
            last = Fraction(place)
        else:
            origin = time if origin is None else origin
            exact = (time - origin) * rate
            if last <= exact <= latest(before):
                place = next_place(before, exact)
            else:
                place += 1
                exact, origin = Fraction(place), time - place / rate
            last = exact
        for image in held:
            yield from [image] * (place - before)
        held, shown = [frame], lasts
    for image in held:
        yield from [image] * max(1, min(round(shown * rate), int(latest(place)) - place))
