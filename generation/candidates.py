"""What the graph proposes: for every bone, keypoint and the whole body an affine motion from driver to source.

A candidate is a backward motion, from a place in the driving picture to the place in the source picture that should
be shown there: p -> A p + o, stored as (..., 2, 3). First-order motion models learn such matrices with a network; here
they follow from where the linked keypoints lie in the two pictures, so there is nothing to learn and nothing to drift.
"""

import torch
from torch import Tensor

SHORTEST = 0.02
"""Bones near this length in [-1, 1] units have no reliable direction: their motion fades into a translation."""


def candidate_motions(source: Tensor, driving: Tensor, pairs: Tensor) -> Tensor:
    """All candidates, in this order: stay, whole body, each bone, each keypoint.

    Args:
        source, driving: (B, K, 2), (x, y) in [-1, 1].
        pairs: (2, E), the keypoints that each bone links.

    Returns:
        (B, 2 + E + K, 2, 3), affine maps from driving to source places.
    """
    B, K, _ = source.shape
    stay = torch.eye(2, 3, dtype=source.dtype, device=source.device).expand(B, 1, 2, 3)
    body = whole_motion(source, driving)[:, None]
    bones = bone_motions(source[:, pairs[0]], source[:, pairs[1]], driving[:, pairs[0]], driving[:, pairs[1]])
    points = _through(body[..., :2].expand(B, K, 2, 2), source, driving)
    return torch.cat([stay, body, bones, points], 1)


def whole_motion(source: Tensor, driving: Tensor) -> Tensor:
    """The similarity that fits all keypoints best in the least-squares sense: (B, K, 2) twice -> (B, 2, 3)."""
    s_mean, d_mean = source.mean(1), driving.mean(1)
    s, d = source - s_mean[:, None], driving - d_mean[:, None]
    ratio = _complex_ratio((_times_conjugate(s, d)).sum(1), d.square().sum((1, 2)))
    return _through(_similarity(ratio), s_mean, d_mean)


def bone_motions(s0: Tensor, s1: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """The similarity that takes each driving bone d0-d1 onto its source bone s0-s1: (B, E, 2) each -> (B, E, 2, 3)."""
    s, d = s1 - s0, d1 - d0
    ratio = _complex_ratio(_times_conjugate(s, d), d.square().sum(-1))
    return _through(_similarity(ratio), (s0 + s1) / 2, (d0 + d1) / 2)


def bone_distances(keypoints: Tensor, pairs: Tensor, places: Tensor) -> Tensor:
    """Squared distances of places to bones and keypoints: (B, K, 2), (2, E), (P, 2) -> (B, E + K, P)."""
    a, b = keypoints[:, pairs[0], None], keypoints[:, pairs[1], None]  # (B, E, 1, 2)
    along = b - a
    away = places - a  # (B, E, P, 2)
    t = (away * along).sum(-1) / along.square().sum(-1).clamp(min=1e-8)
    to_bones = (away - t.clamp(0, 1)[..., None] * along).square().sum(-1)
    to_points = (places - keypoints[:, :, None]).square().sum(-1)
    return torch.cat([to_bones, to_points], 1)


def move(motions: Tensor, places: Tensor) -> Tensor:
    """Apply motions to places: (B, M, 2, 3), (P, 2) -> (B, M, P, 2)."""
    return places @ motions[..., :2].transpose(-1, -2) + motions[..., 2][..., None, :]


def _times_conjugate(s: Tensor, d: Tensor) -> Tensor:
    """s times the conjugate of d, vectors read as complex numbers: (..., 2) each -> (..., 2)."""
    real = (s * d).sum(-1)
    imaginary = s[..., 1] * d[..., 0] - s[..., 0] * d[..., 1]
    return torch.stack([real, imaginary], -1)


def _complex_ratio(product: Tensor, square: Tensor) -> Tensor:
    """s / d from s conj(d) and |d|^2, drawn towards 1 where both are short; lengths change at most threefold."""
    one = product.new_tensor([1.0, 0.0])
    ratio = (product + SHORTEST**2 * one) / (square + SHORTEST**2)[..., None]
    length: Tensor = ratio.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return ratio * (length.clamp(1 / 3, 3.0) / length)


def _similarity(ratio: Tensor) -> Tensor:
    """Rotation and scale of a complex number as a matrix: (..., 2) -> (..., 2, 2)."""
    real, imaginary = ratio.unbind(-1)
    return torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], -2)


def _through(matrix: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """The affine map with this matrix that takes the driving point to the source point: (..., 2, 3)."""
    offset = source - (matrix @ driving[..., None])[..., 0]
    return torch.cat([matrix, offset[..., None]], -1)
