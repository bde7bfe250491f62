"""Keypoints of many pictures at once."""

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.data.images import Pictures
from autolink.device import to_network
from autolink.model import AutoLink


@torch.no_grad()
def detect_all(
    model: AutoLink, images: Pictures, device: torch.device, batch: int = 128, mirrored: bool = False
) -> NDArray[np.float32]:
    """Keypoints of many pictures, (N, H, W, 3) 8-bit -> (N, K, 2), (x, y) in [-1, 1]; leaves evaluation mode on.

    With `mirrored`, of their mirrors.
    """
    model.eval()
    step = -1 if mirrored else 1
    starts = range(0, len(images), batch)
    parts = (torch.from_numpy(np.array(images[n : n + batch][:, :, ::step], order="C")) for n in starts)
    return np.concatenate([model.keypoints(to_network(part, device)).cpu().numpy() for part in parts])
