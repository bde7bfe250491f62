"""Principal directions of what a GAN's pictures can look like: what varies most among its styles comes first."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.generation.gan import Gan

DIRECTIONS = 5
"""How many are kept."""

SWEPT = 1024
"""Styles whose principal directions are found."""


def style_directions(gan: Gan) -> Tensor:
    """(DIRECTIONS, latent), each as long as the styles' deviation along it, each class about its own mean."""
    C = len(gan.config.classes)
    styles = gan.appearances(range(SWEPT), seed=0).cpu().numpy().astype(np.float64)
    for n in range(C):
        styles[n::C] -= styles[n::C].mean(0)
    return torch.from_numpy(principal(styles)).float().to(gan.device)


def principal(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first principal directions of (N, D), each as long as the deviation along it: (DIRECTIONS, D).

    Where there are fewer, the rest is zero. Of a direction and its opposite, that whose largest part is above zero.
    """
    centred = values.astype(np.float64) - values.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    scaled: NDArray[np.float64] = directions[:DIRECTIONS] * (lengths[:DIRECTIONS, None] / np.sqrt(len(values)))
    largest = np.take_along_axis(scaled, np.abs(scaled).argmax(1)[:, None], 1)
    flat = np.zeros((DIRECTIONS, values.shape[1]))
    flat[: len(scaled)] = scaled * np.where(largest < 0, -1, 1)
    return flat
