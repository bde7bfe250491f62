"""The encoder of appearances, and what random ones are drawn from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_GAN

from autolink.generation import train_gan
from autolink.generation.appearance import FREE, AppearanceEncoder, divergence
from autolink.generation.gan import Gan
from autolink.generation.losses import appearance_loss
from autolink.generation.projected import ProjectedFeatures
from autolink.trainer import update_average


def features_of(images: torch.Tensor) -> list[torch.Tensor]:
    features: list[torch.Tensor] = ProjectedFeatures(32, images)(images)
    return features


def test_random_appearances_are_distributed_as_those_of_pictures_class_by_class() -> None:
    torch.manual_seed(0)
    encoder = AppearanceEncoder(3, 2)
    normal, classes = torch.randn(20_000, 3), torch.arange(20_000) % 2
    torch.testing.assert_close(encoder.distributed(normal, classes), normal, atol=1e-4, rtol=1e-4)  # at the beginning
    mixing = torch.tensor([[1.0, 0.8, 0.0], [0.0, 0.5, 0.0], [0.3, 0.0, 0.2]])
    for _ in range(2000):
        encoder.observe(torch.randn(16, 3) @ mixing + 1, torch.zeros(16, dtype=torch.long))
    drawn = encoder.distributed(normal, classes)
    assert (drawn[classes == 0].mean(0) - 1).abs().max() < 0.1
    assert (drawn[classes == 0].T.cov() - mixing.T @ mixing).abs().max() < 0.15
    torch.testing.assert_close(drawn[classes == 1], normal[classes == 1], atol=1e-4, rtol=1e-4)  # of no picture yet


def test_noise_that_never_varied_can_still_be_drawn() -> None:
    encoder = AppearanceEncoder(3, 1)
    encoder.mean.fill_(2)
    encoder.covariance.zero_()
    drawn = encoder.distributed(torch.randn(50, 3), torch.zeros(50, dtype=torch.long))
    assert (drawn - 2).abs().max() < 0.2


def test_an_average_of_weights_does_not_take_a_wandering_mean_for_variety() -> None:
    torch.manual_seed(0)
    encoder, average = (AppearanceEncoder(3, 1) for _ in range(2))
    for step in range(3000):
        wandered = 5 * np.sin(step / 1000)  # as the noise of all pictures does while weights change
        encoder.observe(torch.randn(16, 3) + wandered, torch.zeros(16, dtype=torch.long))
        update_average(average, encoder, 0.998, step)
    drawn = average.distributed(torch.randn(5000, 3), torch.zeros(5000, dtype=torch.long))
    assert drawn.var(0).max() < 1.5 and drawn.var(0).min() > 0.7


def test_the_first_nats_are_free() -> None:
    mean, log_variance = torch.zeros(4, 64), torch.full((4, 64), -2.0)
    kl = 32 * (np.exp(-2) - 1 + 2)
    assert kl < FREE and divergence(mean, log_variance) == 0
    assert divergence(mean + 2, log_variance).item() == pytest.approx(kl + 32 * 4 - FREE, rel=1e-5)


def test_the_loss_asks_for_the_same_fur_not_for_the_same_hairs() -> None:
    torch.manual_seed(0)
    stripes = torch.ones(1, 4, 64, 64)
    stripes[..., ::2] = 3
    shifted, other = stripes.roll(1, 3), stripes + 1
    assert appearance_loss([stripes], [shifted]).item() == pytest.approx(0, abs=1e-6)
    assert appearance_loss([other], [stripes]).item() == pytest.approx(0.5, abs=1e-6)


def test_the_encoder_learns_what_pictures_look_like() -> None:
    """Of two colours, with a generator that shows what it is given, it tells which."""
    torch.manual_seed(0)
    encoder = AppearanceEncoder(2, 1)
    images = torch.rand(64, 3, 32, 32) * 0.2 + torch.linspace(-1, 0.8, 64)[:, None, None, None]
    features = features_of(images)
    optimizer = torch.optim.AdamW(encoder.parameters(), 5e-4)
    for _ in range(100):
        mean, _ = encoder(features)
        loss = (mean[:, 0] - images.mean((1, 2, 3))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02
    mean, log_variance = encoder([feature * 3 for feature in features])  # their scale is that of the data
    torch.testing.assert_close(mean, encoder(features)[0], atol=1e-3, rtol=1e-3)
    assert mean.shape == log_variance.shape == (64, 2)


def test_without_its_weight_there_is_no_encoder(
    fresh_accelerator: None, animals: Path, tiny_checkpoint: Path, tiny_gan: Path, tmp_path: Path
) -> None:
    out = ["--data", str(animals), "--stage-one", str(tiny_checkpoint), "--out", str(tmp_path / "run")]
    train_gan.run([*out, *TINY_GAN, "--appearance-weight", "0", "--start-from", str(tiny_gan), "--steps", "1"])
    gan = Gan.from_pretrained(tmp_path / "run" / "model")
    assert gan.generator.encoder is None and not gan.config.encoder
    assert "appearance_loss" not in (tmp_path / "run" / "metrics.jsonl").read_text()
