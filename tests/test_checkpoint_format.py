"""Folders of every format load, newer ones are refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autolink import AutoLink, Gan, PoseTransfer, __version__
from autolink.checkpoints import BUNDLED
from autolink.errors import UserError
from autolink.generation.generator import Generator
from autolink.pretrained import FORMAT

EARLIER = {"embedding.": "name.", "mapping.": "map.", "constant": "begin", "edge_encoder.": "read."}
"""What the GAN's tensors were called in format 0."""


def change(folder: Path, **values: object) -> None:
    """Set entries of a folder's config.json; None removes one."""
    path = folder / "config.json"
    changed = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))


def copied(folder: Path, to: Path) -> Path:
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (to / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (to / path.relative_to(folder)).write_bytes(path.read_bytes())
    return to


def test_what_is_written_says_its_format(tiny_gan: Path, tmp_path: Path) -> None:
    Gan.from_folder(tiny_gan).save_pretrained(tmp_path / "again")
    for folder in (tiny_gan, tmp_path / "again", tmp_path / "again" / "stage_one"):
        assert json.loads((folder / "config.json").read_text())["format_version"] == FORMAT == 1


def test_a_gan_of_format_0_is_migrated(tiny_gan: Path, tmp_path: Path) -> None:
    """As 0.1 wrote it: no format_version, other names; a run folder's tensors go through load_state_dict alone."""
    folder = copied(tiny_gan, tmp_path / "old")
    held = load_file(folder / "model.safetensors")
    old = {f"{then}{name.removeprefix(now)}": held[name] for name in held for now, then in EARLIER.items()
           if name.startswith(now)}  # fmt: skip
    assert {"begin", "map.0.weight", "name.weight"} <= old.keys()
    kept = {name: value for name, value in held.items() if not name.startswith(tuple(EARLIER))}
    save_file(old | kept, folder / "model.safetensors")
    for part in (folder, folder / "stage_one"):
        change(part, format_version=None)
    migrated, resumed = Gan.from_folder(folder).generator, Generator(Gan.from_folder(folder).config)
    resumed.load_state_dict(old | kept)
    for generator in (migrated, resumed):
        assert generator.state_dict().keys() == held.keys()
        assert all(torch.equal(generator.state_dict()[name], value) for name, value in held.items())


def test_products_of_noise_become_its_covariance(tiny_gan: Path, tmp_path: Path) -> None:
    """As the first GANs with an encoder were written, in folders of checkpoints and of runs."""
    folder = copied(tiny_gan, tmp_path / "old")
    held = load_file(folder / "model.safetensors")
    mean, covariance = held["encoder.mean"], held.pop("encoder.covariance")
    assert mean.abs().min() > 0.1
    held["encoder.product"] = covariance + mean[:, :, None] * mean[:, None]
    save_file(held, folder / "model.safetensors")
    migrated, resumed = Gan.from_folder(folder).generator, Generator(Gan.from_folder(folder).config)
    resumed.load_state_dict(held)
    for generator in (migrated, resumed):
        assert generator.encoder
        torch.testing.assert_close(generator.encoder.covariance, covariance)


def test_a_folder_without_a_format_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(tiny_checkpoint, tmp_path / "old")
    change(folder, format_version=None)
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    now, old = (AutoLink.from_folder(path).detect(pictures) for path in (tiny_checkpoint, folder))
    torch.testing.assert_close(old, now, rtol=0, atol=0)


@pytest.mark.parametrize("part", ["", "stage_one", "children/mouth", "stage_one/children/mouth"])
def test_a_newer_format_is_refused_in_one_sentence(part: str, tmp_path: Path) -> None:
    folder = copied(BUNDLED / "faces-transfer", tmp_path / "newer")
    change(folder / part, format_version=FORMAT + 1, something_new=[1])
    with pytest.raises(UserError) as raised:
        PoseTransfer.from_pretrained(folder)
    path = folder / part / "config.json"
    assert str(raised.value) == (
        f"{path} is in checkpoint format 2, AutoLink {__version__} reads formats up to 1; install a newer one with pip "
        "install --upgrade autolink-keypoints"
    )


def test_a_newer_kind_of_model_is_told_as_newer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(tiny_checkpoint, tmp_path / "newer")
    change(folder, format_version=FORMAT + 1, model_type="unheard of")
    with pytest.raises(UserError, match="checkpoint format 2"):
        AutoLink.from_pretrained(folder)


@pytest.mark.parametrize("version", [-1, 1.0, "1", True, [1]])
def test_a_format_that_is_no_number_is_damage(version: object, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(tiny_checkpoint, tmp_path / "damaged")
    change(folder, format_version=version)
    with pytest.raises(UserError, match=r"config\.json is damaged: format_version is .* whole number"):
        AutoLink.from_pretrained(folder)


@pytest.mark.parametrize("folder", sorted(path.parent for path in BUNDLED.rglob("config.json")), ids=str)
def test_bundled_folders_are_of_a_known_format(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text()).get("format_version", 0) in range(FORMAT + 1)
