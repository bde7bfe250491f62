"""One picture of each kind through `decode_picture`, and what is no picture."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autolink.pictures import (
    FORMATS,
    MOST_PIXELS,
    PictureError,
    decode_picture,
    decode_reduced,
    files_below,
    is_hidden,
    is_picture,
)
from autolink.video.container import VideoError
from autolink.video.files import read_frames, video_facts

RED = (200, 40, 90)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixel(content: bytes) -> tuple[int, ...]:
    found = decode_picture(content).getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "GIF"])
def test_every_format_is_read_whatever_its_ending(form: str, tmp_path: Path) -> None:
    (tmp_path / "picture.xyz").write_bytes(encoded(Image.new("RGB", (24, 16), RED), form))
    assert is_picture(tmp_path / "picture.xyz")
    decoded = decode_picture(tmp_path / "picture.xyz")
    assert decoded.size == (24, 16) and decoded.mode == "RGB"
    np.testing.assert_allclose(np.asarray(decoded).mean((0, 1)), RED, atol=8)


def deep(values: list[int], dtype: str, form: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.array([values], dtype)), form)


@pytest.mark.parametrize(
    ("content", "grey"),
    [
        (deep([200, 0], "<u2"), 1),  # dim, and stays so
        (deep([50_000, 0], "<u2"), 195),
        (deep([65_535, 0], ">u2", "TIFF"), 255),
        (deep([50_000, 0], "<i4", "TIFF"), 195),
        (deep([2**31 - 1, 0], "<i4", "TIFF"), 255),
        (deep([1, 0], "<f4", "TIFF"), 255),
        (deep([200, 0], "<f4", "TIFF"), 200),
        (b"P5 2 1 65535\n" + struct.pack(">2H", 50_000, 0), 195),
    ],
)
def test_more_than_eight_bits_are_scaled_by_their_type(content: bytes, grey: int) -> None:
    assert pixel(content) == (grey,) * 3


def test_transparency_lies_over_white_and_is_ignored_where_it_is_zero_throughout() -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (10, 20, 30, 255))
    assert pixel(encoded(half, "PNG")) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGBA", (2, 1), (*RED, 0)), "PNG")) == RED
    grey = Image.new("LA", (2, 1), (100, 255))
    grey.putpixel((0, 0), (0, 128))
    assert pixel(encoded(grey, "PNG")) == (127,) * 3
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    assert pixel(encoded(palette, "PNG", transparency=0)) == (255, 255, 255)
    assert pixel(encoded(palette, "PNG")) == RED
    np.testing.assert_allclose(pixel(encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG")), (255, 0, 0), atol=8)


def oriented(orientation: int) -> bytes:
    """White on the left half, with that EXIF."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif, quality=95)


@pytest.mark.parametrize(
    ("orientation", "side"),
    enumerate(["left", "right", "right", "left", "top", "top", "bottom", "bottom"], 1),
)
def test_pictures_are_upright_in_the_size_of_the_file(orientation: int, side: str) -> None:
    picture, size = decode_reduced(oriented(orientation))
    assert picture.size == size == ((20, 40) if orientation >= 5 else (40, 20))
    pixels = np.asarray(picture).mean(2)
    white = {"left": pixels[:, :15], "right": pixels[:, -15:], "top": pixels[:15], "bottom": pixels[-15:]}[side]
    assert white.min() > 200 and pixels.mean() < 140


def test_odd_exif_ends_nothing() -> None:
    """A resolution unit of the wrong type, which Pillow reads and cannot write; then each byte damaged in turn."""
    content = oriented(6)
    start = content.index(b"Exif\0\0") + 6
    assert struct.unpack(">H", content[start + 8 : start + 10]) == (1,)  # one entry: the orientation
    tags = b"MM\0*" + struct.pack(">IH", 8, 2) + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    tags += struct.pack(">HHII", 0x0128, 5, 1, 38) + struct.pack(">III", 0, 72, 1)
    block = b"Exif\0\0" + tags
    length = struct.unpack(">H", content[start - 8 : start - 6])[0]
    odd = content[: start - 8] + struct.pack(">H", len(block) + 2) + block + content[start - 8 + length :]
    assert decode_picture(odd).size == (20, 40)
    for at in range(start, start + 26):
        for value in (0, 7, 255):
            assert decode_picture(content[:at] + bytes([value]) + content[at + 1 :]).size in ((20, 40), (40, 20))


def test_a_large_picture_may_come_smaller_but_tells_its_size() -> None:
    content = encoded(Image.new("RGB", (1600, 801), RED), "JPEG")
    picture, size = decode_reduced(content, at_least=100)
    assert size == (1600, 801) and 100 <= picture.height < 801


def png_header(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel whose header alone is there."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(4) + b"IDAT"
    )


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"no picture", "no picture of a known format"),
        (POSTSCRIPT, "no picture of a known format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "HEIC is not read here; convert it"),
        (png_header(20_000, 7_000), "million pixels"),
        (png_header(60_000, 60_000), "million pixels"),
        (encoded(Image.new("RGB", (90, 90), RED), "JPEG")[:400], "damaged"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, said: str) -> None:
    assert MOST_PIXELS < 20_000 * 7_000
    with pytest.raises(PictureError, match=said):
        decode_picture(content)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="no regular file"):
        decode_picture(tmp_path / "pipe.png")
    assert not is_picture(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="No such file"):
        decode_picture(tmp_path / "none.png")


@pytest.mark.parametrize("name", [".a.jpg", "._a.jpg", "b/.thumbnails/1.jpg", "__MACOSX/a.jpg", "x/Thumbs.db"])
def test_hidden(name: str) -> None:
    assert is_hidden(name) and not is_hidden("a/b.c.jpg")


def test_hidden_files_are_passed_over_everywhere_below(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", ".cache/b.jpg", "deep/c.jpg", "__MACOSX/d.jpg", "desktop.ini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(p.relative_to(tmp_path).as_posix() for p in files_below(tmp_path)) == ["a.jpg", "deep/c.jpg"]


def animation(path: Path, form: str, durations: int | list[int]) -> Path:
    count = 5 if isinstance(durations, int) else len(durations)
    frames = [Image.new("RGB", (16, 16), (40 * n, 0, 0)) for n in range(count)]
    frames[0].save(path, form, save_all=True, append_images=frames[1:], duration=durations)
    return path


@pytest.mark.parametrize(("form", "ending"), [("WEBP", "webp"), ("PNG", "png"), ("AVIF", "avif"), ("PNG", "apng")])
def test_animated_pictures_give_all_frames_at_their_rate(form: str, ending: str, tmp_path: Path) -> None:
    path = animation(tmp_path / f"a.{ending}", form, 100)
    facts = video_facts(path)
    assert facts.rate == 10 and facts.frames == 5 and not facts.audio
    np.testing.assert_allclose([frame[8, 8, 0] for frame in read_frames(path)], 40 * np.arange(5), atol=12)


@pytest.mark.parametrize(
    ("durations", "rate", "shown"),
    [
        ([40, 80, 40], 25, [0, 40, 40, 80]),
        ([33, 33, 34, 33, 33, 34], 30, [0, 40, 80, 120, 160, 200]),
        ([5, 5], 10, [0, 40]),  # browsers show so short a frame for a tenth of a second
    ],
)
def test_frames_last_as_long_as_they_should(durations: list[int], rate: int, shown: list[int], tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", "PNG", durations)
    assert video_facts(path).rate == rate and video_facts(path).frames == len(shown)
    assert [int(frame[8, 8, 0]) for frame in read_frames(path)] == shown


def test_a_folder_of_frames_passes_over_what_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in (1, 2, 10):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.ppm")
    (tmp_path / "3").write_bytes(encoded(Image.new("RGB", (8, 8), (3, 0, 0)), "PNG"))
    Image.new("RGB", (9, 9)).save(tmp_path / "._1.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [int(frame[0, 0, 0]) for frame in read_frames(tmp_path)] == [1, 2, 3, 10]
    assert "1 files are no pictures and were skipped, such as notes.txt" in caplog.text
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
    with pytest.raises(VideoError, match=r"phone\.heic cannot be read as a picture: HEIC"):
        list(read_frames(tmp_path / "phone.heic"))
