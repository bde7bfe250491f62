"""The edge map's two loops over pixels as Triton kernels for CUDA tensors: one program a tile."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from autolink.edge_map import edge_pairs
from autolink.edge_map_torch import edge_frames

TILE, EDGES = 16, 64
"""Side of a tile in pixels, and edges bounded at a time."""


def nearest_edge(keypoints: Tensor, cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As `edge_map_torch.nearest_edge`."""
    best = keypoints.new_empty(len(keypoints), size, size)
    winner = torch.empty(best.shape, dtype=torch.int32, device=best.device)
    if len(best):
        frames = edge_frames(keypoints).contiguous()
        _nearest_edge_kernel[_grid(winner)](
            frames, cost.contiguous(), _axis(size, frames), best, winner, size, len(cost),
            TILE=TILE, EDGES=EDGES, num_warps=1,
        )  # fmt: skip
    return best, winner


def pulls(keypoints: Tensor, winner: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """As `edge_map_torch.pulls`; tiles add up in any order, so runs may differ in the last digits."""
    K, size = keypoints.shape[1], winner.shape[1]
    first, second = edge_pairs(K, keypoints.device)
    on_keypoints = torch.zeros_like(keypoints, memory_format=torch.contiguous_format)
    on_edges = keypoints.new_zeros(len(first))
    if len(winner):
        frames = edge_frames(keypoints).contiguous()
        _pulls_kernel[_grid(winner)](
            frames, first, second, _axis(size, frames), winner, pull.contiguous(), on_keypoints, on_edges, size,
            len(first), K, TILE=TILE, num_warps=1,
        )  # fmt: skip
    return on_keypoints, on_edges


def _grid(winner: Tensor) -> tuple[int, int]:
    """One program a picture and tile."""
    return len(winner), triton.cdiv(winner.shape[1], TILE) ** 2


def _axis(size: int, like: Tensor) -> Tensor:
    """Coordinates of columns and rows: (size,) in [-1, 1]."""
    return torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)


@triton.jit
def _from_edge(frame, edges, e, x, y, known):  # type: ignore[no-untyped-def]  # annotations mean types of Triton
    """As `edge_map_torch._from_edge`, of an edge or of many; `known` says which of them exist."""
    ux = tl.load(frame + 2 * edges + e, mask=known, other=0.0)
    uy = tl.load(frame + 3 * edges + e, mask=known, other=0.0)
    qx = x - tl.load(frame + e, mask=known, other=0.0)
    qy = y - tl.load(frame + edges + e, mask=known, other=0.0)
    along = qx * ux + qy * uy
    across = qy * ux - qx * uy
    inside = tl.minimum(tl.maximum(along, 0.0), tl.load(frame + 4 * edges + e, mask=known, other=0.0))
    return along - inside, across, inside


@triton.jit  # type: ignore[untyped-decorator]
def _nearest_edge_kernel(  # type: ignore[no-untyped-def]
    frames, cost, axis, best_out, winner_out, size, edges, TILE: tl.constexpr, EDGES: tl.constexpr
):
    """The distance of the tile's centre to every edge bounds what can win; only that is tried at the pixels."""
    image = tl.program_id(0).to(tl.int64)
    tiles = tl.cdiv(size, TILE)
    top = tl.program_id(1) // tiles * TILE
    left = tl.program_id(1) % tiles * TILE
    pixel = tl.arange(0, TILE * TILE)
    row = top + pixel // TILE
    column = left + pixel % TILE
    exists = (row < size) & (column < size)
    x = tl.load(axis + column, mask=exists, other=0.0)
    y = tl.load(axis + row, mask=exists, other=0.0)
    x0 = tl.load(axis + left)
    y0 = tl.load(axis + top)
    half_x = (tl.load(axis + tl.minimum(left + TILE, size) - 1) - x0) * 0.5
    half_y = (tl.load(axis + tl.minimum(top + TILE, size) - 1) - y0) * 0.5
    radius = tl.sqrt(half_x * half_x + half_y * half_y) * 1.0001  # rounding
    frame = frames + image * 5 * edges

    bound = x0 * 0 + float("inf")  # the winner of a pixel is nowhere above it
    for start in range(0, edges, EDGES):
        some = start + tl.arange(0, EDGES)
        beyond_some, across_some, _inside_some = _from_edge(frame, edges, some, x0 + half_x, y0 + half_y, some < edges)
        reach = tl.sqrt(beyond_some * beyond_some + across_some * across_some) + radius
        above = reach * reach + tl.load(cost + some, mask=some < edges, other=float("inf"))
        bound = tl.minimum(bound, tl.min(above, 0))

    best = x * 0 + float("inf")
    winner = pixel * 0
    for e in range(edges):
        beyond_one, across_one, _inside_one = _from_edge(frame, edges, e, x0 + half_x, y0 + half_y, True)
        nearest = tl.maximum(tl.sqrt(beyond_one * beyond_one + across_one * across_one) - radius, 0.0)
        cost_e = tl.load(cost + e)
        if nearest * nearest + cost_e <= bound:  # a name of its own for each shape: Triton fixes a name's type
            beyond, across, _inside = _from_edge(frame, edges, e, x, y, True)
            value = beyond * beyond + across * across + cost_e
            winner = tl.where(value < best, e, winner)
            best = tl.minimum(best, value)
    where = (image * size + row) * size + column
    tl.store(best_out + where, best, mask=exists)
    tl.store(winner_out + where, winner, mask=exists)


@triton.jit  # type: ignore[untyped-decorator]
def _pulls_kernel(  # type: ignore[no-untyped-def]
    frames, first, second, axis, winner_in, pull_in, on_keypoints, on_edges, size, edges, K, TILE: tl.constexpr
):
    """Sum over the tile for each of the few edges that won in it, and add that to the edge's two ends."""
    image = tl.program_id(0).to(tl.int64)
    tiles = tl.cdiv(size, TILE)
    pixel = tl.arange(0, TILE * TILE)
    row = tl.program_id(1) // tiles * TILE + pixel // TILE
    column = tl.program_id(1) % tiles * TILE + pixel % TILE
    exists = (row < size) & (column < size)
    x = tl.load(axis + column, mask=exists, other=0.0)
    y = tl.load(axis + row, mask=exists, other=0.0)
    where = (image * size + row) * size + column
    pull = tl.load(pull_in + where, mask=exists, other=0.0)
    winner = tl.load(winner_in + where, mask=exists, other=-1)
    winner = tl.where(pull != 0, winner, -1)  # far from every edge
    frame = frames + image * 5 * edges
    e = tl.max(winner, 0)
    while e >= 0:
        beyond, across, inside = _from_edge(frame, edges, e, x, y, True)
        ux = tl.load(frame + 2 * edges + e)
        uy = tl.load(frame + 3 * edges + e)
        length = tl.load(frame + 4 * edges + e)
        t = tl.where(length > 0, inside / tl.where(length > 0, length, 1.0), 0.5)
        own = tl.where(winner == e, pull, 0.0)
        pull_x = own * (beyond * ux - across * uy)
        pull_y = own * (beyond * uy + across * ux)
        a = on_keypoints + (image * K + tl.load(first + e)) * 2
        b = on_keypoints + (image * K + tl.load(second + e)) * 2
        tl.atomic_add(a, tl.sum(pull_x * (1 - t), 0))
        tl.atomic_add(a + 1, tl.sum(pull_y * (1 - t), 0))
        tl.atomic_add(b, tl.sum(pull_x * t, 0))
        tl.atomic_add(b + 1, tl.sum(pull_y * t, 0))
        tl.atomic_add(on_edges + e, tl.sum(own, 0))
        winner = tl.where(winner == e, -1, winner)
        e = tl.max(winner, 0)
