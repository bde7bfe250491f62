import colorsys

import numpy as np
import pytest
import torch

from autolink.losses import equivariance_loss
from autolink.relight import LIMITS, MOVES, NEGATIVES, draw_lights, draw_moves, moved, relit


def one_light(**changes: float) -> torch.Tensor:
    """A light that changes by these amounts, in `relit`'s own units."""
    names = ("brightness", "contrast", "saturation", "hue")
    return torch.tensor([[*(changes.get(name, 0.0) / limit for name, limit in zip(names, LIMITS, strict=True)), 1.0]])


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
    assert lights.shape == (8, 5) and lights.abs().max() <= 1 and lights.std(0)[:4].min() > 0.2
    changed = relit(images, lights)
    assert changed.abs().max() <= 1
    torch.testing.assert_close(changed[3:4], relit(images[3:4], lights[3:4]))


def test_negatives_are_a_share_of_all(images: torch.Tensor) -> None:
    light = one_light()
    light[:, 4] = -1
    torch.testing.assert_close(relit(images, light), -images)
    many = draw_lights(4000, 1.0, torch.Generator().manual_seed(3))[:, 4]
    assert (many < 0).float().mean().item() == pytest.approx(NEGATIVES, abs=0.03) and set(many.tolist()) == {-1, 1}


def test_a_moved_dot_is_brought_back_to_where_it_was() -> None:
    """The loss is zero for keypoints that move with the picture, and not for others."""
    size, B = 65, 5
    moves = draw_moves(B, torch.Generator().manual_seed(4))
    axis = torch.linspace(-1, 1, size)
    dot = torch.tensor([0.2, -0.3])
    images = torch.exp(-((axis - dot[0]) ** 2 + (axis[:, None] - dot[1]) ** 2) / 0.01).expand(B, 3, -1, -1)

    def centre(pictures: torch.Tensor) -> torch.Tensor:
        weight = pictures[:, 0] / pictures[:, 0].sum((1, 2), keepdim=True)
        return torch.stack([(weight * axis).sum((1, 2)), (weight * axis[:, None]).sum((1, 2))], 1)[:, None]

    before, after = centre(images), centre(moved(images, moves))
    assert (before - after).norm(dim=2).min() > 0.02
    assert equivariance_loss(before, after, moves) < 0.01
    assert equivariance_loss(before, before, moves) > 0.05
    assert moves[:, :, 2].abs().max() <= MOVES[-1]
