import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import array, figures_in
from scipy.spatial.distance import cdist

from autolink import AutoLink, ModelConfig
from autolink.data.animals import animal_images
from autolink.eval import gan, gan_measures
from autolink.eval.features import Kernel
from autolink.eval.gan import GanEvalConfig, run
from autolink.eval.gan_measures import (
    another_of_the_class,
    copying,
    distribution,
    expected_errors,
    generate,
    keypoint_distance,
    nearest,
    realism,
    repeated_keypoints,
    right_class,
    structure_errors,
    variety,
)
from autolink.eval.metrics import FeatureDistance
from autolink.generation.gan import Gan


def quick(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds for each class and has tests of its own."""
    patch.setattr(gan_measures, "frechet", lambda real, fake: 1.0)
    patch.setattr(gan_measures, "kernel", lambda *_: Kernel(0.1, 0.01, 4))


@pytest.fixture(scope="module")
def measured(tiny_gan: Path, animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command on tiny data with a judge; its folder."""
    out = tmp_path_factory.mktemp("measured")
    torch.manual_seed(3)
    config = ModelConfig(keypoints=4, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    AutoLink(config).save_pretrained(out / "judge")
    options = GanEvalConfig(
        checkpoint=str(tiny_gan), data=str(animals), judge=str(out / "judge"), features=("efficientnet-lite0",),
        json=out / "gan.json", sheet=out / "gan.png", worst=out / "worst.png",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        patch.setattr(gan, "VARIETY_STRUCTURES", 3)
        run(options)
    return out


def test_the_report_holds_every_figure(measured: Path) -> None:
    result, figures = json.loads((measured / "gan.json").read_text()), figures_in(measured / "gan.json")
    for group, count in (("all", 24), ("cat", 12), ("dog", 12)):
        own = {key.split(".", 1)[1]: figure for key, figure in figures.items() if key.startswith(f"{group}.")}
        for name in ("fid", "kid", "mind", "precision", "recall"):
            figure = own[f"{name}[efficientnet-lite0]"]
            assert figure.value is not None and np.isfinite(figure.value) and figure.count == count
            assert "biased" in figure.name and "flatters" in figure.protocol
            assert bool(figure.interval_95) is (name in ("kid", "mind"))
        for who in ("own", "judge"):
            assert own[f"structure_{who}"].baseline_name == "another real picture"
            assert (own[f"structure_{who}_repeated"].value or 0) > 0
            assert f"structure_{who}_expected" not in own  # too few pictures for a fit
        assert (own["nearest_real"].value or 0) > 0
        assert 0 <= (own["right_class[efficientnet-lite0]"].value or 0) <= 100
        told = {key for key in own if key.startswith("leak_")}
        fitted = {f"leak_{key}" for key in ("lightness", "colour", "keypoints_lightness", "keypoints_colour")}
        assert told == (fitted if group == "all" else set())  # twelve pictures are too few for a fit
    assert (figures["all.variety"].value or 0) > 0 and (figures["all.variety"].baseline or 0) > 0
    held_out = figures["all.structure_judge_held_out"]
    assert held_out.count < 24 and not figures["cat.structure_judge"].headline
    assert result["notes"] and result["versions"]["torch"] and result["conditional"] is True
    assert array(measured / "gan.png").shape == (8 * 130, 9 * 130, 3)
    worst = array(measured / "worst.png")
    assert worst.shape == (4 * 130, 10 * 130, 3)  # twelve a class, ten a row
    assert (worst[130:260, 2 * 130 :] == 255).all() and (worst[:130, 9 * 130 : 9 * 130 + 128] < 255).any()


def test_the_table_says_what_is_biased(
    tiny_gan: Path, animals: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(gan, "VARIETY_STRUCTURES", 2)
    run(GanEvalConfig(str(tiny_gan), str(animals / "dog"), features=("efficientnet-lite0",), count=8))
    said = capsys.readouterr().out
    assert "FID[efficientnet-lite0, biased]" in said and "own stage one, biased" in said
    assert "another stage one" not in said


def test_a_larger_gan_is_measured_at_a_smaller_size(
    tiny_gan: Path, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(gan, "VARIETY_STRUCTURES", 2)
    config = GanEvalConfig(
        str(tiny_gan), str(animals), features=("efficientnet-lite0",), count=8, size=16, json=tmp_path / "a.json",
        sheet=tmp_path / "a.png",
    )  # fmt: skip
    material = gan.read_material(Gan.from_pretrained(tiny_gan), config)
    own = gan.read_material(Gan.from_pretrained(tiny_gan), GanEvalConfig(str(tiny_gan), str(animals), count=8))
    np.testing.assert_array_equal(material.keypoints, own.keypoints)  # found at the GAN's own size
    assert material.real.shape == material.fake.shape == (8, 16, 16, 3) != own.fake.shape
    blocks = own.fake.reshape(8, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(blocks - material.fake).mean() < 4  # of 255: averaged, not picked
    run(config)
    assert "16 px (downsampled from 32)" in figures_in(tmp_path / "a.json")["all.variety"].samples
    assert array(tmp_path / "a.png").shape == (8 * 130, 9 * 130, 3)
    assert "--size 64 is more than the 32 px" in fails(
        2, lambda: run(GanEvalConfig(str(tiny_gan), str(animals), size=64))
    )


def test_realism_by_hand() -> None:
    real = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]])  # third neighbours 3, 2, 2, 3, 99 away
    assert realism(np.array([[4.0], [1.5], [0.0]]), real).tolist() == pytest.approx([3, 4, 3e12], rel=1e-3)


def test_keypoint_distance_by_hand() -> None:
    first, second = np.zeros((1, 2, 2)), np.array([[[0.3, 0.4], [0.0, 0.0]]])
    assert keypoint_distance(first, second).tolist() == [pytest.approx(12.5)]  # half a side is 1; mean of 0.5 and 0


def test_another_picture_is_of_the_class() -> None:
    classes = np.array([0, 1, 0, 1, 0, 2])
    other = another_of_the_class(classes, np.random.default_rng(0))
    np.testing.assert_array_equal(classes[other], classes)
    assert (other != np.arange(6)).tolist() == [True] * 5 + [False]
    assert sorted(other) == list(range(6))


def test_nearest_against_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    found, wanted = nearest(a, b), cdist(a, b)
    np.testing.assert_array_equal(found.rows, wanted.argmin(1))
    np.testing.assert_allclose(found.distances, wanted.min(1), rtol=1e-5)
    own = nearest(b, b, itself=True)
    assert (own.rows != np.arange(7)).all() and own.distances.min() > 0


def test_copies_are_found() -> None:
    rng = np.random.default_rng(0)
    real, fresh = rng.normal(size=(200, 8)), rng.normal(size=(200, 8))
    honest, copied = copying(fresh, real), copying(real[:100] + 1e-3, real)
    assert honest["copies_percent"] < 5 and 0.8 < honest["median_distance_over_reals"] < 1.2
    assert copied["copies_percent"] == 100 and copied["median_distance_over_reals"] < 0.1


def test_distribution_of_itself_and_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_measures, "SUBSETS", 3)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(64, 4)).astype(np.float32)
    same, far = ({k: e.value for k, e in distribution(real, r, 0).items()} for r in (real, real + 3))
    assert same["fid"] == pytest.approx(0, abs=1e-3) and far["fid"] == pytest.approx(36, rel=0.01)
    assert same["precision"] == 1 and far["precision"] < 0.2 and far["kid"] > same["kid"]
    assert same["mind"] == 0 < far["mind"]
    assert distribution(real[:3], real, 0) == {}


class Bright(AutoLink):
    """A stage one whose first keypoint is the brightness' centre of mass, the others at the centre."""

    def keypoints(self, images: torch.Tensor) -> torch.Tensor:
        light = images.mean(1) + 1
        axis = torch.linspace(-1, 1, images.shape[-1])
        x, y = (light.sum(1) * axis).sum(1), (light.sum(2) * axis).sum(1)
        centre = torch.stack([x, y], 1) / light.sum((1, 2))[:, None]
        return torch.stack([centre, *[torch.zeros_like(centre)] * 3], 1)


def test_keypoints_are_brought_back_from_the_shift() -> None:
    judge = Bright(ModelConfig(keypoints=4, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8)))
    spot = np.zeros((3, 32, 32, 3), np.uint8)
    for n, (row, column) in enumerate(((10, 12), (16, 16), (20, 9))):
        spot[n, row - 2 : row + 3, column - 2 : column + 3] = 255
    found = repeated_keypoints(judge, spot, seed=0)[:, 0]
    wanted = judge.keypoints(torch.from_numpy(spot).permute(0, 3, 1, 2) / 127.5 - 1)[:, 0].numpy()
    # light changes the ground's weight, so that only a coarse agreement can be asked; a wrong sign would be 0.1 off
    assert np.abs((found - wanted) / 2).max() < 0.5


def test_structure_error_of_the_pictures_themselves_is_zero(tiny_checkpoint: Path) -> None:
    judge = AutoLink.from_pretrained(tiny_checkpoint)
    real = animal_images(6, 0, 32)[0]
    found = structure_errors(judge, real, real, np.zeros((6, 5, 2)), np.array([0, 1] * 3), seed=0)
    assert found.error.max() == 0 and found.random_real.min() > 0 and found.expected is None


def test_keypoints_are_expected_as_far_as_they_follow() -> None:
    rng = np.random.default_rng(0)
    asked, classes = rng.uniform(-1, 1, (200, 3, 2)), np.arange(200) // 2 % 2
    follows = asked[:, :2] * 0.5 + 0.2 * classes[:, None, None]
    exact = expected_errors(asked, follows, classes)
    assert exact is not None and exact.max() < 1e-6
    noise = rng.normal(size=follows.shape) * 0.02  # mean distance 0.02 * sqrt(pi / 2), half a side being 1
    noisy = expected_errors(asked, follows + noise, classes)
    assert noisy is not None and noisy.mean() == pytest.approx(0.02 * np.sqrt(np.pi / 2) * 50, rel=0.1)
    assert expected_errors(asked[:31], follows[:31], classes[:31]) is None


def test_keypoints_along_few_directions_are_expected_without_rounding_errors() -> None:
    rng = np.random.default_rng(0)
    along = (rng.normal(size=(400, 4)) @ rng.normal(size=(4, 20))).astype(np.float32).reshape(400, 10, 2)
    found = along[:, :3] + rng.normal(size=(400, 3, 2)) * 0.02
    expected = expected_errors(along, found, np.arange(400) // 2 % 2)
    assert expected is not None and expected.mean() == pytest.approx(0.02 * np.sqrt(np.pi / 2) * 50, rel=0.05)


def test_right_class_is_what_a_linear_classifier_tells() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(90) % 3
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    real = corners[classes] + rng.normal(size=(90, 3)) * [0.05, 0.05, 50]  # the nearest one is told by the third alone
    asked = np.roll(classes, 1)
    found = right_class(corners[asked], real, classes, seed=0)
    assert found.real.all()
    assert np.array_equal(found.generated, asked == classes)
    assert right_class(real, real, rng.permutation(classes), seed=0).real.mean() < 0.6


def test_a_class_of_one_picture_is_told_wrong() -> None:
    real = np.random.default_rng(0).normal(size=(20, 4))
    classes = np.array([0] * 19 + [1])
    assert not right_class(real, real, classes, seed=0).real[-1]


def test_variety_of_equal_pictures_is_none(tiny_gan: Path) -> None:
    distance = FeatureDistance(torch.device("cpu"))
    one = torch.rand(1, 1, 3, 32, 32).repeat(1, 3, 1, 1, 1)
    assert variety(distance, one) == pytest.approx(0, abs=1e-6)
    assert variety(distance, torch.rand(1, 3, 3, 32, 32)) > 0.1


def test_generated_pictures_depend_on_the_seed_alone(tiny_gan: Path) -> None:
    model = Gan.from_pretrained(tiny_gan)
    keypoints, classes = np.zeros((3, 5, 2), np.float32), np.array([0, 1, 0])
    first, again, other = (generate(model, keypoints, classes, seed, 1.0, 32) for seed in (0, 0, 1))
    assert first.shape == (3, 32, 32, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"count": 3}, "--count"), ({"truncation": -1.0}, "--truncation"), ({"directions": -1}, "--directions"),
     ({"size": 8}, "--size"),
     ({"sheet": Path("a.jpg")}, "--sheet"),
     ({"worst": Path("a.jpg")}, "--worst"),
     ({"json": Path("no/such/folder.json")}, "does not exist"), ({"data": "missing"}, "does not exist")],
)  # fmt: skip
def test_options_that_cannot_be(options: dict[str, Any], said: str, tiny_gan: Path, fails: Callable[..., str]) -> None:
    assert said in fails(2, lambda: run(GanEvalConfig(**{"checkpoint": str(tiny_gan), **options})))


def test_faults_of_data(
    tiny_gan: Path, animals: Path, tmp_path: Path, fails: Callable[..., str], tiny_checkpoint: Path
) -> None:
    shutil.copytree(animals / "cat", tmp_path / "a" / "cat")
    shutil.copytree(animals / "dog", tmp_path / "a" / "horse")
    names = [fails(1, lambda: run(GanEvalConfig(str(tiny_gan), str(tmp_path / "a"))))]
    assert "horse/, which is no class of this GAN: cat, dog" in names[0]
    (tmp_path / "b").mkdir()
    shutil.copy(next((animals / "cat").iterdir()), tmp_path / "b")
    assert "at least 8" in fails(1, lambda: run(GanEvalConfig(str(tiny_gan), str(tmp_path / "b"))))
    assert "holds a stage one" in fails(1, lambda: run(GanEvalConfig(str(tiny_checkpoint), str(animals))))
