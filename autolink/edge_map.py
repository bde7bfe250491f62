"""The soft edge map: every pair of keypoints is an edge, drawn as strongly as the graph's weight says."""

import math
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    drawn: Tensor = _EdgeMap.apply(keypoints.to(dtype), weights.to(dtype), size, thickness)  # type: ignore[no-untyped-call]
    return drawn


class _EdgeMap(torch.autograd.Function):
    """Forward keeps each pixel's winning edge; backward differentiates that edge's distance in closed form."""

    @staticmethod
    def forward(ctx: Any, keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
        best, winner = _kernels(keypoints.device).nearest_edge(keypoints, -thickness * weights.log(), size)
        drawn: Tensor = best.div_(-thickness).exp_()
        drawn += 0 * (keypoints.sum((1, 2), keepdim=True) + weights.sum())  # what is not finite shows everywhere
        ctx.save_for_backward(keypoints, weights, winner, drawn)
        ctx.thickness = thickness
        return drawn[:, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        keypoints, weights, winner, drawn = ctx.saved_tensors
        # A nearest point that moves by v changes d^2 by -2 r.v, r the vector from it to the pixel.
        pulls, sums = _kernels(keypoints.device).pulls(keypoints, winner, gradient[:, 0] * drawn)
        return pulls * (2 / ctx.thickness), torch.where(weights > 0, sums / weights, 0), None, None


def _kernels(device: torch.device) -> ModuleType:
    """The module that draws and differentiates on the device; imported here because compilers are slow to import."""
    if device.type == "cpu" and find_spec("numba"):
        return import_module("autolink.edge_map_cpu")
    if device.type == "cuda" and find_spec("triton"):
        return import_module("autolink.edge_map_cuda")
    return import_module("autolink.edge_map_torch")
