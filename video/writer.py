"""Writes video: H.264 in mp4 or an animated GIF, frame by frame in constant memory, at exact rates."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from typing_extensions import Self

from autolink.files import atomic_path
from autolink.pictures import warn_once
from autolink.video.container import Packet, VideoError, default_stream, moving, opened, packet_end, to_seconds
from autolink.video.decoding import first_shown, timing
from autolink.video.sound import sound_packets
from autolink.video.stills import find_stills
from autolink.video.synthetic import add_gif_comment, add_xmp

Image = NDArray[np.uint8]

WRITTEN = {".mp4": "mp4", ".gif": "gif"}
"""What can be written, and the container format."""


class VideoWriter:
    """Writes H.264 in mp4, or an animated GIF, at an exact rate: `with VideoWriter(path, rate) as writer`.

    An odd width or height of an mp4 grows by a pixel, a copy of its neighbour, for H.264 wants even ones. With
    `audio`, a file, its default sound track is copied, as long as the pictures last, from `audio_from` seconds behind
    the source's first picture on; a file without sound, or a GIF to write, stays silent. `metadata` is written as tags
    and as XMP into mp4, as a comment into a GIF; see `synthetic.tags`. The file appears when the block ends well,
    replacing one of that name; without a frame there is none.

    Raises:
        VideoError: no such format or folder, no such sound file, or a frame of another size.
        OSError: the folder cannot be written to, or the disk is full.
    """

    def __init__(
        self, path: Path, rate: Fraction, audio: Path | None = None, metadata: Mapping[str, str] | None = None,
        audio_from: Fraction = Fraction(0),
    ) -> None:  # fmt: skip
        if path.suffix.lower() not in WRITTEN:
            raise VideoError(f"{path}: videos are written as {' or '.join(WRITTEN)}; choose a name that ends so")
        self.path, self.rate, self.audio = path, rate.limit_denominator(65535), audio
        self.metadata, self.audio_from = metadata or {}, audio_from
        self.format = WRITTEN[path.suffix.lower()]
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self.sound: Iterator[Packet] = iter(())
        self.waiting: Packet | None = None

    def __enter__(self) -> Self:
        if not self.path.parent.is_dir():
            raise VideoError(f"{self.path}: there is no folder {self.path.parent}; create it first")
        with _named(self.path), ExitStack() as stack:
            self.source = None
            if self.audio and self.format != "gif" and not find_stills(self.audio):
                self.source = stack.enter_context(opened(self.audio))
            self.beside = stack.enter_context(atomic_path(self.path))
            options = {"movflags": "faststart+use_metadata_tags"}
            if self.format == "gif":
                options = {"final_delay": str(max(2, round(100 / self.rate)))}
            self.container = av.open(f"file:{self.beside}", "w", format=self.format, options=options)
            if self.format != "gif":
                self.container.metadata.update(self.metadata)
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
            while self.waiting and packet_end(self.waiting) <= self.count / self.rate:
                try:
                    self.container.mux(self.waiting)
                except av.InvalidDataError:  # damage that its decoder put up with
                    warn_once(f"{self.audio}: its sound is damaged; what mp4 does not take is left out")
                self.waiting = next(self.sound, None)

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.encoder = (_Gif if self.format == "gif" else _H264)(self.container, shape[0], shape[1], self.rate)
        if self.source and self.source.streams.audio:
            self.sound = self._sound_of(self.source)
        self.waiting = next(self.sound, None)

    def _sound_of(self, source: InputContainer) -> Iterator[Packet]:
        """The sound from the first picture on that can be seen; of sound alone, from its beginning."""
        assert self.audio
        if moving(source):
            facts = timing(self.audio)
            start, shifts = first_shown(self.audio, facts), facts.shifts
        else:
            stream = default_stream(source.streams.audio)
            start, shifts = to_seconds(stream.start_time, stream.time_base) or Fraction(0), ()
        return sound_packets(source, self.container, start + self.audio_from, shifts)

    def _mux(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self.container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _named(self.path), self.stack:
            try:
                if kind is None and self.count:
                    self._mux(self.encoder.encode(None, self.count))
            finally:
                self.sound = iter(())  # ends the one before, which tells what was lost
                self.container.close()
            if kind is not None or not self.count:
                self.beside.unlink()
            elif self.metadata:
                (add_gif_comment if self.format == "gif" else add_xmp)(self.beside, self.metadata)


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
        # x264's rate control differs from run to run where it uses AVX-512 on a busy machine
        options = {"crf": "18", "preset": "veryfast", "x264-params": "cpu-independent=1"}
        self.stream = container.add_stream("libx264", rate=rate, options=options)
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def encode(self, image: Image | None, n: int) -> Iterable[Packet]:
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

    def encode(self, image: Image | None, n: int) -> Iterator[Packet]:
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
