"""Stage one's objective."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autolink.model import AutoLinkOutput


def feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Equation 5 of the paper, sum_l |Γ_l(I') - Γ_l(I)|_1: features of a feature network, a mean within each layer."""
    return torch.stack([F.l1_loss(f.float(), w.float()) for f, w in zip(found, wanted, strict=True)]).sum()


def relative_feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Equation 5 with each layer divided by its mean magnitude on the target, a mean over layers.

    For networks whose features differ by orders of magnitude from layer to layer.
    """
    return torch.stack(
        [F.l1_loss(f.float(), w.float()) / w.float().abs().mean() for f, w in zip(found, wanted, strict=True)]
    ).mean()


def reconstruction_loss(
    output: AutoLinkOutput, images: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor], pixel_weight: float
) -> Tensor:
    """Equation 5 of the paper, and L1 of the pixels beside it: images (B, 3, H, W) in [-1, 1] -> a scalar."""
    loss = perceptual(output.reconstruction, images)
    if pixel_weight:
        loss = loss + pixel_weight * F.l1_loss(output.reconstruction, images)
    return loss
