"""Keypoints of many pictures at once."""

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.device import to_network
from autolink.model import AutoLink


@torch.no_grad()
def detect_all(
    model: AutoLink, images: NDArray[np.uint8], device: torch.device, batch: int = 128
) -> NDArray[np.float32]:
    """Keypoints of many pictures, (N, H, W, 3) 8-bit -> (N, K, 2), (x, y) in [-1, 1]; leaves evaluation mode on."""
    model.eval()
    parts = (torch.from_numpy(np.array(images[n : n + batch], order="C")) for n in range(0, len(images), batch))
    return np.concatenate([model.keypoints(to_network(part, device)).cpu().numpy() for part in parts])
