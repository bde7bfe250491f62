import colorsys

import numpy as np
import pytest
import torch

from autolink.relight import LIMITS, draw_lights, local_contrast, relit


def one_light(**changes: float) -> torch.Tensor:
    """A light that changes by these amounts, in `relit`'s own units."""
    names = ("brightness", "contrast", "saturation", "hue")
    return torch.tensor([[changes.get(name, 0.0) / limit for name, limit in zip(names, LIMITS, strict=True)]])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)) - 0.5


def test_no_change_changes_nothing(images: torch.Tensor) -> None:
    torch.testing.assert_close(relit(images, draw_lights(1, 0.0, torch.Generator())), images)


def test_each_change_does_what_its_name_says(images: torch.Tensor) -> None:
    mean = images.mean()
    torch.testing.assert_close(relit(images, one_light(brightness=0.2)), images + 0.2)
    torch.testing.assert_close(relit(images, one_light(contrast=0.4)), mean + 1.4 * (images - mean))
    grey = relit(images, one_light(saturation=-1.0))
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand(-1, 3, -1, -1))


def test_hue_turns_about_greys_and_keeps_saturation(images: torch.Tensor) -> None:
    turned = relit(images, one_light(hue=2 * np.pi / 3))  # a third of a turn: red becomes green
    torch.testing.assert_close(turned, images[:, [2, 0, 1]])
    red = torch.full((1, 3, 1, 1), -0.5)
    red[:, 0] = 0.5
    green = relit(red, one_light(hue=2 * np.pi / 3)).flatten().tolist()
    assert colorsys.rgb_to_hsv(*green)[0] == pytest.approx(1 / 3)


def test_results_are_pictures_and_lights_are_each_pictures_own() -> None:
    images = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    lights = draw_lights(8, 1.0, torch.Generator().manual_seed(2))
    assert lights.shape == (8, 4) and lights.abs().max() <= 1 and lights.std(0).min() > 0.2
    changed = relit(images, lights)
    assert changed.abs().max() <= 1
    torch.testing.assert_close(changed[3:4], relit(images[3:4], lights[3:4]))


def test_local_contrast_is_the_same_in_any_light_and_of_any_fur() -> None:
    dice = torch.Generator().manual_seed(4)
    images = 0.2 * torch.randn(2, 3, 48, 48, generator=dice)
    seen = local_contrast(images)
    assert seen.shape == images.shape and seen.abs().max() < 1 and 0.2 < seen.std() < 0.5
    torch.testing.assert_close(local_contrast(images - 0.4), seen, rtol=0, atol=1e-4)
    torch.testing.assert_close(local_contrast(-images), -seen)
    assert (local_contrast(2 * images) - seen).abs().mean() < 0.2 * seen.abs().mean()  # but for what is faint
    assert local_contrast(torch.full((1, 3, 16, 16), 0.7)).abs().max() < 1e-5
    assert local_contrast(1e-3 * images).abs().max() < 0.05
