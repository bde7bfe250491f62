import os
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from autolink.data.folders import read_folders
from autolink.data.images import load_images
from autolink.data.landmarks import held_out
from autolink.data.picture import from_pixels, to_pixels
from autolink.data.source import Source
from autolink.errors import UserError
from autolink.generation.classes import class_names, classes_of, data_classes, held_out_pictures
from autolink.video.files import spread_frames
from autolink.video.writer import VideoWriter


def picture(
    path: Path, colour: tuple[int, ...] = (200, 40, 90), size: tuple[int, int] = (30, 20), mode: str = "RGB"
) -> Path:
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
    np.testing.assert_allclose(data.annotation.landmarks[2], np.array([[0, 0], [np.nan, np.nan]]))
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
    whole = np.array(load_images(tmp_path / "data", 8, "stretch", cache).images)
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
    source = Source.of(path)
    assert source.names == ["one.png"] and source.read("one.png") == path.read_bytes()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"notes\.txt is no picture"):
        Source.of(tmp_path / "notes.txt")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "circle").symlink_to(data)
    assert Source.find(data).names == ["linked/a.png"]


def test_every_picture_is_used_and_what_is_none_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "photo 2024-05-01 12:30:00.jpg")
    picture(tmp_path / "a.png").rename(tmp_path / "no ending")
    picture(tmp_path / "b.gif")
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "d.txt").write_text("no picture")
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    write_video(tmp_path / "e.mp4", 2)
    assert Source.find(tmp_path).names == ["b.gif", "no ending", "photo 2024-05-01 12:30:00.jpg"]
    assert "4 files are no pictures and were skipped: 2 .txt, 1 .json, 1 .mp4, such as c.txt" in caplog.text
    assert "dataset.json is not read" in caplog.text
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in tmp_path.iterdir():
            if file.suffix != ".zip":
                archive.write(file, file.name)
    assert Source.find(tmp_path / "all.zip").names == Source.find(tmp_path).names


def test_which_files_are_videos_is_one_rule(tmp_path: Path) -> None:
    """Hidden files count nowhere; an animated picture is a video where videos are wanted, a still one a picture."""
    write_video(tmp_path / "a.mp4", 2)
    picture(tmp_path / "._a.jpg")
    picture(tmp_path / ".thumbnails" / "1.jpg")
    frames = [Image.new("RGB", (16, 16), (n, 0, 0)) for n in (0, 200)]
    for name in ("b.gif", "c.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
    picture(tmp_path / "d.gif")
    source = Source.find(tmp_path, videos=True)
    assert (source.videos, source.names) == (["a.mp4", "b.gif", "c.webp"], ["d.gif"])
    assert Source.find(tmp_path).names == ["b.gif", "c.webp", "d.gif"]
    assert Source.find(tmp_path / "a.mp4", videos=True).videos == ["a.mp4"]


def test_a_damaged_video_gives_what_it_has_and_that_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:  # its index is not needed to read the beginning
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), np.uint8)
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 10 < len(load_images(tmp_path, 16, "stretch", videos=True)) < 45
    assert "a.mkv is damaged: it ends after" in caplog.text and "frames could be read" in caplog.text
    assert len(spread_frames(path, 5)) == 5  # of those that are there


def test_zips_of_windows_and_of_one_folder(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name in ("pets\\cat\\1.png", "pets\\dog\\2.png", "pets\\..\\..\\up.png", "pets\\"):
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would turn the separators
            archive.writestr(info, content if name.endswith("png") else b"")
    data = load_images(tmp_path / "w.zip", 8, "stretch")
    assert data.names == ["pets/cat/1.png", "pets/dog/2.png"] and class_names(data.names) == ("cat", "dog")


def test_zip_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolink.data.source.LARGEST_FILE", 10_000)
    content = picture(tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", content)
        archive.writestr("bomb.png", content + bytes(1_000_000))
    data = load_images(tmp_path / "b.zip", 8, "stretch")
    assert data.names == ["good.png"] and "too large, 1 MB" in data.skipped["bomb.png"]


def test_pipes_and_devices_are_skipped(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    data = load_images(tmp_path, 8, "stretch")
    assert data.names == ["a.png"]
    assert data.skipped == dict.fromkeys(("pipe.png", "zero.png"), "it is no regular file")


def test_names_that_are_no_utf8_are_read_cached_and_split(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png").rename(tmp_path / "data" / os.fsdecode(b"caf\xe9.png"))
    picture(tmp_path / "data" / "b.png")
    for _ in range(2):
        data = load_images(tmp_path / "data", 8, "stretch", tmp_path / "cache")
        assert [os.fsencode(name) for name in data.names] == [b"b.png", b"caf\xe9.png"]
        assert held_out_pictures(data).shape == (2,)
    assert held_out(np.full(2, ""), np.zeros(2, bool), data.names).shape == (2,)


@pytest.mark.parametrize(
    ("names", "label", "test"),
    [
        (["afhq/train/cat/1", "afhq/train/dog/2", "afhq/val/cat/3", "afhq/val/dog/4"], "cat dog cat dog", [0, 0, 1, 1]),
        (["train/pets/cat/1", "Test/pets/dog/2"], "cat dog", [0, 1]),
        (["training_set/cat/1", "training_set/dog/2", "test_set/cat/3"], "cat dog cat", [0, 0, 1]),
        (["train2017/1", "val2017/2"], " ", [0, 1]),
        (["cat/train/1", "cat/val/2", "dog/train/3", "dog/val/4"], "cat cat dog dog", [0, 1, 0, 1]),
        (["trains/1", "valley/2", "testers/3"], "trains valley testers", None),
        (["\udcb9\udcb7/1", "dog/2"], r"\udcb9\udcb7 dog", None),
        (["my/cat/1", "my/dog/deep/2"], "cat dog", None),
        (["cat/1", "dog/2", "3"], "cat dog ", None),
        (["train/1", "test/2"], " ", [0, 1]),
        (["val/cat/1", "test/dog/2"], "cat dog", None),  # nothing to train on: they are no parts
        (["train/cat/1", "cat/2"], "train cat", None),
        (["a/b/1", "a/b/2"], " ", None),
        (["cafe\u0301/1", "caf\u00e9/2", "dog/3"], "caf\u00e9 caf\u00e9 dog", None),
    ],
)
def test_what_folders_mean(names: list[str], label: str, test: list[int] | None) -> None:
    found = read_folders(names)
    assert found.label == label.split(" ")
    assert (found.test is None) if test is None else (found.test is not None and found.test.tolist() == test)


def test_afhq_as_it_is_distributed(tmp_path: Path) -> None:
    """Classes by name, val held out, in both trainings."""
    for part in ("train", "val"):
        for kind in ("cat", "dog", "wild"):
            picture(tmp_path / "afhq" / part / kind / f"{part}_{kind}.jpg")
    data = load_images(tmp_path / "afhq", 8, "stretch")
    assert class_names(data.names) == data_classes(str(tmp_path / "afhq"), None) == ("cat", "dog", "wild")
    assert classes_of(data.names, ("cat", "dog", "wild")).tolist() == [0, 1, 2, 0, 1, 2]
    assert data.annotation is not None and not data.annotation.annotated.any()
    assert held_out_pictures(data).tolist() == [False] * 3 + [True] * 3


def test_every_table_is_read_and_the_nearest_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n, part in enumerate(("one", "two")):
        annotated(
            tmp_path / part,
            CSV + f"0.png,{part},train,{n},0,20,10\n1.png,{part} b,test,10,5,,\n9.png,x,train,1,1,1,1\n",
        )
    data = load_images(tmp_path, 8, "stretch")
    assert data.annotation is not None
    assert data.annotation.identity.tolist() == ["one", "one b", "", "two", "two b", ""]
    assert data.annotation.test.tolist() == [False, True, False, False, True, False]
    np.testing.assert_allclose(data.annotation.landmarks[[0, 3], 0, 0], [-1, -0.9], atol=1e-6)
    assert "one/landmarks.csv: 1 of 3 rows name no picture, such as 9.png" in caplog.text
    assert "2 of 6 pictures have no landmarks, such as one/images/2.png" in caplog.text
    (tmp_path / "two" / "landmarks.csv").write_text("image,identity,split,x0,y0\n0.png,a,train,1,1\n")
    with pytest.raises(UserError, match=r"has 2 and .* has 1 landmarks"):
        load_images(tmp_path, 8, "stretch")


@pytest.mark.parametrize("written", ["images\\0.png", " 0.png ", "./images/0.png", "images/0.png"])
def test_names_in_a_table_may_be_written_in_many_ways(tmp_path: Path, written: str) -> None:
    data = load_images(annotated(tmp_path, CSV + f"{written},ann,train,0,0,20,10\n"), 8, "stretch")
    assert data.annotation is not None and data.annotation.annotated.tolist() == [True, False, False]


def test_letters_are_composed_in_tables_and_names_alike(tmp_path: Path) -> None:
    picture(tmp_path / "cafe\u0301.png", size=(21, 11))
    (tmp_path / "landmarks.csv").write_text(CSV + "caf\u00e9.png,ann,train,0,0,20,10\n")
    data = load_images(tmp_path, 8, "stretch")
    assert data.annotation is not None and data.annotation.annotated.tolist() == [True]
