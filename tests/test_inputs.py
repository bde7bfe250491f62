from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from autolink import AutoLink, ModelConfig
from autolink.data.figures import figure_images
from autolink.errors import UserError

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> AutoLink:
    torch.manual_seed(0)
    return AutoLink(ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8)))


def test_a_picture_in_any_form_gives_the_same_keypoints(model: AutoLink, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    wanted = model.detect(PICTURE)
    assert wanted.shape == (5, 2) and not wanted.requires_grad and wanted.abs().max() <= 1
    for same in (path, str(path), Image.open(path)):
        torch.testing.assert_close(model.detect(same), wanted)
    together = model.detect([path, PICTURE, Image.fromarray(PICTURE[:, :30])])
    assert together.shape == (3, 5, 2)
    torch.testing.assert_close(together[:2], wanted.expand(2, 5, 2))
    torch.testing.assert_close(model.detect(PICTURE[None].repeat(2, 0)), wanted.expand(2, 5, 2))


def test_a_tensor_of_the_same_picture_agrees(model: AutoLink) -> None:
    picture = figure_images(1, seed=3, size=32)[0]
    tensor = torch.from_numpy(picture).permute(0, 3, 1, 2) / 127.5 - 1
    found = model.eval().detect(tensor)
    assert found.shape == (1, 5, 2) and not found.requires_grad
    torch.testing.assert_close(found[0], model.detect(picture[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_pixels_are_of_each_picture(fit: Literal["stretch", "crop"]) -> None:
    torch.manual_seed(0)
    config = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    model = AutoLink(replace(config, fit=fit))
    small = model.detect(PICTURE)
    scale, start = ([59, 39], [0, 0]) if fit == "stretch" else ([39, 39], [10, 0])
    wanted = (small + 1) / 2 * torch.tensor(scale) + torch.tensor(start)
    torch.testing.assert_close(model.detect(PICTURE, pixels=True), wanted)
    tensor = torch.from_numpy(PICTURE)[None].permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(model.eval().detect(tensor, pixels=True)[0], wanted, atol=1.5, rtol=0)


def test_training_goes_on_as_it_was(model: AutoLink) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.detect(PICTURE)
    assert model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (PICTURE / 255, r"an 8-bit RGB array .* float64 and shape \(40, 60, 3\).*astype"),
        (PICTURE[..., 0], "8-bit RGB array"),
        ([], "give a picture file"),
        (3, "give a picture file.* got int"),
        ("nowhere.jpg", "no picture nowhere.jpg"),
        (Path(__file__), r"test_inputs\.py cannot be read"),
        (torch.rand(3, 8, 8), r"\(B, 3, H, W\); got \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"127\.5"),
        (torch.rand(1, 3, 8, 8), r"as if in \[0, 1\]: use images \* 2 - 1"),
        (torch.rand(1, 3, 8, 8) * 255, r"use images / 127\.5 - 1"),
        (torch.randn(1, 3, 8, 8) * 3, "scale them"),
        (torch.full((1, 3, 8, 8), torch.nan), "nan"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_remedy(model: AutoLink, wrong: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model.detect(wrong)  # type: ignore[arg-type]


def test_a_grey_tensor_is_one(model: AutoLink) -> None:
    assert model.detect(torch.zeros(2, 3, 8, 8)).shape == (2, 5, 2)
