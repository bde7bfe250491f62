"""The one file that reads and writes video: frame by frame in constant memory, at exact rates, upright and square."""

import os
import re
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image as Still
from PIL import ImageOps

Image = NDArray[np.uint8]

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
"""Files that are read as video."""

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files that are read as one frame, or one after the other where a folder holds them."""

STILL_RATE = Fraction(25)
"""Frames a second of pictures, which have none of their own."""

WRITTEN = {".mp4": "mp4", ".gif": "gif"}
"""What can be written, and the container format."""

COPIED_SOUND = frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"})
"""Sound that an mp4 holds as it is; any other is turned into AAC."""

AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})

LONG_PAUSE = 10
"""Seconds that one frame may be shown where a file does not say how long it is."""

PREROLL = Fraction(1, 10)
"""Seconds of sound kept before the first picture: not heard, but decoders need it to begin."""


class VideoError(Exception):
    """A file that cannot be read or written as video; the message names it and says what to do."""


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
    stills = _stills(path)
    if stills:
        return VideoFacts(STILL_RATE, len(stills), width, height, audio=False)
    with _opened(path) as container:
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
    stills = _stills(path)
    if stills:
        yield from _read_stills(stills)
        return
    with _opened(path) as container:
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


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")  # the prefix: a colon in a name is no protocol
    except (av.FFmpegError, OSError) as error:
        advice = "give a video, an animated GIF, a picture or a folder of pictures"
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}; {advice}") from None
    with container:
        yield container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = _moving(container)
    if not streams:
        raise VideoError(f"{path} has no video stream{', only sound' * bool(container.streams.audio)}; give a video")
    if streams[0].codec_context is None:
        raise VideoError(f"{path} has a codec that is unknown here; convert it to H.264 in mp4 first")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _moving(container: InputContainer) -> list[VideoStream]:
    """The video streams, without the cover of a record."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _seconds(units: int | None, unit: Fraction | None) -> Fraction | None:
    return None if units is None or unit is None else units * unit


def _end(packet: av.Packet) -> Fraction:
    return _seconds((packet.pts or 0) + (packet.duration or 0), packet.time_base) or Fraction(0)


def _rate(stream: VideoStream, path: Path) -> Fraction:
    """The rate at which most frames lie on whole steps, unless that is far from how many there are a second."""
    mean, steps = stream.average_rate, stream.guessed_rate
    if mean and steps and 0.85 * mean <= steps <= 2.5 * mean:
        return steps
    return mean or _counted_rate(path, stream.index) or STILL_RATE


def _counted_rate(path: Path, index: int) -> Fraction | None:
    """Frames a second over the first 200, in whole numbers: browsers record files that do not say."""
    with _opened(path) as container:
        packets = list(islice((p for p in container.demux(container.streams[index]) if p.pts is not None), 200))
    seconds = _end(packets[-1]) - _end(packets[0]) if packets else 0
    return Fraction(max(1, round((len(packets) - 1) / seconds))) if seconds > 0 else None


def _decode(container: InputContainer, stream: VideoStream, faults: list[str]) -> Iterator[av.VideoFrame]:
    """The frames as they were coded; goes on behind damage and tells it in `faults`."""
    reached = Fraction(0)
    lost = 0
    try:
        for packet in container.demux():  # all streams: sound may rightly last longer than the pictures
            if packet.pts is not None:
                reached = max(reached, _end(packet))
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
        time = _seconds(frame.pts, frame.time_base)
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
        shown = _seconds(held.duration, held.time_base) or 0
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


def _stills(path: Path) -> list[Path]:
    """The picture files that `path` means, none where it is a video."""
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURES else []
    files = [f for f in path.iterdir() if f.suffix.lower() in PICTURES and not f.name.startswith(".")]
    if not files:
        raise VideoError(f"there are no pictures in the folder {path}; give a video or a folder of frames")
    return sorted(files, key=lambda file: (_natural(file.name), file.name))


def _natural(name: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def _read_stills(files: list[Path]) -> Iterator[Image]:
    shape = None
    for file in files:
        image = _read_still(file)
        shape = shape or image.shape
        if image.shape != shape:
            sizes = f"{image.shape[1]}x{image.shape[0]}, {files[0].name} before it {shape[1]}x{shape[0]}"
            raise VideoError(f"{file} is {sizes}; frames of one video must have one size")
        yield image


def _read_still(path: Path) -> Image:
    """Any picture as (H, W, 3) RGB: turned by its EXIF, over white, 16 bits scaled to 8."""
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    try:
        with Still.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):
                deep = (np.asarray(picture, np.int64).clip(0, 65535) + 128) // 257
                return np.repeat(deep.astype(np.uint8)[..., None], 3, axis=2)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Still.alpha_composite(Still.new("RGBA", picture.size, "white"), picture)
            return np.array(picture.convert("RGB"))
    except (Still.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise VideoError(f"{path} cannot be read as a picture: {str(error).split(' <')[0]}; save it again") from None


class VideoWriter:
    """Writes H.264 in mp4, or an animated GIF, at an exact rate: `with VideoWriter(path, rate) as writer`.

    An odd width or height of an mp4 grows by a pixel, a copy of its neighbour, for H.264 wants even ones. With
    `audio`, a file, its first sound track is copied, as long as the pictures last; a file without sound, or a GIF to
    write, stays silent. The file appears when the block ends well, replacing one of that name; without a frame
    there is none.

    Raises:
        VideoError: no such format or folder, no such sound file, or a frame of another size.
        OSError: the folder cannot be written to, or the disk is full.
    """

    def __init__(self, path: Path, rate: Fraction, audio: Path | None = None) -> None:
        if path.suffix.lower() not in WRITTEN:
            raise VideoError(f"{path}: videos are written as {' or '.join(WRITTEN)}; choose a name that ends so")
        self.path, self.rate, self.audio = path, rate.limit_denominator(65535), audio
        self.format = WRITTEN[path.suffix.lower()]
        self.beside = path.with_name(f".{path.name}.{os.getpid()}")
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self.sound: Iterator[av.Packet] = iter(())
        self.waiting: av.Packet | None = None

    def __enter__(self) -> "VideoWriter":
        if not self.path.parent.is_dir():
            raise VideoError(f"{self.path}: there is no folder {self.path.parent}; create it first")
        with ExitStack() as stack, _named(self.path):
            self.source = None
            if self.audio and self.format != "gif" and not _stills(self.audio):
                self.source = stack.enter_context(_opened(self.audio))
            stack.callback(self.beside.unlink, missing_ok=True)
            self.beside.touch()
            options = {"movflags": "faststart"}
            if self.format == "gif":
                options = {"final_delay": str(max(2, round(100 / self.rate)))}
            self.container = av.open(f"file:{self.beside}", "w", format=self.format, options=options)
            self.stack = stack.pop_all()
        return self

    def write(self, image: Image) -> None:
        """Append a frame, (H, W, 3) RGB; all must have the first one's size."""
        if not self.shape:
            self._begin(image.shape)
        if image.shape != self.shape:
            sizes = f"{image.shape[1]}x{image.shape[0]}, those before it {self.shape[1]}x{self.shape[0]}"
            raise VideoError(f"{self.path}: frame {self.count} is {sizes}; frames of one video must have one size")
        with _named(self.path):
            self._mux(self.encoder.encode(image, self.count))
            self.count += 1
            while self.waiting and _end(self.waiting) <= self.count / self.rate:
                self.container.mux(self.waiting)
                self.waiting = next(self.sound, None)

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.encoder = (_Gif if self.format == "gif" else _H264)(self.container, shape[0], shape[1], self.rate)
        if self.source and self.source.streams.audio:
            self.sound = _sound(self.source, self.container)
        self.waiting = next(self.sound, None)

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            self.container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.stack, _named(self.path):
            try:
                if kind is None and self.count:
                    self._mux(self.encoder.encode(None, self.count))
            finally:
                self.container.close()
            if kind is None and self.count:
                self.beside.replace(self.path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """System errors name the file that was asked for, not the one written beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class _H264:
    """Encodes (H, W, 3) RGB as 4:2:0 in the colours of BT.709, and says so in the file."""

    def __init__(self, container: OutputContainer, height: int, width: int, rate: Fraction) -> None:
        self.rate, self.odd = rate, (height % 2, width % 2)
        self.stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def encode(self, image: Image | None, n: int) -> Iterable[av.Packet]:
        """The packets that are ready after frame `n`, all that are left after None."""
        if image is None:
            return self.stream.encode(None)
        even = np.pad(image, ((0, self.odd[0]), (0, self.odd[1]), (0, 0)), mode="edge") if any(self.odd) else image
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = n, 1 / self.rate
        return self.stream.encode(frame)


class _Gif:
    """Encodes (H, W, 3) RGB with a palette of its own for each frame, at 50 frames a second at the most."""

    def __init__(self, container: OutputContainer, height: int, width: int, rate: Fraction) -> None:
        self.rate, self.shown = rate, -2
        self.stream = container.add_stream("gif", rate=100)  # a GIF counts time in hundredths
        self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, "pal8"
        self.graph = Graph()
        layout = av.VideoFormat("rgb24", width, height)
        source = self.graph.add_buffer(width=width, height=height, format=layout, time_base=Fraction(1, 100))
        split, palette = self.graph.add("split"), self.graph.add("palettegen", "stats_mode=single")
        use, sink = self.graph.add("paletteuse", "new=1:dither=none"), self.graph.add("buffersink")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        self.graph.configure()

    def encode(self, image: Image | None, n: int) -> Iterator[av.Packet]:
        """The packets that are ready after frame `n`, all that are left after None."""
        if image is None:
            self.graph.push(None)
        else:
            place = round(n * 100 / self.rate)
            if place - self.shown < 2:  # browsers take a shorter time for a tenth of a second
                return
            self.shown = place
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 100)
            self.graph.push(frame)
        try:
            while True:
                yield from self.stream.encode(self.graph.vpull())
        except (av.BlockingIOError, av.EOFError):
            pass
        if image is None:
            yield from self.stream.encode(None)


def _sound(source: InputContainer, target: OutputContainer) -> Iterator[av.Packet]:
    """The first sound track as packets for `target`, whose time begins with the source's first picture."""
    stream = source.streams.audio[0]
    clock = (*_moving(source), stream)[0]
    start = _seconds(clock.start_time, clock.time_base) or Fraction(0)
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
    for packet in _sound_packets(source, stream):
        if packet.dts is None or packet.pts is None:
            continue
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if _end(packet) > -PREROLL and (last is None or packet.dts > last):
            last = packet.dts
            packet.stream = track
            yield packet


def _transcoded(
    source: InputContainer, stream: AudioStream, track: AudioStream, start: Fraction
) -> Iterator[av.Packet]:
    for packet in _sound_packets(source, stream):
        try:
            frames = stream.decode(packet)
        except av.InvalidDataError:
            continue  # a gap of silence, since timestamps go on
        for frame in frames:
            time = _seconds(frame.pts, frame.time_base)
            if time is not None:
                if time + Fraction(frame.samples, frame.sample_rate) <= start:
                    continue
                frame.pts = round((time - start) * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            yield from track.encode(frame)
    yield from track.encode(None)


def _sound_packets(source: InputContainer, stream: AudioStream) -> Iterator[av.Packet]:
    try:
        yield from source.demux(stream)
    except av.FFmpegError as error:
        warnings.warn(f"{source.name}: its sound is damaged and ends early: {error.strerror}", stacklevel=4)
