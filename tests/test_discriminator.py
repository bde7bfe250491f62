import pytest
import torch
from autolink.generation.discriminator import PatchDiscriminator, discriminator_loss, generator_loss, gradient_penalty


def test_a_logit_a_patch() -> None:
    assert PatchDiscriminator(4)(torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)).shape == (2, 1, 4, 4)


def test_losses_against_the_log_of_probabilities() -> None:
    real, fake = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    wanted = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(discriminator_loss(real, fake), wanted)
    torch.testing.assert_close(generator_loss(fake), -fake.sigmoid().log().mean())


def test_the_penalty_against_finite_differences() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4).double()
    discriminator.forward = lambda x, e: discriminator.layers(torch.cat([x, e], 1))  # type: ignore[method-assign]
    images, edges = torch.rand(2, 3, 8, 8, dtype=torch.double), torch.rand(2, 1, 8, 8, dtype=torch.double)
    total = 0.0
    step = 1e-6
    for index in range(images.numel()):
        moved = images.flatten().clone()
        moved[index] += step
        change = discriminator(moved.view_as(images), edges).sum() - discriminator(images, edges).sum()
        total += (change.item() / step) ** 2
    assert gradient_penalty(discriminator, images, edges).item() == pytest.approx(0.5 * total / 2, rel=1e-3)
