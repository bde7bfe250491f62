import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from autolink.video.writer import VideoWriter
from PIL import Image

from autolink.data.images import load_images
from autolink.data.landmarks import held_out
from autolink.data.picture import from_pixels, to_pixels
from autolink.data.source import Source
from autolink.errors import UserError


def picture(path: Path, colour: tuple[int, ...] = (200, 40, 90), size: tuple[int, int] = (30, 20), mode: str = "RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)
    return path


def test_reads_recursively_any_size_and_mode(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "deep" / "er" / "b.PNG", mode="P")
    picture(tmp_path / "c.webp", size=(7, 90))
    picture(tmp_path / "grey.png", mode="L")
    Image.new("RGBA", (9, 9), (200, 40, 90, 255)).save(tmp_path / "alpha.png")
    Image.fromarray(np.full((9, 9), 50_000, np.uint16)).save(tmp_path / "sixteen.png")
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    data = load_images(tmp_path, 16, "stretch")
    assert data.names == ["a.jpg", "alpha.png", "c.webp", "cmyk.jpg", "deep/er/b.PNG", "grey.png", "sixteen.png"]
    assert data.images.shape == (7, 16, 16, 3) and not data.skipped
    for name in ("a.jpg", "alpha.png", "c.webp", "deep/er/b.PNG"):
        np.testing.assert_allclose(data.images[data.names.index(name)].mean((0, 1)), (200, 40, 90), atol=8)
    assert data.images[data.names.index("sixteen.png")].mean() == pytest.approx(50_000 / 257, abs=1)


def test_transparency_lies_over_grey(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_images(tmp_path, 8, "stretch").images == 128).all()


def test_unreadable_pictures_are_named_and_skipped(tmp_path: Path) -> None:
    picture(tmp_path / "good.jpg", size=(200, 200))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:300])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.webp").write_text("hello")
    data = load_images(tmp_path, 8, "stretch")
    assert data.names == ["good.jpg"]
    assert set(data.skipped) == {"broken.jpg", "empty.png", "text.webp"} and all(data.skipped.values())


def test_frames_of_videos_are_pictures_where_they_are_asked_for(tmp_path: Path) -> None:
    """The central square of each, after the pictures; from the cache the second time, until a video changes."""
    folder, cache = tmp_path / "folder", tmp_path / "cache"
    picture(folder / "a.png")
    write_video(folder / "deep" / "clip.mp4", 5)
    (folder / "broken.mov").write_bytes(b"no video")
    data = load_images(folder, 16, "stretch", cache, videos=True)
    assert data.names == ["a.png", *(f"deep/clip.mp4#{n}" for n in range(5))] and set(data.skipped) == {"broken.mov"}
    np.testing.assert_allclose(data.images[1:, 8, 8, 1], 40 * np.arange(1, 6), atol=8)
    again = load_images(folder, 16, "stretch", cache, videos=True)
    assert isinstance(again.images, np.memmap) and again.names == data.names
    np.testing.assert_array_equal(again.images, data.images)
    assert load_images(folder, 16, "stretch", cache).names == ["a.png"]
    write_video(folder / "more.mp4", 3)
    assert len(load_images(folder, 16, "stretch", cache, videos=True)) == 9


def write_video(path: Path, frames: int) -> None:
    """A video whose n-th frame has a square of brightness 40 n in its middle, black on both sides."""
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, Fraction(25)) as writer:
        for n in range(1, frames + 1):
            frame = np.zeros((32, 64, 3), np.uint8)
            frame[:, 16:48] = 40 * n
            writer.write(frame)


def test_a_folder_of_videos_alone(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 3)
    assert len(load_images(tmp_path, 16, "stretch", videos=True)) == 3
    with pytest.raises(UserError, match=r"holds no pictures$"):
        load_images(tmp_path, 16, "stretch")
    (tmp_path / "clip.mp4").write_bytes(b"bad")
    with pytest.raises(UserError, match=r"none of the 1 videos in .* can be read"):
        load_images(tmp_path, 16, "stretch", videos=True)


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        load_images(tmp_path, 8, "stretch")
    with pytest.raises(UserError, match="does not exist"):
        load_images(tmp_path / "nowhere", 8, "stretch")
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(UserError, match=r"none of the 1 pictures .* bad.png|none of the 1 pictures"):
        load_images(tmp_path, 8, "stretch")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="not a readable zip"):
        load_images(tmp_path / "bad.zip", 8, "stretch")
    with pytest.raises(UserError, match="neither a folder nor a zip"):
        load_images(tmp_path / "bad.png", 8, "stretch")


def test_a_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for n in range(3):
        picture(folder / "images" / f"{n}.png", colour=(n * 80, 10, 10))
    (folder / "landmarks.csv").write_text("image,identity,split,x0,y0\n0.png,a,train,1,2\n1.png,b,train,3,4\n")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
        archive.writestr("__MACOSX/images/._0.png", b"junk")
    plain, zipped = load_images(folder, 8, "crop"), load_images(tmp_path / "all.zip", 8, "crop")
    assert plain.names == zipped.names
    np.testing.assert_array_equal(plain.images, zipped.images)
    assert plain.annotation is not None and zipped.annotation is not None
    np.testing.assert_array_equal(plain.annotation.landmarks, zipped.annotation.landmarks)


def test_the_cache_is_used_and_noticed_when_old(tmp_path: Path) -> None:
    folder, cache = tmp_path / "folder", tmp_path / "cache"
    picture(folder / "a.png")
    (folder / "bad.png").write_bytes(b"bad")
    first = load_images(folder, 8, "stretch", cache)
    again = load_images(folder, 8, "stretch", cache)
    assert isinstance(again.images, np.memmap)
    np.testing.assert_array_equal(first.images, again.images)
    assert again.names == ["a.png"] and set(again.skipped) == {"bad.png"}
    picture(folder / "b.png")
    assert load_images(folder, 8, "stretch", cache).names == ["a.png", "b.png"]
    assert not [p for p in cache.iterdir() if p.name.startswith(".")]


def test_rotation_in_exif_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = load_images(tmp_path, 8, "stretch").images[0]
    assert shown[:3].mean() > 230 and shown[5:].mean() < 25


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_points_go_to_pixels_and_back(fit: str) -> None:
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (4, 2))
    np.testing.assert_allclose(from_pixels(to_pixels(points, 31, 77, fit), 31, 77, fit), points)  # type: ignore[arg-type]


def test_corners_of_stretch_and_crop() -> None:
    corners = np.array([[-1, -1], [1, 1]])
    np.testing.assert_allclose(to_pixels(corners, 30, 20, "stretch"), [[0, 0], [29, 19]])
    np.testing.assert_allclose(to_pixels(corners, 30, 20, "crop"), [[5, 0], [24, 19]])


CSV = "image,identity,split,x0,y0,x1,y1\n"


def annotated(tmp_path: Path, table: str) -> Path:
    for n in range(3):
        picture(tmp_path / "images" / f"{n}.png", size=(21, 11))
    (tmp_path / "landmarks.csv").write_text(table)
    return tmp_path


def test_landmarks_are_read_with_gaps(tmp_path: Path) -> None:
    data = load_images(annotated(tmp_path, CSV + "0.png,ann,train,0,0,20,10\n2.png,bob,test,10,5,,\n"), 8, "stretch")
    assert data.annotation is not None
    np.testing.assert_allclose(data.annotation.landmarks[0], [[-1, -1], [1, 1]])
    np.testing.assert_allclose(data.annotation.landmarks[2], [[0, 0], [np.nan, np.nan]])
    assert np.isnan(data.annotation.landmarks[1]).all()
    assert data.annotation.annotated.tolist() == [True, False, True]
    assert data.annotation.test.tolist() == [False, False, True]
    np.testing.assert_allclose(data.annotation.pixels[0], [10, 5])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "must begin with the columns"),
        ("image,split,x0,y0\n0.png,train,1,1\n", "must begin with the columns"),
        ("image,identity,split,x0,y0,x1\n", "must begin with the columns"),
        ("image,identity,split,x0,y0,x2,y2\n", "misses the column x1"),
        (CSV + "0.png,a,train,1,b,1,1\n", "line 2"),
        (CSV + "0.png,a,train,1,1,1,1,1\n", "line 2, has 8 cells"),
        (CSV + "other.png,a,train,1,1,1,1\n", "names none of the pictures"),
        (CSV + "0.png,a,train,1,1,inf,1\n", "line 2: a coordinate is infinite"),
        (CSV + "0.png,a,train,1,1,1e30,1\n", "line 2: a coordinate is infinite"),
        (CSV + "0.png,a,val,1,1,1,1\n", "line 2: split is train, test or empty"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_images(annotated(tmp_path, table), 8, "stretch")
    assert said in str(error.value) and "landmarks.csv" in str(error.value)


def test_people_are_never_on_both_sides() -> None:
    names = [f"{n}.png" for n in range(200)]
    people = np.array([f"person {n % 40}" for n in range(200)])
    shared = np.arange(200) % 3 == 0
    test = held_out(people, shared, names)
    assert 0 < test.sum() < 100
    assert not set(people[test]) & set(people[~test])
    disjoint = np.isin(people, ["person 1", "person 2"])
    np.testing.assert_array_equal(held_out(people, disjoint, names), disjoint)
    nobody = np.full(200, "")
    np.testing.assert_array_equal(held_out(nobody, shared, names), shared)
    assert 0.1 < held_out(nobody, np.zeros(200, bool), names).mean() < 0.3


def test_somebody_is_always_left_to_learn_from() -> None:
    for name in map(str, range(20)):
        assert not held_out(np.full(3, name), np.zeros(3, bool), ["a", "b", "c"]).any()


def test_a_bare_name_in_the_table_must_be_unique(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        picture(tmp_path / folder / "0.png", size=(21, 11))
    picture(tmp_path / "c" / "1.png", size=(21, 11))
    (tmp_path / "landmarks.csv").write_text(CSV + "0.png,ann,train,0,0,20,10\n1.png,ann,train,0,0,20,10\n")
    data = load_images(tmp_path, 8, "stretch")
    assert data.annotation is not None
    assert data.annotation.annotated.tolist() == [False, False, True]


def test_links_that_lead_nowhere_are_skipped(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    data = load_images(tmp_path, 8, "stretch", tmp_path / "cache")
    assert data.names == ["a.png"] and data.skipped == {"gone.png": "No such file or directory"}


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png")
    cache = tmp_path / "cache"
    whole = load_images(tmp_path / "data", 8, "stretch", cache).images.copy()
    for damaged in (*cache.glob("*.npy"), *cache.glob("*.json")):
        damaged.write_bytes(damaged.read_bytes()[:9])
        np.testing.assert_array_equal(load_images(tmp_path / "data", 8, "stretch", cache).images, whole)


def test_zips_with_traps(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    path = tmp_path / "trap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("good.png", "bad.png", "/absolute.png", "../up.png", "c:\\drive.png"):
            archive.writestr(name, content)
    raw = bytearray(path.read_bytes())
    start = raw.find(b"bad.png") + len("bad.png")
    raw[start + 20 : start + 40] = bytes(20)  # its checksum no longer fits
    path.write_bytes(raw)
    data = load_images(path, 8, "stretch")
    assert data.names == ["good.png"] and set(data.skipped) == {"bad.png"}
    assert "damaged in the zip" in data.skipped["bad.png"]


def test_source_of_a_single_picture(tmp_path: Path) -> None:
    path = picture(tmp_path / "one.png")
    source = Source.single(path)
    assert source.names == ["one.png"] and source.read("one.png") == path.read_bytes()


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "circle").symlink_to(data)
    assert Source.find(data).names == ["linked/a.png"]
