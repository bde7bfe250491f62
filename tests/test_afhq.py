"""AFHQ as it is distributed, from the archive to samples of its three classes."""

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_GAN, array
from PIL import Image

from autolink.data import load_data
from autolink.data.animals import animal_images
from autolink.data.folders import read_folders
from autolink.generation import gan_progress, train_gan
from autolink.generation.classes import class_names, classes_of, data_classes, held_out_pictures
from autolink.generation.gan import Gan
from autolink.generation.sample import SampleConfig
from autolink.generation.sample import run as sample

KINDS = ("cat", "dog", "wild")

LAYOUTS = {
    "v1": ("afhq/train/{kind}/flickr_{kind}_{n:06}.jpg", "afhq/val/{kind}/flickr_{kind}_{n:06}.jpg"),
    "v2": ("train/{kind}/flickr_{kind}_{n:06}.png", "test/{kind}/flickr_{kind}_{n:06}.png"),
    "nested": ("data/train/afhq/{kind}/{n}.jpg", "data/val/afhq/{kind}/{n}.jpg"),
}
"""Where training and test pictures lie: https://github.com/clovaai/stargan-v2, and as other projects unpack them."""


def miniature(folder: Path, layout: str, zipped: bool, per_class: int = 6) -> Path:
    """The archive, or what it unpacks to: six training and two test pictures of each class."""
    images = iter(animal_images(len(KINDS) * (per_class + 2), seed=0, size=40)[0])
    for pattern, count in zip(LAYOUTS[layout], (per_class, 2), strict=True):
        for kind in KINDS:
            for n in range(count):
                path = folder / "unpacked" / pattern.format(kind=kind, n=n)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(next(images)).save(path)
    if not zipped:
        return folder / "unpacked"
    with zipfile.ZipFile(folder / "afhq.zip", "w") as archive:
        for path in sorted((folder / "unpacked").rglob("*")):
            archive.write(path, path.relative_to(folder / "unpacked"))
        archive.writestr("__MACOSX/afhq/train/cat/._flickr_cat_000000.jpg", b"no picture")
    return folder / "afhq.zip"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_classes_and_their_own_test_part(layout: str, zipped: bool, tmp_path: Path) -> None:
    path = miniature(tmp_path, layout, zipped)
    assert data_classes(str(path), None) == KINDS
    data = load_data(str(path), 16, "stretch")
    classes, test = classes_of(data.names, KINDS), held_out_pictures(data)
    assert len(data) == 24 and not data.skipped
    for number, kind in enumerate(KINDS):
        of_kind = np.array([f"/{kind}/" in f"/{name}" for name in data.names])
        np.testing.assert_array_equal(classes == number, of_kind)
        assert of_kind[test].sum() == 2
    assert [("test" in name or "val" in name) for name in data.names] == test.tolist()


@pytest.mark.usefixtures("fresh_accelerator")
def test_from_the_archive_to_a_wild_animal(
    tiny_checkpoint: Path, tiny_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of docs/gan.md; it begins with a GAN that knows no wild animals."""
    monkeypatch.setattr(gan_progress, "MEASURED", 6)
    archive = miniature(tmp_path, "v1", zipped=True)
    options = ["--data", str(archive), "--stage-one", str(tiny_checkpoint), "--out", str(tmp_path / "run"), *TINY_GAN]
    train_gan.run([*options, "--start-from", str(tiny_gan)])
    gan = Gan.from_pretrained(tmp_path / "run" / "model")
    assert gan.config.classes == KINDS and set(gan.generator.structure_classes.tolist()) == {0, 1, 2}
    known = Gan.from_pretrained(tiny_gan).generator.embedding.weight
    new = gan.generator.embedding.weight
    assert (new[:2] - known).abs().max() < 0.1 < (new[2] - known).abs().max()  # cat and dog stay
    drawn = tmp_path / "wild.png"
    sample(SampleConfig(str(tmp_path / "run" / "model"), (archive,), 3, 2, class_name="wild", grid=drawn))
    assert array(drawn).shape == (3 * 130, 4 * 130, 3)


def test_a_hundred_thousand_names_are_read_in_seconds() -> None:
    names = [f"afhq/{'val' if n % 20 == 0 else 'train'}/{KINDS[n % 3]}/flickr_{n:06}.jpg" for n in range(100_000)]
    start = time.process_time()
    found = read_folders(names)
    assert class_names(names) == KINDS
    counts = np.bincount(classes_of(names, KINDS))
    assert time.process_time() - start < 5
    assert counts.tolist() == [33334, 33333, 33333] and found.test is not None and found.test.sum() == 5000


def test_very_different_classes_are_told(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fresh_accelerator: None
) -> None:
    images = animal_images(24, seed=0, size=40)[0]
    for n, image in enumerate(images):
        path = tmp_path / "data" / ("wild" if n < 2 else "cat") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    options = ["--data", str(tmp_path / "data"), "--stage-one", str(tiny_checkpoint), "--dry-run", *TINY_GAN]
    train_gan.run([*options, "--out", str(tmp_path / "run")])
    assert "24 pictures of 32 px (22 cat, 2 wild)" in capsys.readouterr().out


@pytest.mark.parametrize("kinds", [("cat",), ("",)])
def test_one_class_of_twenty_pictures_is_enough(
    kinds: tuple[str, ...], tiny_checkpoint: Path, tmp_path: Path, fresh_accelerator: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(gan_progress, "MEASURED", 6)
    for n, image in enumerate(animal_images(20, seed=0, size=40)[0]):
        path = tmp_path / "data" / kinds[0] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    options = ["--data", str(tmp_path / "data"), "--stage-one", str(tiny_checkpoint), *TINY_GAN, "--steps", "2"]
    train_gan.run([*options, "--out", str(tmp_path / "run")])
    assert Gan.from_pretrained(tmp_path / "run" / "model").config.classes == ("all",)
    assert torch.isfinite(Gan.from_pretrained(tmp_path / "run" / "model").generator.constant).all()
