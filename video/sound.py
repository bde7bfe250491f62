"""Sound of one file, put beside the pictures of another: copied where it can be, else turned into AAC."""

import ctypes
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain

import av
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph

from autolink.pictures import warn_once
from autolink.video.container import Packet, default_stream, packet_end, to_seconds
from autolink.video.timing import LONG_PAUSE

COPIED_SOUND = frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"})
"""Sound that an mp4 holds as it is; any other is turned into AAC."""

AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})

PREROLL = Fraction(1, 10)
"""Seconds of sound kept before the first picture: not heard, but decoders need it to begin."""

ASIDE = Fraction(1, 2)
"""Seconds by which sound and pictures of a file that was joined to another may differ in length."""

OVERLAP = Fraction(1, 500)
"""Seconds by which a packet of sound may begin before the one before it ends, for times are rounded."""

BESIDE = 0.7
"""How loud centre, side and back are heard on either side, beside the front."""


def sound_packets(
    source: InputContainer, target: OutputContainer, start: Fraction, shifts: Sequence[Fraction] = ()
) -> Iterator[Packet]:
    """The default sound track as packets for `target`, whose time begins at `start` of the source's, in seconds.

    Sound that cannot be decoded is left out; a warning says so.

    Args:
        shifts: where files were joined, by how many seconds later than its timestamps say each further part is shown.
    """
    stream = default_stream(source.streams.audio)
    if stream.codec_context is None:
        _warn(source, "the codec of its sound is unknown here; the result is silent")
        return iter(())
    listed = _settle_layout(stream)
    sound = _decoded(source, stream, shifts)
    if stream.codec_context.codec.canonical_name in COPIED_SOUND:
        return _copied(sound, target.add_stream_from_template(stream), start)
    frames = (frame for _, decoded in sound for frame in decoded)
    first = next(frames, None)
    if first is None:
        return iter(())
    rate = stream.rate if stream.rate in AAC_RATES else 48000
    track = target.add_stream("aac", rate=rate, layout="mono" if first.layout.nb_channels == 1 else "stereo")
    return _encoded(_mixed(_from(start, chain([first], frames)), listed, track), track)


def _warn(source: InputContainer, text: str) -> None:
    warn_once(f"{source.name.removeprefix('file:')}: {text}")


def _copied(sound: Iterator[tuple[Packet, list[AudioFrame]]], track: AudioStream, start: Fraction) -> Iterator[Packet]:
    last = None
    for packet, _ in sound:
        if packet.dts is None or packet.pts is None:
            continue
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet_end(packet) > -PREROLL and (last is None or packet.dts > last):
            last = packet.dts
            packet.stream = track
            yield packet


def _settle_layout(stream: AudioStream) -> list[str]:
    """The channels of a layout that lists them; leaves the decoder a layout that PyAV can handle.

    PyAV shares the memory of such a list, and both sides free it: once the decoder has another, it has one owner.
    """
    context = stream.codec_context
    layout = context.layout
    listed = _listed(layout.name)
    if listed:
        context.layout = f"{layout.nb_channels} channels"
    return listed


def _listed(layout: str) -> list[str]:
    """The channels of a layout such as "3 channels (FL+FR+LFE)", none where it has a name of its own."""
    found = re.fullmatch(r"\d+ channels \((.*)\)", layout)
    return found[1].split("+") if found else []


def _decoded(
    source: InputContainer, stream: AudioStream, shifts: Sequence[Fraction]
) -> Iterator[tuple[Packet, list[AudioFrame]]]:
    """The packets that can be decoded, with their frames; how many cannot is told in the end."""
    lost = count = 0
    try:
        for packet in _demuxed(source, stream, shifts):
            count += packet.size > 0  # the last is empty, to get what the decoder still holds
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                lost += 1  # a gap of silence, since timestamps go on
                continue
            for frame in frames:
                if _listed(frame.layout.name):  # else its list of channels is freed twice, see `_settle_layout`
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame.layout))
            yield packet, frames
    finally:
        if lost:
            silent = "the result is silent" if lost == count else "it is silent there"
            _warn(source, f"{lost} of {count} packets of its sound cannot be decoded; {silent}")


def _from(start: Fraction, frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """Frames whose time begins at `start`, in seconds."""
    for frame in frames:
        time = to_seconds(frame.pts, frame.time_base)
        if time is not None:
            if time + Fraction(frame.samples, frame.sample_rate) <= start:
                continue
            frame.pts = round((time - start) * frame.sample_rate)
        frame.time_base = Fraction(1, frame.sample_rate)
        yield frame


def _mixed(frames: Iterator[AudioFrame], listed: list[str], track: AudioStream) -> Iterator[AudioFrame]:
    """Frames as a track wants them: its rate, and one channel or two that all others are mixed into."""
    graph, built_for = Graph(), None
    for frame in frames:
        kind = frame.layout.name, frame.format.name, frame.sample_rate
        if kind != built_for:
            yield from _pulled(graph, None) if built_for else ()
            graph, built_for = _mixer(frame, listed, track), kind
        yield from _pulled(graph, frame)
    yield from _pulled(graph, None) if built_for else ()


def _mixer(frame: AudioFrame, listed: list[str], track: AudioStream) -> Graph:
    count = frame.layout.nb_channels
    names = listed if len(listed) == count else _listed(frame.layout.name) or _names(frame.layout)
    sides = [_sides(name) for name in names]
    mono = track.layout.nb_channels == 1
    heard = [[left + right for left, right in sides]] if mono else [list(side) for side in zip(*sides, strict=True)]
    terms = []
    for n, gains in enumerate(heard):
        whole = max(1.0, sum(gains))
        terms.append(f"c{n}=" + "+".join(f"{gain / whole:.4f}*c{k}" for k, gain in enumerate(gains)))
    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        ),
        graph.add("pan", "|".join(["mono" if mono else "stereo", *terms])),
        graph.add("aformat", sample_fmts="fltp", sample_rates=str(track.rate)),
        graph.add("abuffersink"),
    ).configure()  # fmt: skip
    return graph


def _names(layout: AudioLayout) -> list[str]:
    """What the channels are; where a layout does not say, those that so many usually are."""
    names = [channel.name for channel in layout.channels]
    if set(names) == {"NONE"}:
        with suppress(ValueError):  # so many are never usual
            names = [channel.name for channel in AudioLayout(f"{len(names)}c").channels]
    return names


def _sides(channel: str) -> tuple[float, float]:
    """How loud a channel is heard on the left and on the right."""
    if channel.startswith("LFE") or re.fullmatch("AMBI[1-9].*", channel):
        return 0, 0
    if channel in ("FL", "DL", "FR", "DR"):
        return (1, 0) if "L" in channel else (0, 1)
    unknown = channel.startswith(("U", "N"))
    return BESIDE * (unknown or "R" not in channel), BESIDE * (unknown or "L" not in channel)


def _pulled(graph: Graph, frame: AudioFrame | None) -> Iterator[AudioFrame]:
    """What is ready after another frame, all that is left after None."""
    graph.push(frame)
    while True:
        try:
            pulled = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(pulled, AudioFrame)
        yield pulled


def _encoded(frames: Iterator[AudioFrame], track: AudioStream) -> Iterator[Packet]:
    for frame in frames:
        yield from track.encode(frame)
    yield from track.encode(None)


def _demuxed(source: InputContainer, stream: AudioStream, shifts: Sequence[Fraction]) -> Iterator[Packet]:
    """The packets of a track; where files were joined and timestamps restart or jump, it goes on with the pictures.

    Without pictures, or where they do not restart, timestamps are made continuous.
    """
    length = Fraction((source.start_time or 0) + (source.duration or 0), av.time_base)
    shift, end = Fraction(0), None
    try:
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                jump = packet.pts * packet.time_base + shift - (end or 0)
                if end is not None and (jump < -1 or (jump > LONG_PAUSE and end + jump > length)):
                    shift -= jump
                    shift = next((known for known in shifts if abs(known - shift) < ASIDE), shift)
                moved = round(shift / packet.time_base)
                packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
                if shift and end is not None and packet.pts * packet.time_base < end - OVERLAP:
                    continue  # the part before is not over yet
                end = packet_end(packet)
            yield packet
    except av.FFmpegError as error:
        _warn(source, f"its sound is damaged and ends early: {error.strerror}")
