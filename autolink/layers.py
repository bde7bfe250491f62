"""The building blocks of all networks here."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def channels_last(network: nn.Module) -> None:
    """Store weights in the layout that convolutions run fastest on."""
    network.to(memory_format=torch.channels_last)


class PooledConv(nn.Conv2d):
    """A 3x3 convolution followed by the mean of 2x2 pixels, done as one 4x4 convolution of stride 2.

    The same function with the same 3x3 weights, at a quarter of the memory traffic of the two in turn.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c', H/2, W/2)."""
        corners = [F.pad(self.weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)]
        return F.conv2d(x, torch.stack(corners).mean(0), stride=2, padding=1)


def conv(c_in: int, c_out: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the resolution; normalisation after it makes a bias pointless."""
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)


def activation() -> nn.LeakyReLU:
    """The one non-linearity of all networks here."""
    return nn.LeakyReLU(0.2, inplace=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 3x3 skip, both halving the resolution: (B, c, H, W) -> (B, c', H/2, W/2)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(PooledConv(c_in, c_out), nn.BatchNorm2d(c_out))
        self.body = nn.Sequential(
            PooledConv(c_in, c_out), nn.BatchNorm2d(c_out), activation(), conv(c_out, c_out), nn.BatchNorm2d(c_out)
        )
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """As said above."""
        return self.activation(self.body(x) + self.skip(x))


def down_block(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions, the second halving the resolution: (B, c, H, W) -> (B, c', H/2, W/2)."""
    return nn.Sequential(
        conv(c_in, c_out), nn.BatchNorm2d(c_out), activation(),
        PooledConv(c_out, c_out), nn.BatchNorm2d(c_out), activation(),
    )  # fmt: skip


def up_block(c_in: int, c_out: int, convolutions: int) -> nn.Sequential:
    """Bilinear doubling of the resolution and convolutions: (B, c, H, W) -> (B, c', 2H, 2W)."""
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
    for n in range(convolutions):
        layers += [conv(c_out if n else c_in, c_out), nn.BatchNorm2d(c_out), activation()]
    return nn.Sequential(*layers)


def initialise(network: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
