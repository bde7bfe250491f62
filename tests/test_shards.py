"""Tar shards: what is packed is what a folder holds, and training from them is training from the folder."""

import io
import json
import os
import random
import shutil
import signal
import tarfile
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_GAN
from faults import crashes, damaged, verdicts
from PIL import Image
from processes import launched, stopped_by_one
from safetensors.torch import load_file

from autolink import pack, train
from autolink.data import check_data, load_data
from autolink.data.figures import figure_clip, figure_images
from autolink.data.images import CroppedPictures, ImageSet, load_images
from autolink.data.shard_pictures import ShardPictures, expect, load_shards
from autolink.data.shards import expanded, index_file, read_index, shard_names
from autolink.errors import UsageError, UserError
from autolink.files import clear_leftovers
from autolink.generation import train_gan
from autolink.pack import PackConfig
from autolink.run_state import RunFolder
from autolink.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]


def packed(out: Path, *sources: Path, **options: int) -> Path:
    pack.run(PackConfig(tuple(sources), out, **options))
    return out


def assert_same(shards: ImageSet, folder: ImageSet) -> None:
    assert shards.names == folder.names
    assert isinstance(shards.images, ShardPictures)
    assert shards.images.shape == folder.images.shape
    np.testing.assert_array_equal(shards.images[:], folder.images)
    assert (shards.annotation is None) == (folder.annotation is None)
    if shards.annotation and folder.annotation:
        for name, values in vars(folder.annotation).items():
            np.testing.assert_array_equal(getattr(shards.annotation, name), values, err_msg=name)


@pytest.fixture(scope="module")
def shards(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 annotated pictures in four shards."""
    return packed(tmp_path_factory.mktemp("shards") / "out", pictures, pictures=7)


def names_in(tar: Path) -> list[str]:
    with tarfile.open(tar) as archive:
        return archive.getnames()


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_small_pictures_are_as_in_their_folder(fit: str, pictures: Path, shards: Path) -> None:
    assert sorted(path.name for path in shards.glob("*.tar")) == [f"{n:04}.tar" for n in range(4)]
    assert_same(load_data(str(shards), 32, fit), load_images(pictures, 32, fit))  # type: ignore[arg-type]


def test_a_pattern_names_some_shards_in_order(pictures: Path, shards: Path) -> None:
    folder = load_images(pictures, 32, "stretch")
    data = load_data(f"{shards}/{{0001..0002}}.tar", 32, "stretch")
    assert data.names == folder.names[7:21]
    np.testing.assert_array_equal(data.images[:], folder.images[7:21])
    assert load_data(f"{shards}/0003.tar", 32, "stretch").names == folder.names[21:]
    assert list(expanded("{8..10}/{00..01}.tar")) == [f"{a}/{b}.tar" for a in (8, 9, 10) for b in ("00", "01")]


def test_classes_and_parts_are_the_folders(animals: Path, tmp_path: Path) -> None:
    for part, numbers in (("train", range(16)), ("val", range(16, 24))):
        for kind in ("cat", "dog"):
            (tmp_path / "set" / part / kind).mkdir(parents=True)
            for n in numbers:
                if (animals / kind / f"{n:02}.png").exists():
                    shutil.copy(animals / kind / f"{n:02}.png", tmp_path / "set" / part / kind)
    out = packed(tmp_path / "out", tmp_path / "set")
    data = load_data(str(out), 32, "stretch")
    assert_same(data, load_images(tmp_path / "set", 32, "stretch"))
    assert data.annotation and data.annotation.test.sum() == 8
    with tarfile.open(out / "0000.tar") as archive:
        labels = {name: archive.extractfile(name).read() for name in archive.getnames() if name.endswith(".cls")}  # type: ignore[union-attr]
    assert len(labels) == 24 and all(label == (b"0" if "cat" in name else b"1") for name, label in labels.items())


def test_larger_pictures_are_made_smaller_and_landmarks_stay(tmp_path: Path) -> None:
    images, joints = figure_images(6, 3, 120)
    rows = ["image,identity,split," + ",".join(f"x{n},y{n}" for n in range(joints.shape[1]))]
    (tmp_path / "set").mkdir()
    for n, (image, points) in enumerate(zip(images, joints, strict=True)):
        Image.fromarray(image).resize((180, 120)).save(tmp_path / "set" / f"{n}.png")
        pixels = (points + 1) / 2 * [179, 119]
        pixels[n] = np.nan
        rows.append(f"{n}.png,p{n},," + ",".join("" if np.isnan(v) else f"{v:.3f}" for v in pixels.flat))
    (tmp_path / "set" / "landmarks.csv").write_text("\n".join(rows))
    out = packed(tmp_path / "out", tmp_path / "set", side=60)
    data, folder = load_data(str(out), 32, "crop"), load_images(tmp_path / "set", 32, "crop")
    assert data.annotation and folder.annotation
    np.testing.assert_array_equal(data.annotation.landmarks, folder.annotation.landmarks)
    np.testing.assert_array_equal(data.annotation.test, folder.annotation.test)
    np.testing.assert_array_equal(data.annotation.pixels, folder.annotation.pixels)
    difference = np.abs(np.asarray(data.images[:], int) - np.asarray(folder.images, int))
    assert difference.mean() < 2
    with tarfile.open(out / "0000.tar") as archive:
        picture = archive.extractfile("0.jpg")
        assert picture and Image.open(picture).size == (90, 60)


def test_videos_become_frames_that_name_their_video(tmp_path: Path) -> None:
    for name, count in (("a.mp4", 9), ("more/b.c.mp4", 3)):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(tmp_path / "clips" / name, Fraction(25)) as writer:
            for frame in figure_clip(count, count, 64)[0]:
                writer.write(frame)
    Image.fromarray(figure_clip(1, 9, 64)[0][0]).save(tmp_path / "clips" / "c.png")
    out = packed(tmp_path / "out", tmp_path / "clips", frames=5, pictures=8)
    data = load_data(str(out), 64, "stretch")
    assert data.names == ["c.png", *(f"a.mp4#{n}" for n in range(5)), *(f"more/b.c.mp4#{n}" for n in range(3))]
    assert [name for name in names_in(out / "0000.tar") if name.endswith("jpg")] == [
        f"a_mp4/{n:05}.jpg" for n in range(5)
    ]
    assert len(names_in(out / "0001.tar")) == 6
    folder = load_images(tmp_path / "clips", 64, "stretch", videos=True)
    first = np.asarray(folder.images[folder.names.index("more/b.c.mp4#0")], int)
    assert np.abs(first - data.images[6]).mean() < 2


def test_several_sources_are_folders_of_the_set(animals: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", Fraction(25)) as writer:
        writer.write(figure_clip(1, 0, 64)[0][0])
    out = packed(tmp_path / "out", animals / "dog", animals / "cat", tmp_path / "v.mp4")
    names = load_data(str(out), 32, "stretch").names
    assert {name.split("/")[0] for name in names} == {"cat", "dog", "v.mp4#0"} and len(names) == 25
    with pytest.raises(UsageError, match="twice"):
        packed(tmp_path / "other", animals / "dog", animals / "dog")


def test_files_whose_keys_would_be_one_get_numbers(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a_b.png", "a.b.png"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    out = packed(tmp_path / "out", tmp_path)
    assert load_data(str(out), 8, "stretch").names == sorted(["a.png", "a.bmp", "a_b.png", "a.b.png"])
    assert len(set(names_in(out / "0000.tar"))) == 8


def test_webdataset_reads_what_is_packed(animals: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = packed(tmp_path / "out", animals, pictures=10)
    found = list(webdataset.WebDataset(f"{out}/{{0000..0002}}.tar", shardshuffle=False).decode("rgb8"))
    folder = load_images(animals, 48, "stretch")
    assert [sample["json"]["autolink"]["name"] for sample in found] == folder.names
    assert [sample["cls"] for sample in found] == [int(name.startswith("dog")) for name in folder.names]
    for sample, image in zip(found, folder.images[:], strict=True):
        np.testing.assert_array_equal(sample["png"], image)


def foreign(path: Path, extra: dict[str, bytes] | None = None) -> Path:
    """A tar as others write it: no index, no JSON of ours."""
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for n in range(6):
            file = io.BytesIO()
            Image.new("RGB", (30 + n, 20), (40 * n, 0, 0)).save(file, "PNG")
            add(f"x/{n:03}.seg.png", b"no picture")
            add(f"x/{n:03}.png", file.getvalue())
            add(f"x/{n:03}.cls", str(n % 2).encode())
            add(f"x/{n:03}.json", b'{"name": 5, "caption": "x"}')
        for name, content in (extra or {}).items():
            add(name, content)
    return path


def test_shards_of_others_are_read_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tar = foreign(tmp_path / "a.tar", {"x/bad.png": b"no picture"})
    data = load_shards(str(tar), 8, "stretch", tmp_path / "cache")
    assert data.names == [f"{n % 2}/x/{n:03}.png" for n in range(6)] and data.annotation is None
    assert [image[0, 0, 0] for image in data.images[:]] == [40 * n for n in range(6)]
    assert "1 pictures cannot be read and were skipped, such as x/bad.png" in caplog.text
    assert shard_names(str(tar)) == data.names
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.tar"]
    with monkeypatch.context() as patch:
        patch.setattr("autolink.data.shards.scan", lambda tar: pytest.fail("read through again"))
        assert load_shards(str(tar), 8, "stretch", tmp_path / "cache").names == data.names
    foreign(tar, {"x/new.png": (tmp_path / "a.tar").read_bytes()[:0]})
    assert len(load_shards(str(tar), 8, "stretch", tmp_path / "cache")) == 6


@pytest.mark.parametrize("spoil", ["missing", "damaged", "another's"])
def test_without_its_index_a_shard_is_read_through(spoil: str, pictures: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    index = index_file(out / "0001.tar")
    if spoil == "missing":
        index.unlink()
    elif spoil == "damaged":
        index.write_bytes(index.read_bytes()[:-300])
    else:
        index.write_bytes(index_file(out / "0003.tar").read_bytes())
    assert_same(load_data(str(out), 32, "stretch"), load_images(pictures, 32, "stretch"))


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_packing_goes_on_to_the_same_shards(every: int, pictures: Path, shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"

    def work(folder: Path) -> None:
        packed(folder / "out", pictures, pictures=7)

    for _ in crashes(work, folder, lambda folder: folder.mkdir(), every):
        clear_leftovers.cache_clear()
        work(folder)
        for path in shards.glob("*.tar"):
            assert (folder / "out" / path.name).read_bytes() == path.read_bytes()
        assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(
            path.name for path in shards.iterdir()
        )


def test_what_is_packed_is_not_packed_again(
    pictures: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    (out / "0002.tar").unlink()
    with pytest.raises(UserError, match="holds 3 of its 4 shards; run autolink pack again"):
        check_data(str(out))
    done: list[Path] = []
    write_shard = pack.write_shard

    def noted(path: Path, *rest: Any) -> None:
        done.append(path)
        write_shard(path, *rest)

    monkeypatch.setattr(pack, "write_shard", noted)
    packed(out, pictures, pictures=7)
    assert done == [out / "0002.tar"]
    assert "other options" in fails(2, lambda: packed(out, pictures, pictures=8))
    assert "holds files that are no shards" in fails(2, lambda: packed(pictures, pictures))


def test_what_cannot_be_read_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    for n in range(3):
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "set" / f"{n}.png")
    (tmp_path / "set" / "3.png").write_bytes(b"none")
    (tmp_path / "set" / "4.mp4").write_bytes(b"none")
    for _ in range(2):
        out = packed(tmp_path / "out", tmp_path / "set")
        said = capsys.readouterr()
        assert "3 pictures in 1 shards; 2 files cannot be read" in said.out
        assert "skipped 3.png: " in said.err and "skipped 4.mp4: " in said.err
    assert (out / "0000.skipped.txt").read_text().startswith("3.png: ")
    for n in range(3):
        (tmp_path / "set" / f"{n}.png").unlink()
    assert "none of the 2 files can be read; the first, 3.png" in fails(
        1, lambda: packed(tmp_path / "none", tmp_path / "set")
    )


def test_wrong_use_is_told(shards: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    def said(code: int, data: str) -> str:
        return fails(code, lambda: (check_data(data), load_data(data, 8, "stretch")))  # type: ignore[func-returns-value]

    assert "0004.tar does not exist, nor do 5 others" in said(2, f"{shards}/{{0000..0009}}.tar")
    assert "runs backwards; write {1..3}" in said(2, f"{shards}/{{3..1}}.tar")
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    assert "a.tar is no uncompressed tar" in said(1, str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "b.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    assert "b.tar is no uncompressed tar" in said(1, str(tmp_path / "b.tar"))
    tarfile.open(tmp_path / "c.tar", "w").close()
    assert "none of the 1 shards" in said(1, str(tmp_path / "c.tar"))
    hostile = json.dumps({"autolink": {"name": "a", "width": 8, "height": "x"}}).encode()
    foreign(tmp_path / "d.tar", {"y.png": b"", "y.json": hostile})
    assert "y.json is not what autolink pack writes" in said(1, str(tmp_path / "d.tar"))
    assert "--frames must be" in fails(2, lambda: packed(tmp_path / "out", shards, frames=0))
    assert "--side" in fails(2, lambda: packed(tmp_path / "out", shards, side=0))
    assert "does not exist" in fails(2, lambda: packed(tmp_path / "out", tmp_path / "gone"))


def test_a_picture_damaged_later_is_named(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    place = int(read_index(out / "0001.tar", None).offsets[2])
    with (out / "0001.tar").open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * 64)
    data = load_data(str(out), 8, "stretch")
    with pytest.raises(UserError, match=r"0001\.tar: images/09\.png cannot be read: .*; pack it again"):
        data.images[np.arange(20)]


def test_damaged_tars_are_told_and_never_more(shards: Path, tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    content, dice = (shards / "0000.tar").read_bytes(), random.Random(0)

    def read() -> None:
        load_shards(str(tar), 8, "stretch").images[:]

    found = verdicts(read, tar, [damaged(content, dice) for _ in range(40)])
    assert set(found) <= {"read", "told"} and "told" in found


def test_pictures_are_indexed_like_an_array(pictures: Path, shards: Path) -> None:
    images, array = load_data(str(shards), 16, "stretch").images, load_images(pictures, 16, "stretch").images
    rng = np.random.default_rng(0)
    for rows in (3, -1, np.int64(7), slice(None, None, 5), slice(20, 99), np.array([5, 5, -2]), rng.random(24) < 0.5,
                 np.array([], np.int64), [1, 2]):  # fmt: skip
        np.testing.assert_array_equal(images[rows], array[rows])
    with pytest.raises(IndexError):
        images[24]


def test_what_is_expected_is_decoded_meanwhile_and_once(
    pictures: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, array = load_data(str(shards), 16, "stretch").images, load_images(pictures, 16, "stretch").images
    assert isinstance(images, ShardPictures)
    decoded, done = list[int](), threading.Event()
    one = ShardPictures.decoded

    def counted(self: ShardPictures, row: int) -> np.ndarray:
        decoded.append(row)
        if len(decoded) == 4:
            done.set()
        return one(self, row)

    monkeypatch.setattr(ShardPictures, "decoded", counted)
    rows = np.array([9, 3, 3, 20])
    expect(images, rows)
    assert done.wait(10)
    np.testing.assert_array_equal(images[rows], array[rows])
    assert sorted(decoded) == [3, 3, 9, 20]
    decoded.clear()
    done.clear()
    expect(images, rows)
    assert done.wait(10)  # or it would go on decoding below
    np.testing.assert_array_equal(images[rows[:2]], array[rows[:2]])  # others than expected
    region = CroppedPictures(images, 3, 5, 8)
    decoded.clear()
    done.clear()
    expect(region, rows)
    assert done.wait(10)
    np.testing.assert_array_equal(region[rows], array[rows, 5:13, 3:11])
    assert sorted(decoded) == [3, 3, 9, 20]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors")


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("batches", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_stage_one_learns_the_same_from_shards_also_when_resumed(
    batches: str, pictures: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = os.path.relpath(shards / "{0000..0003}.tar")
    options = [*TINY, "--gradient-accumulation-steps", batches, "--out"]
    train.run(["--data", str(pictures), *options, str(tmp_path / "folder")])
    train.run(["--data", pattern, *options, str(tmp_path / "whole")])
    one_step, hits = train.Trainer.train_step, list[bool]()
    taken = ShardPictures.taken

    def interrupted(self: train.Trainer) -> torch.Tensor:
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return one_step(self)

    def noted(self: ShardPictures, rows: np.ndarray) -> object:
        found = taken(self, rows)
        hits.append(found is not None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "train_step", interrupted)
        with pytest.raises(SystemExit, match="143"):
            train.run(["--data", pattern, *options, str(tmp_path / "broken")])
    monkeypatch.setattr(ShardPictures, "taken", noted)
    monkeypatch.chdir(tmp_path)
    train.run(["--resume", "--out", str(tmp_path / "broken")])
    assert same(tmp_path / "folder", tmp_path / "whole") and same(tmp_path / "whole", tmp_path / "broken")
    assert hits.count(True) >= 2 * int(batches) - 1  # all batches but the first were decoded ahead


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_gan_learns_the_same_from_shards(animals: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = packed(tmp_path / "shards", animals)
    options = [*TINY_GAN, "--stage-one", str(tiny_checkpoint), "--out"]
    train_gan.run(["--data", str(animals), *options, str(tmp_path / "folder")])
    train_gan.run(["--data", str(out), *options, str(tmp_path / "whole")])
    assert same(tmp_path / "folder", tmp_path / "whole")
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["model"]["classes"] == ["cat", "dog"]


@pytest.mark.slow
def test_two_processes_learn_the_same_from_shards_also_when_resumed(
    pictures: Path, shards: Path, tmp_path: Path
) -> None:
    """Stopped half-way by SIGTERM to one of them, on gloo."""
    script = stopped_by_one(tmp_path)

    def told(*arguments: str) -> str:
        done = launched(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    training = str(ROOT / "train_autolink.py")
    for name, data in (("folder", pictures), ("whole", shards)):
        told(training, "--data", str(data), *TINY, "--out", str(tmp_path / name))
    stopped = told(str(script), "--data", str(shards), *TINY, "--out", str(tmp_path / "broken"))
    assert stopped.count("code 143") == 2
    told(training, "--resume", "--out", str(tmp_path / "broken"))
    assert same(tmp_path / "folder", tmp_path / "whole") and same(tmp_path / "whole", tmp_path / "broken")
