"""Where each pixel of a redrawn picture comes from: the graph proposes motions, a small network mixes them."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autolink.generation.candidates import bone_distances, candidate_motions, move
from autolink.generation.translator_config import TranslatorConfig
from autolink.layers import activation, conv, down_block, initialise


class DenseMotion(NamedTuple):
    """Where each pixel of the result comes from."""

    flow: Tensor
    """(B, m, m, 2), (x, y) in [-1, 1] of the source."""
    visible: Tensor
    """(B, 1, m, m), logits: above zero where the source shows what is wanted."""


class MotionMixer(nn.Module):
    """Which proposal holds where: a small U-Net that sees the source moved by every proposal."""

    grid: Tensor

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        self.proposals = 2 + config.bones + config.keypoints
        widths = config.motion_channels
        self.first = nn.Sequential(conv(5 * self.proposals, widths[0]), nn.BatchNorm2d(widths[0]), activation())
        self.down = nn.ModuleList(down_block(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(blocks(a + b, b) for a, b in pairwise(widths[::-1]))
        self.last = nn.Conv2d(widths[0], self.proposals + 3, 3, padding=1)
        axis = torch.linspace(-1, 1, config.motion_size)
        self.register_buffer("grid", torch.cartesian_prod(axis, axis).flip(1), persistent=False)
        initialise(self)
        nn.init.zeros_(self.last.weight)  # at first the nearest bone decides

    def forward(
        self, source: Tensor, source_keypoints: Tensor, driving: Tensor, pairs: Tensor, edges: Tensor
    ) -> DenseMotion:
        """Mix the proposals.

        Args:
            source: (B, 4, m, m), picture and edge map.
            source_keypoints: (B, K, 2), (x, y) in [-1, 1].
            driving: (B, K, 2), the wanted keypoints.
            pairs: (2, E), the bones.
            edges: (B, 1, m, m), the driving edge map.
        """
        B, m, M = len(source), self.config.motion_size, self.proposals
        places = move(candidate_motions(source_keypoints, driving, pairs), self.grid)  # (B, M, m * m, 2)
        tried = warped(source, places.view(B, M * m, m, 2)).view(B, 4, M, m, m)
        near = -bone_distances(driving, pairs, self.grid).view(B, M - 2, m, m) / self.config.reach
        near = torch.cat([near.new_full((B, 2, m, m), -2.0), near.clamp(min=-8.0)], 1)
        seen = torch.cat([tried[:, :3].flatten(1, 2), tried[:, 3] - edges, near.exp()], 1)
        levels = [self.first(seen)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(torch.cat([doubled(x), levels.pop()], 1))
        out = self.last(x).float()
        share = (out[:, :M] + near).softmax(1)
        flow = (share[..., None] * places.view(B, M, m, m, 2)).sum(1)
        flow = flow + 0.1 * torch.tanh(out[:, M : M + 2]).permute(0, 2, 3, 1)
        return DenseMotion(flow, out[:, M + 2 :])


def blocks(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions at one resolution: (B, c, H, W) -> (B, c', H, W)."""
    return nn.Sequential(
        conv(c_in, c_out), nn.BatchNorm2d(c_out), activation(), conv(c_out, c_out), nn.BatchNorm2d(c_out), activation()
    )


def doubled(x: Tensor) -> Tensor:
    """Bilinear doubling of the resolution."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def warped(x: Tensor, flow: Tensor) -> Tensor:
    """(B, c, H, W) seen through a flow (B, h, w, 2) -> (B, c, h, w)."""
    return F.grid_sample(x.float(), flow, align_corners=True, padding_mode="border")
