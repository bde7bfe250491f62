"""The edge map's two loops over pixels in plain torch: for other devices, and what the kernels are tested by."""

import torch
from torch import Tensor

from autolink.edge_map import edge_pairs


def nearest_edge(keypoints: Tensor, cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Least f_e(p) = d_e(p)^2 + cost_e over edges, and the first edge that attains it.

    Args:
        keypoints: (B, K, 2), (x, y) in [-1, 1].
        cost: (E,), may be infinite.
        size: side of the square map in pixels.

    Returns:
        (B, size, size) of the keypoints' type, and (B, size, size) 32-bit numbers of edges.
    """
    best = keypoints.new_full((len(keypoints), size, size), float("inf"))
    winner = torch.zeros_like(best, dtype=torch.int32)
    y, x = _pixel_coordinates(size, keypoints)
    frames = edge_frames(keypoints)[..., None, None]
    for e, cost_e in enumerate(cost):
        beyond, across, _ = _from_edge(frames[:, :, e], x, y)
        value = beyond.square() + across.square() + cost_e
        winner.masked_fill_(value < best, e)
        torch.minimum(best, value, out=best)
    return best, winner


def pulls(keypoints: Tensor, winner: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """How pixels that pull their nearest points towards them move the keypoints.

    With r the vector from the nearest point a + t (b - a) of the winning edge to a pixel, end a receives
    pull (1 - t) r and end b pull t r; ends that coincide share.

    Args:
        keypoints: (B, K, 2).
        winner: (B, size, size), numbers of edges.
        pull: (B, size, size).

    Returns:
        Sums over pixels on each keypoint (B, K, 2), and sums of `pull` on each edge over the batch (E,).
    """
    i, j = edge_pairs(keypoints.shape[1], keypoints.device)
    y, x = _pixel_coordinates(winner.shape[1], keypoints)
    winner, pull = winner.flatten(1).long(), pull.flatten(1)
    frames = edge_frames(keypoints)
    own = frames.gather(2, winner[:, None].expand(-1, 5, -1))
    beyond, across, inside = _from_edge(own, x.expand(len(y), -1).reshape(-1), y.expand(-1, len(y)).reshape(-1))
    t = torch.where(own[:, 4] > 0, inside / own[:, 4].clamp(min=torch.finfo(own.dtype).tiny), 0.5)
    ux, uy = own[:, 2], own[:, 3]
    r = torch.stack([beyond * ux - across * uy, beyond * uy + across * ux], 2) * pull[..., None]
    on_keypoints = torch.zeros_like(keypoints)
    for ends, share in ((i, 1 - t), (j, t)):
        on_keypoints.scatter_add_(1, ends[winner][..., None].expand(-1, -1, 2), r * share[..., None])
    return on_keypoints, pull.new_zeros(len(i)).index_add_(0, winner.reshape(-1), pull.reshape(-1))


def edge_frames(keypoints: Tensor) -> Tensor:
    """(B, 5, E): first end a (x, y), unit direction u (x, y) and length; an edge of no length takes any direction."""
    i, j = edge_pairs(keypoints.shape[1], keypoints.device)
    a, difference = keypoints[:, i], keypoints[:, j] - keypoints[:, i]
    length = difference.norm(dim=2)
    length = length * (length >= 1e-15)  # shorter ones may have lost the digits of their square
    ux = torch.where(length == 0, 1.0, difference[..., 0] / length)
    uy = torch.where(length == 0, 0.0, difference[..., 1] / length)
    return torch.stack([a[..., 0], a[..., 1], ux, uy, length], 1)


def _from_edge(frames: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The vector to (x, y) from an edge's nearest point, along and across the edge, and how far along that is."""
    ax, ay, ux, uy, length = frames.unbind(1)
    along, across = (x - ax) * ux + (y - ay) * uy, (y - ay) * ux - (x - ax) * uy
    inside = along.clamp(min=0).minimum(length)
    return along - inside, across, inside


def _pixel_coordinates(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(y, x) of rows and columns in [-1, 1], (size, 1) and (1, size)."""
    axis = torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)
    return axis[:, None], axis[None, :]
