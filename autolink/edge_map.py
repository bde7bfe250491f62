"""The soft edge map: every pair of keypoints is an edge, drawn as strongly as the graph's weight says."""

import math
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIXELS_AT_ONCE = 1 << 17
"""Pixels per pass over the edges on the CPU: the few buffers of that size stay in the second-level cache."""


def edge_pairs(keypoints: int, device: torch.device | None = None) -> Tensor:
    """The pairs i < j of K keypoints in the order of the edge weights: (2, E), E = K (K - 1) / 2."""
    return torch.triu_indices(keypoints, keypoints, 1, device=device)


def edge_map(keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
    """Draw the graph: the maximum over edges of w_e exp(-d_e(p)^2 / thickness) at every pixel p.

    Equation 2 and 3 of AutoLink (He, Wandt, Rhodin, 2022), computed as
    exp(-min_e(d_e^2 - thickness log w_e) / thickness): one exponential a pixel instead of one an edge, and only the
    winning edge of a pixel receives gradient, so memory is O(pixels) whatever the number of edges.

    Args:
        keypoints: (B, K, 2), (x, y) in [-1, 1] with pixel centres at the ends; may lie outside the image.
        weights: (E,), not negative, one for each pair i < j in the order of `edge_pairs`.
        size: side of the square map in pixels, at least 2.
        thickness: squared width of an edge in units of the [-1, 1] plane, above zero.

    Returns:
        (B, 1, size, size), values in [0, max(weights)]; differentiable in keypoints and weights.

    Raises:
        ValueError: a shape, the size or the thickness is not as said above.
    """
    if keypoints.ndim != 3 or keypoints.shape[2] != 2 or keypoints.shape[1] < 2:
        raise ValueError(f"keypoints must be (B, K, 2) with K >= 2, got {tuple(keypoints.shape)}")
    K = keypoints.shape[1]
    if weights.shape != (K * (K - 1) // 2,):
        raise ValueError(f"{K} keypoints have {K * (K - 1) // 2} edges, got weights of shape {tuple(weights.shape)}")
    if size < 2:
        raise ValueError(f"size must be at least 2 pixels, got {size}")
    if not 0 < thickness < math.inf:
        raise ValueError(f"thickness must be above zero and finite, got {thickness}")
    dtype = torch.promote_types(torch.promote_types(keypoints.dtype, weights.dtype), torch.float32)
    return _EdgeMap.apply(keypoints.to(dtype), weights.to(dtype), size, thickness)


class _EdgeMap(torch.autograd.Function):
    """Forward keeps each pixel's winning edge; backward differentiates that edge's distance in closed form."""

    @staticmethod
    def forward(ctx: Any, keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
        frames = _edge_frames(keypoints)
        cost = -thickness * weights.log()
        nearest_edge = _nearest_edge
        if keypoints.is_cuda and find_spec("triton"):
            from autolink.edge_map_cuda import nearest_edge
        best, winner = nearest_edge(frames, cost, size)
        ctx.save_for_backward(keypoints, weights, winner)
        ctx.size, ctx.thickness = size, thickness
        return best.div_(-thickness).exp_().view(-1, 1, size, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        keypoints, weights, winner = ctx.saved_tensors
        B, K, _ = keypoints.shape
        E = len(weights)
        frames = _edge_frames(keypoints)
        ux, uy, along0, across0, length = (table.gather(1, winner.long()) for table in frames.unbind(2))
        y, x = _pixel_coordinates(ctx.size, keypoints)
        along = ux * x + uy * y - along0
        across = ux * y - uy * x - across0
        inside = along.clamp(min=0).minimum(length)
        beyond = along - inside
        soft = torch.exp((across.square() + beyond.square()) / -ctx.thickness).mul_(gradient.reshape(B, -1))

        # The nearest point of the edge is a + t (b - a). Moving it by v changes d^2 by -2 r.v, with r the vector from
        # it to the pixel; a carries (1 - t) of the move and b carries t. r is (beyond, across) in the edge's frame.
        t = torch.where(length > 0, inside / length.clamp(min=torch.finfo(length.dtype).tiny), 0.5)
        along_pull, across_pull = soft * beyond, soft * across
        sums = [soft, along_pull, across_pull, along_pull * t, across_pull * t]
        winner = winner.long()
        soft, along_all, across_all, along_b, across_b = (
            value.new_zeros(B, E).scatter_add_(1, winner, value) for value in sums
        )
        ux, uy = frames[..., 0], frames[..., 1]
        scale = 2 * weights / ctx.thickness
        pull_all = _rotate(along_all * scale, across_all * scale, ux, uy)
        pull_b = _rotate(along_b * scale, across_b * scale, ux, uy)
        i, j = edge_pairs(K, keypoints.device)
        keypoints_gradient = torch.zeros_like(keypoints)
        keypoints_gradient.index_add_(1, i, pull_all - pull_b).index_add_(1, j, pull_b)
        return keypoints_gradient, soft.sum(0), None, None


def _edge_frames(keypoints: Tensor) -> Tensor:
    """Each edge's own coordinate frame, (B, E, 5): unit direction u (x, y), a.u, a x u offset, length.

    A pixel p lies `p.u - a.u` along and `u x p - u x a` across the edge; an edge of no length takes any direction.
    """
    i, j = edge_pairs(keypoints.shape[1], keypoints.device)
    a, b = keypoints[:, i], keypoints[:, j]
    difference = b - a
    length = difference.norm(dim=2)
    ux = torch.where(length > 0, difference[..., 0] / length, 1.0)
    uy = torch.where(length > 0, difference[..., 1] / length, 0.0)
    along = a[..., 0] * ux + a[..., 1] * uy
    across = ux * a[..., 1] - uy * a[..., 0]
    return torch.stack([ux, uy, along, across, length], 2)


def _rotate(along: Tensor, across: Tensor, ux: Tensor, uy: Tensor) -> Tensor:
    """From an edge's frame to (x, y): (B, E) each -> (B, E, 2)."""
    return torch.stack([along * ux - across * uy, along * uy + across * ux], -1)


def _pixel_coordinates(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(y, x) of every pixel in [-1, 1], each (size * size,) in row order."""
    axis = torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)
    return axis.repeat_interleave(size), axis.repeat(size)


def _nearest_edge(frames: Tensor, cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Minimum over edges of d_e^2 + cost_e and the edge that attains it, both (B, size * size).

    Position along and across an edge are affine in the pixel, so each is one outer sum of a row and a column; buffers
    are reused for every edge and the batch is cut into pieces that stay in cache.
    """
    B = len(frames)
    best = frames.new_empty(B, size, size)
    smallest = torch.int16 if len(cost) < 2**15 else torch.int32  # half the traffic for up to 256 keypoints
    winner = torch.empty(B, size, size, dtype=smallest, device=frames.device)
    axis = torch.linspace(-1, 1, size, dtype=frames.dtype, device=frames.device)
    step = max(1, PIXELS_AT_ONCE // (size * size))
    for start in range(0, B, step):
        piece = slice(start, start + step)
        _nearest_edge_piece(frames[piece], cost, axis, best[piece], winner[piece])
    return best.view(B, size * size), winner.view(B, size * size)


def _nearest_edge_piece(frames: Tensor, cost: Tensor, axis: Tensor, best: Tensor, winner: Tensor) -> None:
    """`_nearest_edge` for a part of the batch, written into `best` and `winner`, (b, size, size) each."""
    ux, uy, along0, across0, length = (table[..., None, None] for table in frames.unbind(2))
    row, column = axis[:, None], axis[None, :]
    along_x, along_y = ux * column - along0, uy * row
    across_x, across_y = -uy * column - across0, ux * row
    along, inside, distance = (torch.empty_like(best) for _ in range(3))
    nearer = torch.empty_like(best, dtype=torch.bool)
    best.fill_(float("inf"))
    winner.zero_()
    zero = frames.new_zeros(())
    for e, cost_e in enumerate(cost):
        torch.add(along_x[:, e], along_y[:, e], out=along)
        torch.clamp(along, min=zero, max=length[:, e], out=inside)
        along.sub_(inside)
        torch.add(across_x[:, e], across_y[:, e], out=inside)
        torch.addcmul(cost_e, inside, inside, out=distance).addcmul_(along, along)
        torch.lt(distance, best, out=nearer)
        winner.masked_fill_(nearer, e)
        torch.minimum(best, distance, out=best)
