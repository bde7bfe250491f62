from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autolink import AutoLink
from autolink.data import load_data
from autolink.eval.leak_measures import explained
from autolink.generation.erase_colour import EraseConfig, erasing_projection, run, varied_directions
from autolink.inference import detect_all
from autolink.relight import centre_colours
from autolink.train import take_over


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures from dark to light in two classes, the second lighter."""
    folder = tmp_path_factory.mktemp("lit")
    rng = np.random.default_rng(0)
    for name, level in (("cat", 90), ("dog", 150)):
        (folder / name).mkdir()
        for n in range(70):
            pixels = level + rng.uniform(-60, 60) + rng.normal(0, 20, (16, 16, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((32, 32)).save(folder / name / f"{n}.png")
    return folder


def test_nothing_that_correlates_is_left_and_all_else_stays() -> None:
    rng = np.random.default_rng(1)
    concept = rng.normal(size=(500, 2))
    values = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + concept @ rng.normal(size=(2, 6))
    concept, values = concept - concept.mean(0), values - values.mean(0)
    projection = erasing_projection(values, concept)
    left = values - values @ projection
    assert np.abs(left.T @ concept).max() < 1e-9 * np.abs(values.T @ concept).max()
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-9)
    assert np.linalg.matrix_rank(projection, tol=1e-6) == 2
    orthogonal = np.linalg.qr(values.T @ concept)[0]  # erases as well, but regardless of what varies
    assert np.square(values @ projection).sum() < np.square(values @ orthogonal).sum()


def test_colours_that_hardly_vary_are_no_reason_to_erase() -> None:
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    pattern = np.random.default_rng(3).normal(size=(400, 3))
    pattern = np.linalg.qr(pattern - pattern.mean(0))[0]  # of variance 1 and correlated in nothing
    for spread, kept in (((10, 6, 1), 2), ((10, 1, 1), 1), ((10, 9, 8), 3)):
        found = varied_directions(pattern * spread @ axes)
        assert found.shape == (400, kept)
        np.testing.assert_allclose(np.abs(found), np.abs(pattern * spread)[:, :kept], atol=1e-9)
    assert not varied_directions(np.zeros((400, 3))).any()


def test_keypoints_tell_no_colour_after_it(lit: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(EraseConfig(str(tiny_checkpoint), str(lit), tmp_path / "blind"))
    sees, blind = AutoLink.from_pretrained(tiny_checkpoint), AutoLink.from_pretrained(tmp_path / "blind")
    assert blind.config.colour_erased and not sees.config.colour_erased
    data = load_data(str(lit), 32, "stretch")
    classes = np.array([name.startswith("dog") for name in data.names]).astype(np.int64)
    lightness = centre_colours(np.asarray(data.images))[:, :1]
    told = []
    for model in (sees, blind):
        keypoints = detect_all(model, data.images, torch.device("cpu"))
        found = explained(keypoints.reshape(len(keypoints), -1), lightness, classes, 0)
        assert found
        told.append(found.r2)
    assert told[0] > 0.5 and told[1] < 0.1
    before, after = (detect_all(model, data.images, torch.device("cpu")) for model in (sees, blind))
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=0.02)
    strange = torch.full((1, 3, 32, 32), 30.0)
    assert blind.keypoints(strange).abs().max() <= 1
    run(EraseConfig(str(tmp_path / "blind"), str(lit), tmp_path / "again"))
    again = AutoLink.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again.detector.erased, blind.detector.erased)
    take_over(AutoLink(sees.config), blind)  # a training may start from it


def test_bad_input_is_one_sentence(lit: Path, tiny_checkpoint: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((lit / "cat").iterdir())[:20]:
        (few / path.name).write_bytes(path.read_bytes())
    said = fails(1, lambda: run(EraseConfig(str(tiny_checkpoint), str(few), tmp_path / "out")))
    assert "--data" in said and "at least" in said and not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    assert "is a file" in fails(2, lambda: run(EraseConfig(str(tiny_checkpoint), str(lit), tmp_path / "file")))
    assert "holds files" in fails(2, lambda: run(EraseConfig(str(tiny_checkpoint), str(lit), few)))
