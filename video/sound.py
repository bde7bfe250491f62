"""Sound of one file, put beside the pictures of another: copied where it can be, else turned into AAC."""

import warnings
from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from autolink.video.container import moving, packet_end, to_seconds

COPIED_SOUND = frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"})
"""Sound that an mp4 holds as it is; any other is turned into AAC."""

AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})

PREROLL = Fraction(1, 10)
"""Seconds of sound kept before the first picture: not heard, but decoders need it to begin."""


def sound_packets(source: InputContainer, target: OutputContainer) -> Iterator[av.Packet]:
    """The first sound track as packets for `target`, whose time begins with the source's first picture."""
    stream = source.streams.audio[0]
    clock = (*moving(source), stream)[0]
    start = to_seconds(clock.start_time, clock.time_base) or Fraction(0)
    if stream.codec_context is None:
        warnings.warn(f"{source.name}: the codec of its sound is unknown here; the result is silent", stacklevel=4)
        return iter(())
    if stream.codec_context.codec.canonical_name in COPIED_SOUND:
        return _copied(source, stream, target.add_stream_from_template(stream), start)
    rate = stream.rate if stream.rate in AAC_RATES else 48000
    track = target.add_stream("aac", rate=rate, layout="mono" if stream.channels == 1 else "stereo")
    return _transcoded(source, stream, track, start)


def _copied(source: InputContainer, stream: AudioStream, track: AudioStream, start: Fraction) -> Iterator[av.Packet]:
    last = None
    for packet in _demuxed(source, stream):
        if packet.dts is None or packet.pts is None:
            continue
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet_end(packet) > -PREROLL and (last is None or packet.dts > last):
            last = packet.dts
            packet.stream = track
            yield packet


def _transcoded(
    source: InputContainer, stream: AudioStream, track: AudioStream, start: Fraction
) -> Iterator[av.Packet]:
    for packet in _demuxed(source, stream):
        try:
            frames = stream.decode(packet)
        except av.InvalidDataError:
            continue  # a gap of silence, since timestamps go on
        for frame in frames:
            time = to_seconds(frame.pts, frame.time_base)
            if time is not None:
                if time + Fraction(frame.samples, frame.sample_rate) <= start:
                    continue
                frame.pts = round((time - start) * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            yield from track.encode(frame)
    yield from track.encode(None)


def _demuxed(source: InputContainer, stream: AudioStream) -> Iterator[av.Packet]:
    try:
        yield from source.demux(stream)
    except av.FFmpegError as error:
        warnings.warn(f"{source.name}: its sound is damaged and ends early: {error.strerror}", stacklevel=4)
