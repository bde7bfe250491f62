"""The critic that makes painted parts sharp: is a patch real, given the edge map it must follow?"""

from itertools import pairwise

import torch
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
        logits: Tensor = self.layers(torch.cat([images, edges], 1))
        return logits.float()
