"""Keypoints of many pictures at once."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.images import Pictures
from autolink.device import to_network
from autolink.model import AutoLink


@torch.no_grad()
def detect_all(
    model: AutoLink,
    images: Pictures,
    device: torch.device,
    batch: int = 128,
    mirrored: bool = False,
    change: Callable[[Tensor], Tensor] | None = None,
) -> NDArray[np.float32]:
    """Keypoints of many pictures, (N, H, W, 3) 8-bit -> (N, K, 2), (x, y) in [-1, 1]; leaves evaluation mode on.

    With `mirrored`, of their mirrors; `change` is made to each batch, (B, 3, H, W) in [-1, 1], before it is looked at.
    """  # fmt: skip
    model.eval()
    step = -1 if mirrored else 1
    found = []
    for n in range(0, len(images), batch):
        part = torch.from_numpy(np.array(images[n : n + batch][:, :, ::step], order="C"))
        seen = to_network(part, device)
        found.append(model.keypoints(change(seen) if change else seen).cpu().numpy())
    return np.concatenate(found)
