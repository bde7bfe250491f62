import hashlib
import io
import os
import struct
import threading
import tracemalloc
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import ExifTags, Image

from autolink.data.figures import figure_clip
from autolink.draw import write_picture
from autolink.video import colour, container, files, synthetic, timing
from autolink.video import sound as sound_tracks
from autolink.video.container import VideoError
from autolink.video.files import read_frames, video_facts
from autolink.video.writer import VideoWriter

NTSC = Fraction(30000, 1001)
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def write(path: Path, frames: Iterable[np.ndarray], rate: Fraction = Fraction(25), audio: Path | None = None) -> Path:
    with VideoWriter(path, rate, audio) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def read(path: Path) -> np.ndarray:
    return np.stack(list(read_frames(path)))


def grey(*levels: int, size: int = 16) -> list[np.ndarray]:
    return [np.full((size, size, 3), level, np.uint8) for level in levels]


def levels(path: Path) -> list[int]:
    """The grey level of each frame that is delivered."""
    return [round(float(frame.mean())) for frame in read_frames(path)]


def corners(height: int = 32, width: int = 48) -> np.ndarray:
    """Red, green in the upper half, blue, white in the lower."""
    colours = np.array(CORNERS, np.uint8).reshape(2, 2, 3)
    return colours.repeat(height // 2, 0).repeat(width // 2, 1)


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    codec: str = "ffv1",
    pixels: str = "bgr0",
    rgb: str = "rgb24",
    times: list[int] | None = None,
    rate: Fraction = Fraction(25),
    rotation: int = 0,
    aspect: Fraction | None = None,
    gop: int = 12,
) -> Path:
    """A file straight from PyAV, in any codec and pixel format; `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt, stream.codec_context.gop_size = pixels, gop
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for n, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format=rgb)
            if n == 0:
                stream.height, stream.width = frame.height, frame.width
            frame.pts, frame.time_base = (times[n], Fraction(1, 1000)) if times else (n, 1 / rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(path: Path, codec: str, seconds: float, click: float, first: float = 0, picture: float | None = None) -> Path:
    """A file with silence from `first` on and a click at `click`; with pictures beginning at `picture`."""
    rate = 48000 if codec == "libopus" else 44100
    samples = np.zeros(int(rate * seconds), np.float32)
    samples[int((click - first) * rate) :][:200] = 0.9 * np.sin(np.arange(200) / 3)
    with av.open(str(path), "w") as container:
        if picture is not None:
            video = container.add_stream("libx264", rate=25)
            assert isinstance(video, av.VideoStream)
            video.height, video.width, video.pix_fmt = 16, 16, "yuv420p"
        track = container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(track, av.AudioStream)
        if picture is not None:
            for n, image in enumerate(grey(*[9] * int(seconds * 25))):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = n + round(picture * 25), Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        for start in range(0, len(samples), 1000):
            piece = av.AudioFrame.from_ndarray(samples[None, start : start + 1000], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, start + round(first * rate), Fraction(1, rate)
            container.mux(track.encode(piece))
        container.mux(track.encode())
    return path


def flashes(path: Path, seconds: int, gop: int = 250) -> Path:
    """Noisy pictures, 25 a second, that are bright for a tenth of each second but the first, and a tone with them."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt, video.codec_context.gop_size = 64, 64, "yuv420p", gop
        track = container.add_stream("pcm_s16le" if path.suffix == ".mov" else "aac", rate=48000, layout="mono")
        made = []
        for n in range(25 * seconds):
            level = 235 if n >= 25 and n % 25 < 3 else 20
            image = np.full((64, 64, 3), level, np.uint8) + rng.integers(0, 12, (64, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            made += video.encode(frame)
        for start in range(0, 48000 * seconds, 960):
            times = (start + np.arange(960)) / 48000
            tone = np.where((times >= 1) & (times % 1 < 0.1), np.sin(6283 * times), 0)
            piece = av.AudioFrame.from_ndarray((20000 * tone).astype(np.int16)[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
            made += track.encode(piece)
        made += [*video.encode(), *track.encode()]
        for packet in sorted(made, key=lambda packet: (packet.dts or 0) * packet.time_base):
            container.mux(packet)
    return path


def in_step(path: Path, seconds: list[float]) -> bool:
    """Whether pictures flash and the tone begins at these times, to within a frame of 25 a second."""
    for kind in ("video", "audio"):
        values = []
        with av.open(str(path)) as container:
            for frame in container.decode(**{kind: 0}):
                assert isinstance(frame, av.VideoFrame | av.AudioFrame)
                image = frame.to_ndarray(format="gray") if isinstance(frame, av.VideoFrame) else frame.to_ndarray()
                values.append((frame.time or 0, float(np.abs(image.astype(float)).max())))
        loud = max(value for _, value in values) / 2
        begins = [time for (_, before), (time, now) in pairwise(values) if before <= loud < now]
        begins = [b for n, b in enumerate(begins) if n == 0 or b - begins[n - 1] > 0.3]
        assert begins == pytest.approx(seconds, abs=0.045), kind
    return True


def heard(path: Path) -> float:
    """When the loudest sound is, in seconds from the beginning of the file."""
    best = (0.0, 0.0)
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            values = np.abs(frame.to_ndarray()).max(0)
            assert frame.time is not None
            best = max(best, (float(values.max()), frame.time + int(values.argmax()) / frame.sample_rate))
    return best[1]


def lengths(path: Path) -> dict[str, float]:
    """Seconds of each track, by when its last packet ends."""
    ends: dict[str, float] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream.type] = max(ends.get(packet.stream.type, 0), end)
    return ends


def packets(path: Path) -> tuple[str, list[bytes]]:
    """Codec and content of the sound track."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        return track.codec_context.codec.canonical_name, [bytes(packet) for packet in container.demux(track)][:-1]


@pytest.mark.parametrize("size", [64, 125])
def test_written_and_read_again(tmp_path: Path, size: int) -> None:
    frames = figure_clip(12, 1, size)[0]
    path = write(tmp_path / "clip.mp4", frames, NTSC)
    even = size + size % 2
    assert video_facts(path) == files.VideoFacts(NTSC, 12, even, even, audio=False)
    again = read(path).astype(int)
    assert again.shape == (12, even, even, 3)
    assert np.abs(again[:, :size, :size] - frames).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        times = [(frame.pts or 0) * (frame.time_base or 0) for frame in container.decode(stream)]
    assert times == [n / NTSC for n in range(12)]


def test_an_odd_size_grows_by_a_copy_of_its_last_pixels(tmp_path: Path) -> None:
    picture = np.zeros((45, 33, 3), np.uint8)
    picture[:, 31:] = picture[43:] = 255
    again = read(write(tmp_path / "clip.mp4", [picture] * 2))
    assert again.shape == (2, 46, 34, 3)
    assert again[:, 45:].min() > 240 and again[:, :, 33:].min() > 240 and again[:, :42, :30].max() < 15


def test_colours_are_those_of_bt709_and_said_to_be(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", [np.full((32, 32, 3), (255, 0, 0), np.uint8)] * 2)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
        planes = [np.frombuffer(bytes(p), np.uint8)[0] for p in next(container.decode(video=0)).planes]
    # 16 + 219 * 0.2126, 128 - 112 * 0.2126 / 0.9278, 128 + 112
    np.testing.assert_allclose(np.array(planes, int), [62.6, 102.3, 240], atol=1.5)
    np.testing.assert_allclose(read(path)[0, 5, 5], [255, 0, 0], atol=4)


def test_a_busy_machine_changes_no_byte(tmp_path: Path) -> None:
    """x264's rate control does with AVX-512, for such frames in every fourth file."""
    coarse = np.random.default_rng(0).integers(0, 255, (11, 8, 24, 3), np.uint8)
    frames = [np.asarray(Image.fromarray(image).resize((192, 64))) for image in coarse]
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            hashlib.sha256(bytes(10**7))  # without Python's lock

    busy = [threading.Thread(target=work) for _ in range(2 * (os.cpu_count() or 1))]
    for thread in busy:
        thread.start()
    try:
        written = {write(tmp_path / "a.mp4", frames).read_bytes() for _ in range(40)}
    finally:
        stop.set()
        for thread in busy:
            thread.join()
    assert len(written) == 1


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.mkv", "ffv1", "yuv444p"),
        ("a.mkv", "ffv1", "yuv420p16le"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mov", "qtrle", "argb"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_many_pixel_formats_give_the_same_colours(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    picture = corners()
    again = read(encode(tmp_path / name, [picture] * 3, codec, pixels)).astype(int)
    assert again.shape == (3, 32, 48, 3)
    inside = np.s_[:, [4, 4, 28, 28], [4, 44, 4, 44]]
    np.testing.assert_allclose(again[inside], np.array([CORNERS] * 3), atol=12)


@pytest.mark.parametrize(("pixels", "expected"), [("gray", 200), ("gray10le", 50), ("yuvj420p", 200), ("yuv420p", 214)])
def test_grey_full_range_and_limited_range(tmp_path: Path, pixels: str, expected: int) -> None:
    if pixels.startswith("yuv"):
        content = np.full((24, 16), 128, np.uint8)  # Y over U over V
        content[:16] = 200  # 214 = (200 - 16) * 255 / 219 where the range is limited
    else:
        content = np.full((16, 16), 200, np.uint8 if pixels == "gray" else np.uint16)  # of 255, of 1023
    codec = "libx264" if pixels == "yuvj420p" else "ffv1"
    again = read(encode(tmp_path / "a.mkv", [content] * 2, codec, pixels, rgb=pixels))
    np.testing.assert_allclose(again.astype(int), expected, atol=1)


@pytest.mark.parametrize(("codec", "name"), [("png", "a.mov"), ("ffv1", "a.mkv")])
def test_transparent_is_white(tmp_path: Path, codec: str, name: str) -> None:
    content = np.zeros((16, 16, 4), np.uint8)
    content[..., 0] = 200
    content[8:, :, 3], content[12:, :, 3] = 128, 255
    again = read(encode(tmp_path / name, [content] * 2, codec, "rgba" if codec == "png" else "bgra", rgb="rgba"))
    half = (200 * 128 + 255 * 127) / 255, 255 * 127 / 255
    assert (again[:, :8] == 255).all()
    np.testing.assert_allclose(again[:, 8:12].astype(int), np.full((2, 4, 16, 3), (half[0], half[1], half[1])), atol=1)
    assert (again[:, 12:] == (200, 0, 0)).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_is_applied_and_told(tmp_path: Path, turns: int) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 2, "libx264", "yuv420p", rotation=90 * turns)
    expected = np.rot90(corners(), turns)
    again = read(path)
    facts = video_facts(path)
    assert again.shape[1:] == expected.shape == (facts.height, facts.width, 3)
    height, width = expected.shape[:2]
    inside = np.s_[[4, 4, height - 4, height - 4], [4, width - 4, 4, width - 4]]
    np.testing.assert_allclose(again[0][inside].astype(int), expected[inside], atol=12)


@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_display_matrix_moves_each_pixel_where_it_says(turns: int, mirror: int) -> None:
    cosine, sine = (1, 0, -1, 0)[turns], (0, 1, 0, -1)[turns]
    a, b, c, d = mirror * cosine, mirror * sine, -sine, cosine
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    places = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    upright = colour.upright(image, np.array([a, b, 0, c, d, 0, 0, 0, 1], np.int32))
    assert upright.size == image.size
    for (x, y), pixel in places.items():
        np.testing.assert_array_equal(upright[y - top, x - left], pixel)


def test_pixels_become_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 2, "libx264", "yuv420p", aspect=Fraction(4, 3))
    facts = video_facts(path)
    assert (facts.width, facts.height) == (64, 32)
    again = read(path).astype(int)
    assert again.shape == (2, 32, 64, 3)
    np.testing.assert_allclose(again[0][[4, 4, 28, 28], [28, 36, 28, 36]], CORNERS, atol=12)


def test_a_variable_rate_is_delivered_at_a_constant_one(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 240, 250, 400]
    path = encode(tmp_path / "a.mkv", grey(10, 20, 30, 40, 50, 60, 70), times=times)
    assert video_facts(path).rate == 25
    # one frame each 40 ms; 250 has the step after 240, and is shown on until 400
    assert levels(path) == [10, 20, 30, 30, 30, 40, 50, 60, 60, 60, 70]


def test_a_constant_rate_gives_exactly_its_frames(tmp_path: Path) -> None:
    shades = list(range(250))
    path = encode(tmp_path / "a.mkv", grey(*shades), rate=NTSC)  # whose timestamps are rounded to milliseconds
    assert video_facts(path).rate == NTSC
    assert levels(path) == shades


def test_a_file_that_does_not_say_its_rate(tmp_path: Path) -> None:
    times = [n * 40 + n % 3 * 7 for n in range(60)]  # about 25 a second, never quite
    path = encode(tmp_path / "a.mkv", grey(*range(60)), times=times, rate=Fraction(1000))
    content = path.read_bytes()
    assert content.count(b"\x23\xe3\x83") == 1  # Matroska's DefaultDuration, which browsers do not write
    path.write_bytes(content.replace(b"\x23\xe3\x83", b"\x23\xe3\x84"))
    assert video_facts(path).rate == 25
    assert levels(path) == list(range(60))


def test_timestamps_that_jump_are_not_followed() -> None:
    def paced(*times: int | None, duration: int = 12) -> list[int | None]:
        stamped = ((time, None if time is None else Fraction(time, 25), Fraction(0)) for time in times)
        return list(timing.paced(stamped, Fraction(25), lambda: Fraction(duration)))

    assert paced(7, 8, 10) == [7, 8, 8, 10]
    assert paced(0, 1, 10**12, 10**12 + 1) == [0, 1, 10**12, 10**12 + 1]
    assert paced(5000, 5001, 3, 4, 6) == [5000, 5001, 3, 4, 4, 6]
    assert paced(0, None, None, 3) == [0, None, None, 3]
    assert paced(None, None, 90, 92) == [None, None, 90, 90, 92]
    assert paced(0, 200, 400, 402, duration=0) == [0] * 200 + [200] * 200 + [400, 400, 402]
    assert paced(0, 400, duration=0) == [0, 400] and paced(0, 400, duration=20) == [0] * 400 + [400]


def test_a_transparent_gif_is_a_video(tmp_path: Path) -> None:
    pictures = []
    for n in range(3):
        picture = Image.new("RGBA", (20, 30), (0, 0, 0, 0))
        picture.paste((255, 0, 0, 255), (5 * n, 0, 5 * n + 5, 5))
        pictures.append(picture)
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 200, 300], disposal=2, loop=0)
    facts = video_facts(path)
    assert (facts.width, facts.height, facts.audio) == (20, 30, False)
    again = read(path)
    assert len(again) == round(0.6 * facts.rate) == facts.frames
    assert (again[0, :5, :5] == (255, 0, 0)).all() and (again[-1, :5, 10:15] == (255, 0, 0)).all()
    assert (again[:, 5:] == 255).all() and (again[-1, :, :10] == 255).all()
    pictures[0].save(tmp_path / "one.gif")
    assert len(read(tmp_path / "one.gif")) == 1


@pytest.mark.parametrize(("rate", "kept"), [(Fraction(10), 10), (NTSC, 10), (Fraction(100), 5)])
def test_a_gif_is_written(tmp_path: Path, rate: Fraction, kept: int) -> None:
    frames = figure_clip(10, 1, 33)[0]
    path = write(tmp_path / "a.gif", frames, rate)
    with Image.open(path) as gif:
        assert getattr(gif, "n_frames", 1) == kept and gif.info["loop"] == 0 and gif.size == (33, 33)
        durations = []
        for n in range(kept):
            gif.seek(n)
            durations.append(gif.info["duration"])
            found = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(found - frames[n * 10 // kept]).mean() < 5
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(float(1000 * 10 / rate), abs=11)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_a_folder_of_frames_in_natural_order(tmp_path: Path) -> None:
    for n in (10, 2, 1, 33):
        Image.new("RGB", (20, 12), (n, n, n)).save(tmp_path / f"frame{n}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    assert levels(tmp_path) == [1, 2, 10, 33]
    assert video_facts(tmp_path) == files.VideoFacts(Fraction(25), 4, 20, 12, audio=False)
    Image.new("RGB", (12, 20)).save(tmp_path / "frame11.png")
    with pytest.raises(VideoError, match=r"frame11\.png is 12x20, frame1\.png before it 20x12"):
        read(tmp_path)
    (tmp_path / "frame3.jpg").write_text("broken")
    delivered = 0
    with pytest.raises(VideoError, match=r"frame3\.jpg cannot be read as a picture"):
        for _ in read_frames(tmp_path):
            delivered += 1
    assert delivered == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no pictures in the folder"):
        video_facts(tmp_path / "empty")


def test_a_picture_of_any_kind_is_one_frame(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 7), 40000, np.uint16)).save(tmp_path / "deep.png")
    assert read(tmp_path / "deep.png").shape == (1, 9, 7, 3) and levels(tmp_path / "deep.png") == [round(40000 / 257)]
    Image.new("LA", (7, 9), (0, 0)).save(tmp_path / "clear.png")
    assert levels(tmp_path / "clear.png") == [0]  # alpha that is zero throughout is unused
    Image.new("CMYK", (7, 9)).save(tmp_path / "print.jpg")
    assert levels(tmp_path / "print.jpg") == [255]
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side: upright after a quarter turn to the right
    Image.fromarray(corners()).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "phone.png")[0], np.rot90(corners(), -1))
    assert video_facts(tmp_path / "phone.png") == files.VideoFacts(Fraction(25), 1, 32, 48, audio=False)
    with pytest.raises(VideoError, match=r"none\.png does not exist"):
        read(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("name", "codec"), [("s.m4a", "aac"), ("s.mp3", "libmp3lame"), ("s.ogg", "libopus"), ("s.mkv", "ac3")]
)
def test_sound_is_copied_as_it_is_and_cut_where_the_pictures_end(tmp_path: Path, name: str, codec: str) -> None:
    source = sound(tmp_path / name, codec, 2, click=0.6)
    path = write(tmp_path / "clip.mp4", grey(*range(30)), NTSC, audio=source)
    assert video_facts(path).audio and video_facts(path).frames == 30
    (kind, original), (copy_kind, copied) = packets(source), packets(path)
    assert copy_kind == kind and copied == original[: len(copied)] and len(copied) < len(original)
    ends = lengths(path)
    assert ends["video"] == pytest.approx(1.001, abs=1e-4)
    assert 0.96 < ends["audio"] <= ends["video"]
    assert heard(path) == pytest.approx(0.602, abs=0.004)


@pytest.mark.parametrize(("name", "codec"), [("s.wav", "pcm_s16le"), ("s.flac", "flac")])
def test_other_sound_becomes_aac(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / "clip.mp4", grey(*range(25)), audio=sound(tmp_path / name, codec, 2, click=0.6))
    assert packets(path)[0] == "aac"
    assert 0.97 < lengths(path)["audio"] <= 1
    assert heard(path) == pytest.approx(0.602, abs=0.004)


def test_short_sound_leaves_the_pictures_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", grey(*range(50)), audio=sound(tmp_path / "s.wav", "pcm_s16le", 0.5, click=0.2))
    ends = lengths(path)
    assert ends["video"] == 2 and ends["audio"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("codec", ["aac", "flac"])
@pytest.mark.parametrize(("first", "picture"), [(0, 0.4), (0.4, 0), (0, 0)])
def test_sound_stays_in_step_where_tracks_begin_apart(tmp_path: Path, codec: str, first: float, picture: float) -> None:
    source = sound(tmp_path / "s.mkv", codec, 2, click=0.8, first=first, picture=picture)
    path = write(tmp_path / "clip.mp4", read_frames(source), audio=source)
    assert heard(path) == pytest.approx(0.802 - picture, abs=0.004)
    ends = lengths(path)
    assert ends["video"] == 2 and ends["audio"] <= 2


def test_a_source_without_sound_stays_silent(tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", grey(1, 2))
    Image.new("RGB", (16, 16)).save(tmp_path / "still.png")
    for n, audio in enumerate((silent, tmp_path / "still.png", None)):
        assert not video_facts(write(tmp_path / f"{n}.mp4", grey(1, 2), audio=audio)).audio
    with pytest.raises(VideoError, match=r"none\.mp4 does not exist"):
        write(tmp_path / "out.mp4", grey(1), audio=tmp_path / "none.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(VideoError) as told:
            video_facts(path)
        with pytest.raises(VideoError):
            next(read_frames(path))
        assert str(path) in str(told.value)
        return str(told.value)

    (tmp_path / "text.mp4").write_text("hello")
    assert "cannot be read as a video" in said(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "cannot be read as a video" in said(tmp_path / "empty.mp4")
    assert "does not exist" in said(tmp_path / "none.mp4")
    assert "no video stream, only sound" in said(sound(tmp_path / "sound.m4a", "aac", 0.2, 0.1))
    whole = write(tmp_path / "a.mp4", grey(*range(9))).read_bytes()
    (tmp_path / "codec.mp4").write_bytes(whole.replace(b"avc1", b"zzzz"))
    assert "codec that is unknown here" in said(tmp_path / "codec.mp4")
    begin = whole.index(b"mdat") + 4
    (tmp_path / "hollow.mp4").write_bytes(whole[:begin] + bytes(len(whole) - begin))  # the index is before the frames
    assert "no frame" in said(tmp_path / "hollow.mp4")
    with av.open(str(tmp_path / "zero.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        container.start_encoding()
    assert "no video stream" in said(tmp_path / "zero.mp4")


def test_the_cover_of_a_record_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp3"), "w") as container:
        track = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        assert isinstance(track, av.AudioStream) and isinstance(cover, av.VideoStream)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 16, 16, "yuvj420p", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(grey(9)[0], format="rgb24")))
        container.mux(cover.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(track.encode(silence))
        container.mux(track.encode())
    with pytest.raises(VideoError, match="only sound"):
        video_facts(tmp_path / "song.mp3")


def damaged(path: Path) -> tuple[list[np.ndarray], str]:
    frames: list[np.ndarray] = []
    with pytest.raises(VideoError) as told:
        frames.extend(read_frames(path))
    return frames, str(told.value)


def test_damage_in_the_middle_is_told_after_what_can_be_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", figure_clip(60, 2, 64)[0], "libx264", "yuv420p", gop=10)
    whole, content = read(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1500] = bytes(1500)
    path.write_bytes(content)
    frames, told = damaged(path)
    assert "a.mp4 is damaged" in told and "cannot be decoded" in told and f"{len(frames)} frames could be read" in told
    assert len(frames) == 60  # what is lost is bridged, so that sound stays in step
    same = [bool((frame == original).all()) for frame, original in zip(frames, whole, strict=True)]
    assert all(same[:10]) and all(same[-10:]) and not all(same)


def test_a_file_that_ends_early_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", figure_clip(60, 2, 64)[0], "libx264", "yuv420p", gop=10)
    whole, content = read(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames, told = damaged(path)
    assert 10 < len(frames) < 50 and "it ends after" in told and "of 2.4 s" in told
    for frame, original in zip(frames[:-5], whole, strict=False):  # the last may be half a frame
        np.testing.assert_array_equal(frame, original)


def test_sound_that_lasts_longer_than_the_pictures_is_no_damage(tmp_path: Path) -> None:
    source = sound(tmp_path / "s.mkv", "aac", 4, click=0.1)
    with av.open(str(source)) as given, av.open(str(tmp_path / "a.mkv"), "w") as container:
        video, track = container.add_stream("libx264", rate=25), given.streams.audio[0]
        assert isinstance(video, av.VideoStream)
        video.height, video.width, video.pix_fmt = 16, 16, "yuv420p"
        copy = container.add_stream_from_template(track)
        for image in grey(1, 2, 3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        for packet in given.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    assert len(read(tmp_path / "a.mkv")) == 3


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        writer.write(grey(1)[0])
        raise RuntimeError
    with pytest.raises(VideoError, match=r"clip\.mp4: frame 2 is 18x18, those before it 16x16"):
        write(tmp_path / "clip.mp4", [*grey(1, 2), *grey(3, size=18)])
    with pytest.raises(VideoError, match=r"clip\.xyz: videos are written as \.mp4 or \.gif"):
        VideoWriter(tmp_path / "clip.xyz", Fraction(25))
    with pytest.raises(VideoError, match=r"there is no folder .*nowhere; create it first"):
        write(tmp_path / "nowhere" / "clip.mp4", grey(1))
    write(tmp_path / "clip.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", grey(10))
    before = path.read_bytes()
    with pytest.raises(VideoError):
        write(path, [*grey(1), *grey(2, size=18)])
    assert path.read_bytes() == before
    write(path, grey(10, 20, 30))
    assert video_facts(path).frames == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_a_full_disk_names_the_file(tmp_path: Path, name: str) -> None:
    writer = VideoWriter(tmp_path / name, Fraction(25))
    opened = av.open

    def full(url: str, *given: object, **options: object) -> object:
        beside = Path(url.removeprefix("file:"))
        beside.unlink()
        beside.symlink_to("/dev/full")
        return opened(url, *given, **options)  # type: ignore[call-overload]

    with pytest.raises(OSError, match="No space left") as told, pytest.MonkeyPatch.context() as patch:
        patch.setattr(av, "open", full)
        with writer:
            for frame in grey(*range(40)):
                writer.write(frame)
    assert told.value.filename == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    frames, size = 300, 64
    tracemalloc.start()
    try:
        path = write(tmp_path / "a.mp4", (np.full((size, size, 3), n % 256, np.uint8) for n in range(frames)))
        count = sum(1 for _ in read_frames(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == frames
    assert peak < frames * size * size * 3 / 5


@pytest.mark.parametrize("name", ["long.wav", "long.m4a"])
def test_sound_is_read_no_further_than_needed(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if name == "long.wav":
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, 16000, 0, "NONE", ""))
            out.writeframes(bytes(2 * 16000 * 60))
    else:
        sound(path, "aac", 60, click=0.1)
    reached: list[float] = []
    original = sound_tracks._demuxed

    def counted(*given: object) -> Iterator[container.Packet]:
        for packet in original(*given):  # type: ignore[arg-type]
            reached.append(float((packet.pts or 0) * (packet.time_base or 0)))
            yield packet

    monkeypatch.setattr(sound_tracks, "_demuxed", counted)
    write(tmp_path / "a.mp4", grey(*range(25)), audio=path)
    assert 0.8 < max(reached) < 2


def test_avi_with_frames_out_of_order_lasts_as_long_as_it_does(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", figure_clip(50, 3, 64)[0], "libx264", "yuv420p", gop=25)
    facts = video_facts(path)
    assert facts.rate == 25 and facts.frames == 50
    again = read(path)
    assert len(again) == 50 and np.abs(again.astype(int) - figure_clip(50, 3, 64)[0]).mean() < 6


def gif(path: Path, delays: list[int]) -> Path:
    """A GIF of grey frames, each 7 levels lighter; `delays` in milliseconds."""
    pictures = [Image.new("L", (16, 16), 7 * n) for n in range(len(delays))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, loop=0)
    return path


def test_a_gif_that_holds_its_last_frame_keeps_its_motion(tmp_path: Path) -> None:
    path = gif(tmp_path / "a.gif", [100] * 11 + [5000])
    assert video_facts(path).rate == 10 and video_facts(path).frames == 61
    assert levels(path) == [7 * n for n in range(11)] + [77] * 50


def test_a_gif_without_proper_delays_is_shown_as_browsers_do(tmp_path: Path) -> None:
    path = gif(tmp_path / "a.gif", [10] * 8)
    assert video_facts(path).rate == 10 and len(levels(path)) == 8


def test_the_default_streams_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for n, stream in enumerate(streams):
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
            stream.disposition = Disposition.default if n else Disposition(0)
        for stream, level in zip(streams, (10, 200), strict=True):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(level)[0], format="rgb24")))
            container.mux(stream.encode())
    assert levels(path) == [200]


def test_the_default_sound_is_heard_where_several_speak(tmp_path: Path) -> None:
    source, out = tmp_path / "two.mkv", tmp_path / "out.mp4"
    with av.open(str(source), "w") as container:
        tracks = []
        for n in range(2):
            track = container.add_stream("pcm_s16le", rate=48000, layout="mono")
            track.disposition = Disposition.default if n else Disposition(0)
            tracks.append(track)
        for track, second in zip(tracks, (0.25, 0.75), strict=True):
            samples = np.zeros((1, 48000), np.int16)
            samples[0, int(second * 48000) : int(second * 48000) + 480] = 20000
            sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            sound.sample_rate, sound.pts = 48000, 0
            container.mux(track.encode(sound))
            container.mux(track.encode())
    with VideoWriter(out, Fraction(10), source) as writer:
        for _ in range(10):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    assert abs(heard(out) - 0.75) < 0.05


def test_a_picture_of_tiles_is_read_whole() -> None:
    """Four tiles of 512 px in one AVIF, as phones write HEIC; made with libavif's grid, 833 bytes."""
    (picture,) = read_frames(Path(__file__).parent / "data" / "quad_grid.avif")
    assert picture.shape == (1024, 1024, 3)
    corners = [picture[y, x].astype(int) for y in (256, 768) for x in (256, 768)]
    assert all(np.abs(a - b).max() > 100 for n, a in enumerate(corners) for b in corners[:n])


def test_webm_that_is_transparent_is_white(tmp_path: Path) -> None:
    content = np.zeros((64, 64, 4), np.uint8)
    content[..., 0], content[:, 32:, 3] = 200, 255
    path = encode(tmp_path / "a.webm", [content] * 3, "libvpx-vp9", "yuva420p", rgb="rgba")
    again = read(path)
    assert again[:, :, 4].min() > 250 and again[0, 32, 60, 0] > 180 and again[0, 32, 60, 1] < 30


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("a.mov", "qtrle", "argb"), ("a.mkv", "ffv1", "bgra"), ("a.avi", "targa", "bgra")]
)
def test_alpha_that_is_zero_throughout_is_none(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    content = np.zeros((16, 16, 4), np.uint8)
    content[..., :3] = (200, 100, 50)
    path = encode(tmp_path / name, [content] * 2, codec, pixels, rgb="rgba")
    assert (read(path) == (200, 100, 50)).all()
    faded = encode(tmp_path / f"b{name}", [content * np.uint8(0), content | 255], codec, pixels, rgb="rgba")
    assert (read(faded) == 255).all()  # an animation that begins with nothing


def test_hd_without_a_tag_is_bt709() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((720, 1280, 3), (192, 128, 96), np.uint8), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=1)
    frame.colorspace = 2
    image = colour.Renderer((1280, 720), "h264").render(frame)
    np.testing.assert_allclose(image[9, 9].astype(int), (192, 128, 96), atol=3)


@pytest.mark.parametrize("hlg", [False, True])
def test_hdr_is_tone_mapped_to_its_sdr_twin(hlg: bool) -> None:
    sdr = np.random.default_rng(0).uniform(0.02, 0.95, (32, 32, 3))
    light = np.power(sdr, 2.4) @ np.linalg.inv(colour.TO_709.astype(float)).T  # of diffuse white, BT.2020
    nits = 203 * light
    if hlg:
        luminance = (nits / 1000) @ np.array([0.2627, 0.6780, 0.0593])
        scene = nits / 1000 * np.power(luminance, 1 / 1.2 - 1)[..., None]
        upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)
    else:
        power = np.power(nits / 10000, 0.1593017578125)
        code = np.power((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power), 78.84375)
    mapped = colour.tone_mapped(np.rint(65535 * code).astype(np.uint16), hlg)
    error = np.square(mapped - 255 * sdr).mean()
    assert 10 * np.log10(255**2 / error) > 35


@pytest.mark.parametrize("layout", ["7.1", "8 channels", "3 channels (FL+FR+LFE)", "mono", "5.1"])
def test_sound_of_any_layout_is_heard(tmp_path: Path, layout: str) -> None:
    path, count = tmp_path / "a.mov", av.AudioLayout(layout).nb_channels
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=48000, layout=layout)
        samples = np.zeros((1, 48000 * count), np.int16)
        samples[0, 20000 * count : 20200 * count] = 9000
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = 48000
        container.mux(track.encode(frame))
        container.mux(track.encode())
    out = write(tmp_path / "clip.mp4", grey(*range(25)), audio=path)
    assert packets(out)[0] == "aac" and heard(out) == pytest.approx(20000 / 48000, abs=0.01)


@pytest.mark.parametrize("name", ["a.mov", "a.ts"])
def test_sound_is_in_step_where_frames_wait_for_a_reordering_that_never_comes(tmp_path: Path, name: str) -> None:
    """Timestamps rise as those of AVI do, but the encoder kept two frames back."""
    path = flashes(tmp_path / name, seconds=3)
    assert in_step(write(tmp_path / "clip.mp4", read_frames(path), audio=path), [1, 2])


def test_a_transport_stream_cut_anywhere_keeps_its_sound_in_step(tmp_path: Path) -> None:
    whole = flashes(tmp_path / "a.ts", seconds=5, gop=60).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[len(whole) // 4 // 188 * 188 :])  # 188 bytes a packet: the next whole picture is at 2.4 s
    assert in_step(write(tmp_path / "clip.mp4", read_frames(path), audio=path), [0.6, 1.6])


def test_joined_files_last_as_long_as_their_parts_and_keep_their_sound_in_step(tmp_path: Path) -> None:
    part = flashes(tmp_path / "a.ts", seconds=2, gop=25).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(part * 4)
    assert video_facts(path).frames == 200 and video_facts(path).rate == 25
    assert in_step(write(tmp_path / "clip.mp4", read_frames(path), audio=path), [1, 3, 5, 7])


@pytest.mark.parametrize(("codec", "share"), [("flac", 4), ("aac", 4), ("aac", 1), ("flac", 1)])
def test_lost_sound_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, share: int
) -> None:
    source = sound(tmp_path / "a.mkv", codec, 2, click=0.6)
    content = bytearray(source.read_bytes())
    _, sounds = packets(source)
    place = 0
    for n, packet in enumerate(sounds):
        place = content.index(packet, place) + len(packet)
        if n % share == 0:
            content[place - len(packet) : place] = b"\x55" * len(packet)
    source.write_bytes(content)
    out = write(tmp_path / "clip.mp4", grey(*range(50)), audio=source)
    lost = len(sounds[::share])
    end = "the result is silent" if share == 1 else "it is silent there"
    assert f"a.mkv: {lost} of {len(sounds)} packets of its sound cannot be decoded; {end}" in caplog.text
    assert levels(out)[:3] == [0, 1, 2]


@pytest.mark.parametrize("times", [[0, 40, 80, 14000, 14040], [0, 14000, 14040, 28000, 28040, 28080]])
def test_a_pause_is_believed_where_the_sound_bears_it_out(tmp_path: Path, times: list[int]) -> None:
    """Of a recording without a length in its header, as browsers make them."""

    def recording(name: str, seconds: float) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options={"live": "1"}) as out:
            video = out.add_stream("libvpx", rate=25)
            video.height = video.width = 16
            video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 1000)
            track = out.add_stream("libopus", rate=48000, layout="mono")
            made = []
            for time, picture in zip(times, grey(*[9] * len(times)), strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                made += video.encode(frame)
            made += video.encode()
            for start in range(0, int(48000 * seconds), 960):
                piece = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
                made += track.encode(piece)
            made += track.encode()
            for packet in sorted(made, key=lambda packet: (packet.dts or 0) * packet.time_base):
                out.mux(packet)
        return path

    whole = times[-1] // 40 + 1
    assert len(levels(recording("talk.webm", times[-1] / 1000 + 0.1))) == whole
    assert len(levels(recording("silent.webm", 0.1))) == len(times)


@pytest.mark.parametrize("sought", [100, 10**9])
def test_frames_of_a_long_video_are_evenly_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sought: int) -> None:
    monkeypatch.setattr(files, "SOUGHT", sought)
    path = encode(tmp_path / "a.mp4", (np.full((16, 16, 3), n // 4, np.uint8) for n in range(801)), "libx264",
                  "yuv420p", gop=100)  # fmt: skip
    shades = [float(frame.mean()) for frame in files.spread_frames(path, 5)]
    assert shades == pytest.approx([0, 50, 100, 150, 200], abs=2)
    part = [float(frame.mean()) for frame in files.spread_frames(path, 3, 200, 601)]
    assert part == pytest.approx([50, 100, 150], abs=2)


@pytest.mark.parametrize("source_type", [synthetic.SOURCE_TYPE, synthetic.GENERATED])
def test_a_generated_picture_says_so(tmp_path: Path, source_type: str) -> None:
    said = synthetic.tags("AutoLink 1 & more", "picture", source_type)
    write_picture(tmp_path / "a.png", grey(9)[0], said)
    with Image.open(tmp_path / "a.png") as picture:
        text = {name: str(value) for name, value in picture.info.items()}
    assert text["Title"] == "Synthetic picture" and "Made with AutoLink 1 & more" in text["Comment"]
    assert f"<Iptc4xmpExt:DigitalSourceType>{source_type}<" in text["XML:com.adobe.xmp"]
    assert "AutoLink 1 &amp; more" in text["XML:com.adobe.xmp"]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_generated_video_says_so(tmp_path: Path, name: str) -> None:
    with VideoWriter(tmp_path / name, Fraction(25), metadata=synthetic.tags("AutoLink 1")) as writer:
        writer.write(grey(9)[0])
    with av.open(str(tmp_path / name)) as container:
        said = container.metadata
    assert "Made with AutoLink 1" in said["comment"] and levels(tmp_path / name) == [9]
    if name == "a.mp4":
        assert said["synthetic"] == "true" and said["title"] == "Synthetic video"
        assert synthetic.SOURCE_TYPE.encode() in (tmp_path / name).read_bytes()[-1500:]


def test_the_mark_is_small_and_in_a_corner() -> None:
    picture = np.full((128, 160, 3), 180, np.uint8)
    changed = (synthetic.watermarked(picture) != picture).any(2)
    assert changed.any() and not changed[:100].any() and not changed[:, :80].any() and (picture == 180).all()


def test_what_is_no_regular_file_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="no regular file"):
        read(tmp_path / "pipe.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(VideoError, match="cannot be read"):
        read(tmp_path / "list.mp4")
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    bomb = b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0x80, 0, 0) + bytes(6) + picture * 2 + b";"
    (tmp_path / "bomb.gif").write_bytes(bomb)
    with pytest.raises(VideoError):
        list(files.read_frames(tmp_path / "bomb.gif"))


def test_a_few_frames_are_not_repeated_for_days(tmp_path: Path) -> None:
    """A day of four frames is refused before anything is decoded; an hour of a talk's eight slides is not."""
    day, hour = 86_400_000, 3_600_000
    bomb = encode(tmp_path / "day.mkv", grey(10, 20, 30, 40), times=[0, 40, 80, day])
    with pytest.raises(VideoError, match=r"its 4 frames last 864\d\d s; .* re-encode it"):
        next(read_frames(bomb))
    slides = encode(
        tmp_path / "hour.mkv", grey(*range(10, 90, 10)), times=[0, 40, *range(hour // 7, hour, hour // 7), hour]
    )
    assert next(read_frames(slides)).shape[2] == 3


def test_side_data_of_an_unknown_kind_is_passed_over(tmp_path: Path) -> None:
    """EXIF in the frames of Motion JPEG, of which PyAV does not know that FFmpeg has it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "camera"
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuvj420p"
        for n in range(3):
            file = io.BytesIO()
            Image.new("RGB", (32, 16), (0, 60 * n, 0)).save(file, "JPEG", exif=exif)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, n, n, Fraction(1, 25)
            out.mux(packet)
    np.testing.assert_allclose([frame[8, 8, 1] for frame in read_frames(path)], [0, 60, 120], atol=4)
