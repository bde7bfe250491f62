"""The edge map's search for the nearest edge as one Triton kernel, for CUDA tensors."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256
"""Pixels of one program."""


@triton.jit
def _nearest_edge_kernel(  # type: ignore[no-untyped-def]
    frames, cost, best_out, winner_out, size, pixels, edges, dtype: tl.constexpr, BLOCK: tl.constexpr
):
    """Loop over the edges for a block of pixels of one image, keeping the smallest cost in registers."""
    image = tl.program_id(0)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside_map = pixel < pixels
    step = 2.0 / (size - 1)
    x = (pixel % size).to(dtype) * step - 1.0
    y = (pixel // size).to(dtype) * step - 1.0
    best = tl.full((BLOCK,), float("inf"), dtype)
    winner = tl.zeros((BLOCK,), tl.int32)
    frame = frames + image * edges * 5
    for e in range(edges):
        ux = tl.load(frame + e * 5)
        uy = tl.load(frame + e * 5 + 1)
        along = ux * x + uy * y - tl.load(frame + e * 5 + 2)
        across = ux * y - uy * x - tl.load(frame + e * 5 + 3)
        length = tl.load(frame + e * 5 + 4)
        beyond = along - tl.minimum(tl.maximum(along, 0.0), length)
        value = across * across + beyond * beyond + tl.load(cost + e)
        nearer = value < best
        best = tl.where(nearer, value, best)
        winner = tl.where(nearer, e, winner)
    where = image.to(tl.int64) * pixels + pixel
    tl.store(best_out + where, best, mask=inside_map)
    tl.store(winner_out + where, winner, mask=inside_map)


def nearest_edge(frames: Tensor, cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As `edge_map._nearest_edge`: frames (B, E, 5), cost (E,) -> smallest cost and its edge, (B, size * size) each."""
    B, E, _ = frames.shape
    pixels = size * size
    best = frames.new_empty(B, pixels)
    winner = torch.empty(B, pixels, dtype=torch.int32, device=frames.device)
    if B:
        grid = (B, triton.cdiv(pixels, BLOCK))
        dtype = tl.float64 if frames.dtype == torch.float64 else tl.float32
        _nearest_edge_kernel[grid](
            frames.contiguous(), cost.contiguous(), best, winner, size, pixels, E, dtype=dtype, BLOCK=BLOCK
        )
    return best, winner
