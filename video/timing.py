"""When each frame of a file is shown, and the constant rate at which none of them is lost."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autolink.video.container import Packet, VideoError, packet_end, to_seconds
from autolink.video.stills import STILL_RATE

STANDARD_RATES = (
    *map(Fraction, (1, 2, 3, 4, 5, 6, 8, 10, 12, 12.5, 15, 18, 20)),
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48), Fraction(50),
    Fraction(60000, 1001), Fraction(60), Fraction(90), Fraction(120),
)  # fmt: skip
"""Rates to choose from where timestamps lie on no step."""
FASTEST_STEP = Fraction(60)
"""Frames a second up to which the greatest common step of all timestamps is taken as the rate."""
SCANNED = 20_000
"""Packets of pictures whose timestamps are looked at: a quarter of an hour."""
LONG_PAUSE = 10
"""Seconds that one frame may be shown where neither the file's length nor its sound bears it out."""
MOST_REPEATS, FREE_REPEATS = 100, 100_000
"""How many times over a file's frames may be repeated to last as long as it says, once that are many."""
SHORTEST_GIF, BROWSERS_GIF = 2, 10
"""Hundredths of a second: delays below the first are shown for the second, as browsers do."""

STRAYING = 0.02
"""Share of timestamps that may lie beside the steps of a rate that they have."""

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
    """Whether timestamps are those of decoding, as AVI has them: the n-th belongs to the n-th frame shown."""


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
    is_gif = container.format.name == "gif"
    duration = Fraction(container.duration or 0, av.time_base)
    if is_gif:
        shown = [gif_delay(stamp.shown) for stamp in stamps]
        times = np.cumsum([0, *shown[:-1]], dtype=np.int64)
        duration = sum(shown) * unit
    else:
        run = [
            stamp.decoded if decoding_order and stamp.decoded is not None else stamp.time
            for stamp in _longest_run(stamps)
        ]
        times = np.unique(run).astype(np.int64)
    rate = _rate(times, unit, stream)
    frames: int | None = None
    if stamps and whole:
        last = gif_delay(stamps[-1].shown) if is_gif else max(stamps, key=lambda stamp: stamp.time).shown
        frames = round((int(times[-1] - times[0]) * unit + max(last * unit, 1 / rate)) * rate)
    elif stream.duration or duration:
        frames = round((to_seconds(stream.duration, unit) or duration) * rate) or None
    claimed = max(Fraction(frames or 0), Fraction(duration * rate))
    if claimed > MOST_REPEATS * len(stamps) + FREE_REPEATS and heard < duration / 2:
        raise VideoError(
            f"{name} says that its {len(stamps)} frames last {float(claimed / rate):.0f} s; "
            "its timestamps are faulty, re-encode it at a constant rate"
        )
    return Timing(rate, frames, duration, decoding_order)


def _stamps(container: InputContainer, stream: VideoStream) -> tuple[list[Stamp], Fraction, bool]:
    """The stamps of a stream's packets, how far its sound goes, and whether these are all."""
    stamps: list[Stamp] = []
    heard = Fraction(0)
    try:
        for packet in container.demux():
            if packet.stream.index == stream.index:
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    stamps.append(Stamp(time, packet.dts, packet.duration or 0))
                if len(stamps) == SCANNED:
                    return stamps, heard, False
            elif packet.stream.type == "audio" and packet.pts is not None:
                heard = max(heard, packet_end(packet))
    except av.FFmpegError:
        pass  # reported by the decoder
    return stamps, heard, True


def _longest_run(stamps: list[Stamp]) -> list[Stamp]:
    """The longest part that is decoded in order: where files were joined, time begins again."""
    known = [(n, stamp.decoded) for n, stamp in enumerate(stamps) if stamp.decoded is not None]
    starts = [n for (_, a), (n, b) in pairwise(known) if b < a]
    bounds = [0, *starts, len(stamps)]
    return max((stamps[a:b] for a, b in pairwise(bounds)), key=len, default=[])


def gif_delay(hundredths: int) -> int:
    """How long a frame of a GIF is shown that says so many hundredths of a second."""
    return hundredths if hundredths >= SHORTEST_GIF else BROWSERS_GIF


def _rate(times: NDArray[np.int64], unit: Fraction, stream: VideoStream) -> Fraction:
    """The lowest rate on whose steps all of these times lie; where they lie on none, one that keeps all frames."""
    header = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
    if len(times) < 2:
        return min(header, default=STILL_RATE)
    steps = np.diff(times)
    usual = 1 / (Fraction(float(np.median(steps))) * unit)
    common = 1 / (int(np.gcd.reduce(steps)) * unit)
    seconds = (times - times[0]) * float(unit)
    likely = [rate for rate in (*header, common) if rate <= usual * Fraction(5, 2)]
    fit = [rate for rate in likely if (rate in header or rate <= FASTEST_STEP) and _on_steps(seconds, rate, unit)]
    if fit:  # of rates that are the same but for rounding, the header's
        return next(rate for rate in fit if rate <= min(fit) * Fraction(51, 50))
    fast = [rate for rate in (*STANDARD_RATES, *likely) if rate >= usual * Fraction(97, 100)] or [usual]

    def by_standard(rate: Fraction) -> tuple[Fraction, bool, Fraction]:
        return max(r for r in (Fraction(0), *STANDARD_RATES) if r <= rate), rate not in STANDARD_RATES, rate

    return next((rate for rate in sorted(fast, key=by_standard) if _keeps_all(seconds, rate)), max(fast))


def _on_steps(seconds: NDArray[np.float64], rate: Fraction, unit: Fraction) -> bool:
    """Whether times lie on different steps of a rate, but for their rounding to units and a few that stray."""
    places = seconds * float(rate)
    off = np.abs(places - np.rint(places)) > min(0.25, float(unit * rate)) + 1e-3
    return bool(off.sum() <= STRAYING * len(off)) and _keeps_all(seconds, rate)


def _keeps_all(seconds: NDArray[np.float64], rate: Fraction) -> bool:
    before = -1
    for place in (seconds * float(rate)).tolist():
        now = next_place(before, place)
        if now == before:
            return False
        before = now
    return True


def next_place(before: int, place: float | Fraction) -> int:
    """The step of a frame behind one at step `before`; the same where it comes too late to have one of its own.

    Up to a step of delay is accepted, for timestamps jitter.
    """
    step = max(before, round(place))
    return step + 1 if step == before and before + 1 - place <= 1 else step


class Clock:
    """Presentation times of frames, as they are decoded."""

    def __init__(self, timing: Timing, is_gif: bool) -> None:
        self.timing, self.is_gif = timing, is_gif
        self.waiting: deque[tuple[Fraction, Fraction]] = deque()  # of packets: presentation time, decoding time
        self.last: Fraction | None = None
        self.elapsed = Fraction(0)
        self.heard: Fraction | None = None
        self.origin: Fraction | None = None

    def demuxed(self, packet: Packet) -> None:
        """Register a packet of pictures, before it is decoded."""
        shown = to_seconds(packet.dts if packet.pts is None else packet.pts, packet.time_base)
        decoded = to_seconds(packet.pts if packet.dts is None else packet.dts, packet.time_base)
        if self.timing.decoding_order and shown is not None and decoded is not None:
            self.waiting.append((shown, decoded))

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
            time, shown = self.elapsed, Fraction(gif_delay(round(shown * 100)), 100)
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
