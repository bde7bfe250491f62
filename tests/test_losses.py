"""Each objective against an oracle in plain loops or NumPy."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from autolink.generation.discriminator import PatchDiscriminator
from autolink.generation.losses import (
    cross_entropy_loss,
    difference,
    gradient_penalty,
    hinge_generator_loss,
    hinge_loss,
    non_saturating_loss,
    structure_loss,
    translation_loss,
    variety_loss,
)
from autolink.generation.translator import Translation
from autolink.losses import (
    draw_moves,
    equivariance_loss,
    feature_distance,
    moved,
    reconstruction_loss,
    relative_feature_distance,
)
from autolink.model import AutoLinkOutput


def l1(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.abs(first.numpy().astype(np.float64) - second.numpy().astype(np.float64)).mean())


def distance(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Stands for a perceptual loss."""
    return (images - targets).square().sum()


def features() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    shapes = [(2, 3, 8, 8), (2, 5, 4, 4), (2, 7, 2, 2)]
    return [torch.randn(s) for s in shapes], [torch.randn(s) * 10**n for n, s in enumerate(shapes)]


def test_feature_distances_add_up_the_layers() -> None:
    found, wanted = features()
    expected = [l1(f, w) for f, w in zip(found, wanted, strict=True)]
    assert feature_distance(found, wanted).item() == pytest.approx(sum(expected), rel=1e-5)
    relative = [e / float(np.abs(w.numpy()).mean()) for e, w in zip(expected, wanted, strict=True)]
    assert relative_feature_distance(found, wanted).item() == pytest.approx(sum(relative) / 3, rel=1e-5)


def test_a_layer_counts_alike_at_any_scale() -> None:
    found, wanted = features()
    louder = ([f * s for f, s in zip(found, (1, 100, 1e-3), strict=True)],
              [w * s for w, s in zip(wanted, (1, 100, 1e-3), strict=True)])  # fmt: skip
    torch.testing.assert_close(relative_feature_distance(*louder), relative_feature_distance(found, wanted))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_reconstruction_is_features_and_pixels(weight: float) -> None:
    rebuilt, images = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    output = AutoLinkOutput(rebuilt, torch.zeros(2, 4, 2), torch.zeros(2, 1, 4, 4))
    wanted = float(((rebuilt - images) ** 2).sum()) + weight * l1(rebuilt, images)
    assert reconstruction_loss(output, images, distance, weight).item() == pytest.approx(wanted, rel=1e-5)


def test_a_vignette_leaves_the_corners_out() -> None:
    rebuilt, images = torch.randn(2, 3, 9, 9), torch.randn(2, 3, 9, 9)
    window = [[min(1.0, max(0.0, (0.5 + 0.3 - math.hypot(y, x)) / 0.3)) for x in np.linspace(-1, 1, 9)]
              for y in np.linspace(-1, 1, 9)]  # fmt: skip
    assert window[0][0] == 0 and window[4][4] == window[4][6] == 1 and 0 < window[4][7] < 1
    output = AutoLinkOutput(rebuilt, torch.zeros(2, 4, 2), torch.zeros(2, 1, 9, 9))
    difference = (rebuilt - images).numpy() * np.array(window)
    wanted = float((difference**2).sum()) + 0.5 * float(np.abs(difference).mean())
    assert reconstruction_loss(output, images, distance, 0.5, 0.5).item() == pytest.approx(wanted, rel=1e-5)


def brightest(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 1, 2), where the first channel is brightest."""
    axis = torch.linspace(-1, 1, images.shape[-1])
    weight = images[:, 0].flatten(1).exp().pow(8)
    places = (weight / weight.sum(1, keepdim=True)) @ torch.cartesian_prod(axis, axis).flip(1)
    return places[:, None]


def test_only_keypoints_that_move_with_the_picture_are_equivariant() -> None:
    axis = torch.linspace(-1, 1, 65)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    blob = 2 * torch.exp(-((x - 0.2).square() + (y + 0.1).square()) / 0.02) - 1
    images = blob.expand(16, 3, 65, 65)
    moves = draw_moves(16, torch.Generator().manual_seed(0))
    here, there = brightest(images), brightest(moved(images, moves))
    stays = equivariance_loss(here, here, moves).item()
    assert stays > 0.1 and equivariance_loss(here, there, moves).item() < 0.1 * stays
    one = torch.tensor([[[0.0, -2.0, 0.1], [2.0, 0.0, -0.3]]])  # (1, 0) -> (0.1, 1.7)
    point = torch.tensor([[[1.0, 0.0]]])
    assert equivariance_loss(torch.tensor([[[0.3, 1.6]]]), point, one).item() == pytest.approx(0.15)
    assert not draw_moves(3, torch.Generator(), 0.0).sub(torch.eye(3)[:2]).any()


def test_translation_counts_the_moved_source_too() -> None:
    image, moved, targets = torch.randn(3, 2, 3, 4, 4).unbind()
    unused = torch.zeros(0)
    result = Translation(image, moved, unused, unused, unused, unused)
    wanted = float(((image - targets) ** 2).sum()) + 0.7 * l1(image, targets) + 0.3 * l1(moved, targets)
    assert translation_loss(result, targets, distance, 0.7, 0.3).item() == pytest.approx(wanted, rel=1e-5)


def test_cross_entropy_is_the_log_of_probabilities() -> None:
    real, generated = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    on_real, on_generated = (
        [1 / (1 + math.exp(-v)) for v in logits.flatten().tolist()] for logits in (real, generated)
    )
    wanted = -sum(map(math.log, on_real)) / 36 - sum(math.log(1 - p) for p in on_generated) / 36
    assert cross_entropy_loss(real, generated).item() == pytest.approx(wanted, rel=1e-5)
    fooled = -sum(map(math.log, on_generated)) / 36
    assert non_saturating_loss(generated).item() == pytest.approx(fooled, rel=1e-5)


def test_the_penalty_against_finite_differences() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4).double()

    def plain(images: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        verdict: torch.Tensor = discriminator.layers(torch.cat([images, edges], 1))
        return verdict

    discriminator.forward = plain  # type: ignore[method-assign]
    images, edges = torch.rand(2, 3, 8, 8, dtype=torch.double), torch.rand(2, 1, 8, 8, dtype=torch.double)
    total, step = 0.0, 1e-6
    for index in range(images.numel()):
        moved = images.flatten().clone()
        moved[index] += step
        change = discriminator(moved.view_as(images), edges).sum() - discriminator(images, edges).sum()
        total += (change.item() / step) ** 2
    assert gradient_penalty(discriminator, images, edges).item() == pytest.approx(0.5 * total / 2, rel=1e-3)


def test_hinge_losses_against_a_plain_loop() -> None:
    real, fake, *mismatched = torch.randn(4, 4, 5).unbind()
    on_real = sum(max(0.0, 1 - r) for r in real.flatten().tolist()) / 20
    on_fake = sum(max(0.0, 1 + f) for f in fake.flatten().tolist()) / 20
    on_others = sum(max(0.0, 1 + f) for logits in mismatched for f in logits.flatten().tolist()) / 40
    assert hinge_loss(real, fake, mismatched).item() == pytest.approx(on_real + (on_fake + on_others) / 2, rel=1e-5)
    assert hinge_loss(real, fake, []).item() == pytest.approx(on_real + on_fake, rel=1e-5)
    assert hinge_generator_loss(fake).item() == pytest.approx(-sum(fake.flatten().tolist()) / 20, rel=1e-5)


def test_structure_is_a_mean_of_distances() -> None:
    found, asked = torch.randn(2, 3, 5, 2).unbind()
    wanted = [math.hypot(*(found[b, k] - asked[b, k]).tolist()) for b, k in product(range(3), range(5))]
    assert structure_loss(found, asked).item() == pytest.approx(sum(wanted) / 15, rel=1e-5)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    torch.testing.assert_close(structure_loss(found @ turn + 1, asked @ turn + 1), structure_loss(found, asked))
    moved = asked.clone().requires_grad_()
    structure_loss(moved + 0.1, asked).backward()
    assert moved.grad is not None and (moved.grad > 0).all()  # away from where they are wanted


def naive_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Means over blocks of two pixels, without each picture's own mean."""
    total = []
    for a, b in zip(first, second, strict=True):
        blocks = [
            np.array([[x[:, r : r + 2, c : c + 2].mean((1, 2)) for c in range(0, 32, 2)] for r in range(0, 32, 2)])
            for x in (a, b)
        ]
        total.append(np.abs((blocks[0] - blocks[0].mean()) - (blocks[1] - blocks[1].mean())).mean())
    return float(np.mean(total))


def test_difference_is_a_distance_of_coarse_colours() -> None:
    first, second = torch.rand(2, 2, 3, 32, 32).unbind()
    assert difference(first, second).item() == pytest.approx(naive_difference(first.numpy(), second.numpy()), rel=1e-4)
    assert difference(first, first) == 0
    assert difference(first, first + 0.3).item() == pytest.approx(0, abs=1e-6)  # light alone
    redder = first + torch.tensor([0.6, 0.0, 0.0]).view(3, 1, 1)
    assert difference(first, redder).item() == pytest.approx((0.4 + 0.2 + 0.2) / 3, rel=1e-4)
    checks = torch.ones(2, 3, 32, 32)
    checks[..., ::2] = -1
    assert difference(checks, -checks).item() == pytest.approx(0, abs=1e-6)  # finer than it looks


@pytest.mark.parametrize("share", [0.1, 0.5, 4.0])
def test_variety_asks_for_a_share_of_that_of_real_pictures(share: float) -> None:
    first, real = torch.rand(4, 3, 32, 32) * 0.3, torch.rand(3, 3, 32, 32)
    second = first + torch.rand(4, 3, 32, 32) * 0.1
    between_real = [(real[n].numpy(), real[n - 1].numpy()) for n in range(3)]
    wanted = share * float(np.mean([naive_difference(a[None], b[None]) for a, b in between_real]))
    expected = max(0.0, 1 - naive_difference(first.numpy(), second.numpy()) / wanted)
    assert variety_loss(first, second, real, share).item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_variety_pushes_two_pictures_apart() -> None:
    first, real = torch.rand(2, 3, 32, 32), torch.rand(4, 3, 32, 32)
    second = (first + 1e-3 * torch.rand_like(first)).requires_grad_()
    before = variety_loss(first, second, real, 0.5)
    before.backward()
    assert second.grad is not None
    with torch.no_grad():
        assert variety_loss(first, second - 10 * second.grad, real, 0.5) < before
