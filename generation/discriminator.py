"""The critic that makes painted parts sharp: is a patch real, given the edge map it must follow?"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autolink.layers import channels_last, initialise


class PatchDiscriminator(nn.Module):
    """Picture and edge map -> a logit a patch, above zero for real: (B, 4, H, W) -> (B, 1, H/8, W/8)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise((4, *widths)):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))
        initialise(self)
        channels_last(self)

    def forward(self, images: Tensor, edges: Tensor) -> Tensor:
        """As said above: (B, 3, H, W), (B, 1, H, W)."""
        return self.layers(torch.cat([images, edges], 1)).float()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of GANs (Goodfellow et al., 2014)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of real and generated patches."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gradient_penalty(discriminator: PatchDiscriminator, images: Tensor, edges: Tensor) -> Tensor:
    """R1 (Mescheder et al., 2018): half the squared gradient of the logits at real pictures, a mean over pictures."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images, edges).sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2, 3)).mean()
