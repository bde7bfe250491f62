"""The edge map's two loops over pixels for CPU tensors, compiled by Numba: a tile tries only the edges that can win."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE, BLOCK = 8, 32
"""Sides in pixels: the pixels of a tile try the same edges, found among those of the block it lies in."""


def nearest_edge(keypoints: Tensor, cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As `edge_map_torch.nearest_edge`."""
    best = keypoints.new_empty(len(keypoints), size, size)
    winner = torch.empty(best.shape, dtype=torch.int32)
    keypoints, cost = keypoints.detach().contiguous(), cost.detach().contiguous()
    _in_threads(
        lambda part: _nearest_edge(keypoints[part].numpy(), cost.numpy(), best[part].numpy(), winner[part].numpy()),
        len(best),
    )
    return best, winner


def pulls(keypoints: Tensor, winner: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """As `edge_map_torch.pulls`."""
    B, K, _ = keypoints.shape
    on_keypoints, on_edges = torch.empty_like(keypoints), keypoints.new_empty(B, K * (K - 1) // 2)
    tensors = (keypoints.detach().contiguous(), winner, pull.contiguous(), on_keypoints, on_edges)
    _in_threads(lambda part: _pulls(*(tensor[part].numpy() for tensor in tensors)), B)
    return on_keypoints, torch.from_numpy(on_edges.numpy().sum(0))  # NumPy's order does not depend on the threads


def _in_threads(work: Callable[[slice], None], batch: int) -> None:
    """Give each of torch's threads a part of the batch; pictures are independent, so their number changes no bit."""
    threads = min(torch.get_num_threads(), batch)
    cuts = [n * batch // max(threads, 1) for n in range(threads + 1)]
    first, *others = [slice(*ends) for ends in pairwise(cuts)] or [slice(0, 0)]
    running = [_pool(threads).submit(work, part) for part in others]
    work(first)
    for part in running:
        part.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads beside the calling one."""
    return ThreadPoolExecutor(threads - 1, "edge-map")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


Array: TypeAlias = NDArray[Any]
"""Of the type of the keypoints, or of names of edges."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, once for ever where a place on disk for it can be written."""
    # infinite costs are meant, so of fast mathematics only fused multiply-add; error_model: division without checks
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        fast: Callable[..., Any] = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither beside this file nor in the user's cache
        fast = numba.njit(function, **options)
    return fast


@compiled
def _edge_table(keypoints: Array, cost: Array) -> Array:
    """One column an edge, (6, E): first end a (x, y), unit direction u (x, y), length, cost."""
    K, E = len(keypoints), len(keypoints) * (len(keypoints) - 1) // 2
    zero, one = keypoints.dtype.type(0), keypoints.dtype.type(1)
    table = np.empty((6, E), keypoints.dtype)
    e = 0
    for i in range(K):
        for j in range(i + 1, K):
            ax, ay = keypoints[i, 0], keypoints[i, 1]
            dx, dy = keypoints[j, 0] - ax, keypoints[j, 1] - ay
            length = np.sqrt(dx * dx + dy * dy)
            if length < 1e-15:  # its square may have lost its digits: a point, with any direction
                dx, dy, length = one, zero, zero
            else:
                dx, dy = dx / length, dy / length
            table[0, e], table[1, e], table[2, e], table[3, e], table[4, e] = ax, ay, dx, dy, length
            table[5, e] = cost[e]
            e += 1
    return table


@compiled
def _from_edge(table: Array, e: int, x: float, y: float) -> tuple[float, float, float]:
    """The vector to (x, y) from the nearest point of an edge, along and across the edge, and how far along that is."""
    qx, qy, ux, uy = x - table[0, e], y - table[1, e], table[2, e], table[3, e]
    along, across = qx * ux + qy * uy, qy * ux - qx * uy
    inside = min(max(along, table.dtype.type(0)), table[4, e])
    return along - inside, across, inside


@compiled
def _edges_that_may_win(
    table: Array,
    names: Array,
    count: int,
    x: float,
    y: float,
    half: float,
    value: Array,
    kept: Array,
    kept_names: Array,
) -> int:
    """Copy those of the first `count` edges that can win in the square of side 2 `half` about (x, y); their number.

    f_e = d_e^2 + cost_e is convex, so it lies above its tangent at the centre; a tangent minus the f of the edge that
    wins at the centre is concave, so least at a corner: if the tangent of e is above that f at all four, e never wins.
    """
    for n in range(count):
        beyond, across, _ = _from_edge(table, n, x, y)
        value[n] = beyond * beyond + across * across + table[5, n]
    first, least = 0, value[0]
    for n in range(count):
        if value[n] < least:
            first, least = n, value[n]
    corners = np.empty(4, table.dtype)
    for n in range(4):
        beyond, across, _ = _from_edge(table, first, x + (half if n % 2 else -half), y + (half if n // 2 else -half))
        corners[n] = beyond * beyond + across * across + table[5, first]
    c0, c1, c2, c3 = corners[0], corners[1], corners[2], corners[3]
    for n in range(count):
        beyond, across, _ = _from_edge(table, n, x, y)
        slope_x = (half + half) * (beyond * table[2, n] - across * table[3, n])
        slope_y = (half + half) * (beyond * table[3, n] + across * table[2, n])
        above = min(-slope_x - c0, slope_x - c1) - slope_y
        below = min(-slope_x - c2, slope_x - c3) + slope_y
        value[n] = beyond * beyond + across * across + table[5, n] + min(above, below)
    found = 0
    for n in range(count):
        if n == first or not value[n] > 0:
            for row in range(6):
                kept[row, found] = table[row, n]
            kept_names[found] = names[n]
            found += 1
    return found


@compiled
def _draw_tile(
    table: Array,
    names: Array,
    count: int,
    x: float,
    y: float,
    xs: Array,
    ys: Array,
    best: Array,
    winner: Array,
) -> None:
    """Least f_e of the first `count` edges and who attains it, at pixels that lie (xs, ys) from (x, y)."""
    zero = table.dtype.type(0)
    best[:] = np.inf
    winner[:] = names[0]
    for n in range(count):
        ax, ay, ux, uy, length, cost = table[:, n]
        name = names[n]
        along_centre, across_centre = (x - ax) * ux + (y - ay) * uy, (y - ay) * ux - (x - ax) * uy
        for p in range(TILE * TILE):
            along, across = along_centre + xs[p] * ux + ys[p] * uy, across_centre + ys[p] * ux - xs[p] * uy
            beyond = along - min(max(along, zero), length)
            value = across * across + cost + beyond * beyond
            nearer = value < best[p]
            best[p] = value if nearer else best[p]
            winner[p] = name if nearer else winner[p]


@compiled
def _nearest_edge(keypoints: Array, cost: Array, best: Array, winner: Array) -> None:
    """`nearest_edge` of some pictures, written into `best` and `winner`."""
    B, size, E, scalar = len(best), best.shape[1], len(cost), keypoints.dtype.type
    step = scalar(2) / scalar(size - 1)
    tile_half, block_half = step * scalar((TILE - 1) / 2), step * scalar((BLOCK - 1) / 2)
    pixel = np.arange(TILE * TILE)
    xs, ys = (
        (pixel % TILE).astype(keypoints.dtype) * step - tile_half,
        (pixel // TILE).astype(keypoints.dtype) * step - tile_half,
    )
    names = np.arange(E).astype(np.int32)
    scratch = np.empty(E, keypoints.dtype)
    block, block_names = np.empty((6, E), keypoints.dtype), np.empty(E, np.int32)
    tile, tile_names = np.empty((6, E), keypoints.dtype), np.empty(E, np.int32)
    tile_best, tile_winner = np.empty(TILE * TILE, keypoints.dtype), np.empty(TILE * TILE, np.int32)
    for b in range(B):
        table = _edge_table(keypoints[b], cost)
        for top in range(0, size, BLOCK):
            for left in range(0, size, BLOCK):
                x, y = scalar(left) * step - scalar(1) + block_half, scalar(top) * step - scalar(1) + block_half
                some = _edges_that_may_win(table, names, E, x, y, block_half, scratch, block, block_names)
                for row in range(top, min(top + BLOCK, size), TILE):
                    for column in range(left, min(left + BLOCK, size), TILE):
                        x, y = scalar(column) * step - scalar(1) + tile_half, scalar(row) * step - scalar(1) + tile_half
                        few = _edges_that_may_win(block, block_names, some, x, y, tile_half, scratch, tile, tile_names)
                        _draw_tile(tile, tile_names, few, x, y, xs, ys, tile_best, tile_winner)
                        for r in range(min(TILE, size - row)):
                            for c in range(min(TILE, size - column)):
                                best[b, row + r, column + c] = tile_best[r * TILE + c]
                                winner[b, row + r, column + c] = tile_winner[r * TILE + c]


@compiled
def _pulls(keypoints: Array, winner: Array, pull: Array, on_keypoints: Array, on_edges: Array) -> None:
    """`pulls` of some pictures, written into `on_keypoints` (B, K, 2) and `on_edges` (B, E)."""
    B, size, K, E, scalar = len(winner), winner.shape[1], keypoints.shape[1], on_edges.shape[1], keypoints.dtype.type
    step = scalar(2) / scalar(size - 1)
    no_cost = np.zeros(E, keypoints.dtype)
    sums = np.empty((E, 5))  # double precision
    for b in range(B):
        table = _edge_table(keypoints[b], no_cost)
        sums[:] = 0
        for row in range(size):
            y = scalar(row) * step - scalar(1)
            for column in range(size):
                strength = pull[b, row, column]
                if strength != 0:  # not far from every edge
                    e = winner[b, row, column]
                    beyond, across, inside = _from_edge(table, e, scalar(column) * step - scalar(1), y)
                    sums[e, 0] += strength
                    sums[e, 1] += strength * beyond
                    sums[e, 2] += strength * across
                    sums[e, 3] += strength * beyond * inside
                    sums[e, 4] += strength * across * inside
        on_keypoints[b] = 0
        e = 0
        for i in range(K):
            for j in range(i + 1, K):
                on_edges[b, e], beyond, across, beyond_j, across_j = sums[e]
                ux, uy, length = table[2, e], table[3, e], table[4, e]
                if length > 0:
                    beyond_j, across_j = beyond_j / length, across_j / length
                else:  # both ends share it
                    beyond_j, across_j = beyond / 2, across / 2
                on_keypoints[b, i, 0] += (beyond - beyond_j) * ux - (across - across_j) * uy
                on_keypoints[b, i, 1] += (beyond - beyond_j) * uy + (across - across_j) * ux
                on_keypoints[b, j, 0] += beyond_j * ux - across_j * uy
                on_keypoints[b, j, 1] += beyond_j * uy + across_j * ux
                e += 1
