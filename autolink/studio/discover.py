"""The Discover page: keypoints, graph, edge map, parts and children of a picture."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.data.picture import to_pixels
from autolink.draw import edge_map_image, keypoint_colours
from autolink.generation.gan import draw_structure
from autolink.inputs import Image
from autolink.nested import NestedAutoLink
from autolink.regions import moved
from autolink.studio.pictures import jpeg
from autolink.video.motion import edge_matrix

PARTS = range(2, 9)
"""Numbers of parts that the page offers."""

EDGE_MAP_SIDE = 256


def parts(weights: NDArray[np.floating], keypoints: int, count: int) -> list[int]:
    """Which part each keypoint belongs to, by spectral clustering of the graph (Ng, Jordan and Weiss, 2001).

    Args:
        weights: (E,), edge weights in the order of `edge_pairs`.
        keypoints: K.
        count: how many parts.

    Returns:
        (K,), numbers from 0 in the order of their first keypoints.
    """
    from scipy.cluster.vq import kmeans2  # imported here, for the first page does without SciPy

    A = edge_matrix(weights, keypoints)
    inverse_root = 1 / np.sqrt(np.maximum(A.sum(1), 1e-12))
    _, vectors = np.linalg.eigh(inverse_root[:, None] * A * inverse_root)
    rows = vectors[:, -count:]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    _, labels = kmeans2(rows, count, minit="++", seed=0, iter=50)
    order = list(dict.fromkeys(labels.tolist()))
    return [order.index(label) for label in labels.tolist()]


class Discoverer:
    """A stage one, with its children if it has some, as the page uses it."""

    def __init__(self, name: str, model: NestedAutoLink) -> None:
        self.name, self.model = name, model.eval()
        self.parent = model.parent
        weights = self.parent.edge_weights.detach().cpu().numpy()
        K = self.parent.config.keypoints
        self.graph = {
            "checkpoint": name,
            "pairs": model.pairs.T.tolist(),
            "weights": self._relative_weights(),
            "parent_keypoints": K,
            "blocks": [[start, m.config.keypoints] for start, m, _ in model.blocks],
            "colours": keypoint_colours(sum(m.config.keypoints for _, m, _ in model.blocks)).tolist(),
            "parts": {count: parts(weights, K, count) for count in PARTS if count <= K // 2},
            "owners": model.owners,
        }

    def _relative_weights(self) -> list[float]:
        """Each block of the graph relative to its own strongest edge, for children are graphs of their own."""
        shares = [(w / w.max()) for w in (m.edge_weights.detach() for _, m, _ in self.model.blocks)]
        whole: list[float] = torch.cat(shares).cpu().numpy().round(4).tolist()
        return whole

    @torch.no_grad()
    def find(self, image: Image, width: int, height: int) -> dict[str, Any]:
        """Keypoints of a picture (H, W, 3) and where the children looked, in pixels of it at width x height."""
        h, w = image.shape[:2]
        if self.model.owners:  # children look into the whole picture
            points = to_pixels(self.model.detect(image)[0].cpu().numpy(), w, h, "stretch")
        else:
            points = self.parent.detect(image, pixels=True).cpu().numpy()
        corners = torch.tensor([[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]])
        seen = torch.from_numpy(points[None, : self.parent.config.keypoints]).float()
        maps = self.model.regions(seen)[0]
        regions = moved(maps, corners).numpy()
        scale = np.array([width / w, height / h])
        return {
            "width": width,
            "height": height,
            "keypoints": ((points + 0.5) * scale - 0.5).round(2).tolist(),
            "regions": ((regions + 0.5) * scale - 0.5).round(2).tolist(),
        }

    @torch.no_grad()
    def edge_map(self, image: Image) -> bytes:
        """The parent's edge map of a picture (H, W, 3), as a JPEG."""
        keypoints = self.parent.detect(image)[None]
        drawn = draw_structure(self.parent, keypoints, EDGE_MAP_SIDE)[0, 0].cpu().numpy()
        return jpeg(edge_map_image(drawn))
