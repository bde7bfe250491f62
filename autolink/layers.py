"""The building blocks of all networks here."""

from copy import deepcopy
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: nn.Module) -> None:
    """Store weights in the layout that convolutions run fastest on."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs


class PooledConv(nn.Conv2d):
    """A 3x3 convolution followed by the mean of 2x2 pixels, done as one 4x4 convolution of stride 2.

    The same function with the same 3x3 weights, at a quarter of the memory traffic of the two in turn.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c', H/2, W/2)."""
        return F.conv2d(x, self.kernel(), stride=2, padding=1)

    def kernel(self) -> Tensor:
        """The 4x4 convolution: (c', c, 4, 4)."""
        corners = [F.pad(self.weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)]
        return torch.stack(corners).mean(0)


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
        y: Tensor = self.activation(self.body(x) + self.skip(x))
        return y


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


@torch.no_grad()
def folded(network: Network) -> Network:
    """A copy for inference alone: each convolution has the normalisation behind it in its weights, equal to rounding.

    A detector of small pictures spends most of its time on the number of operations, of which this leaves a third.
    """
    copied = deepcopy(network).eval().requires_grad_(False)
    for part in [part for part in copied.modules() if isinstance(part, nn.Sequential)]:
        for n, (convolution, norm) in enumerate(pairwise(list(part))):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[n], part[n + 1] = _one_convolution(convolution, norm), nn.Identity()
    return copied


def _one_convolution(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution and the normalisation behind it as one, padded by 1 as all of them here are."""
    weight, stride = convolution.weight, 1
    if isinstance(convolution, PooledConv):
        weight, stride = convolution.kernel(), 2
    assert norm.running_mean is not None and norm.running_var is not None and convolution.bias is None
    whole, bias = fuse_conv_bn_weights(
        weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    one = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding=1, device="meta")
    one.weight = nn.Parameter(whole.contiguous(memory_format=torch.channels_last), requires_grad=False)
    one.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return one.eval()


class SumOverProcesses(torch.autograd.Function):
    """A sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Any shape, the same everywhere."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """As said above."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class ProcessBatchNorm2d(nn.BatchNorm2d):
    """`nn.SyncBatchNorm` for CPUs, where torch has none: while training, the batches of all processes are one."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that callers of nn.Module know
        """(B, C, H, W), the same B everywhere -> as much, normalised."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        sums: Tensor = SumOverProcesses.apply(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))  # type: ignore[no-untyped-call]
        mean, square = (sums / dist.get_world_size()).unbind()
        variance = (square - mean.square()).clamp(min=0)
        self._track(mean.detach(), variance.detach(), dist.get_world_size() * x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Let the running statistics follow those of `count` values a channel."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Synchronise batch normalisations within the network over all processes, in place; weights stay."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = ProcessBatchNorm2d  # weights, statistics and whoever holds it stay the same
