"""A source that is moved by hand: its keypoints are dragged, and it is redrawn in that pose."""

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from autolink.draw import keypoint_colours
from autolink.edge_map import edge_pairs
from autolink.errors import UserError
from autolink.generation.networks import choose_checkpoint
from autolink.generation.redrawing import redraw
from autolink.generation.structures import OUTSIDE
from autolink.generation.subjects import read_appearance
from autolink.generation.transfer_options import TransferOptions
from autolink.studio.pictures import jpeg
from autolink.video.clip import Clip

LARGEST_SIDE = 256
"""Pixels at which it is redrawn at most, while it is dragged."""


class Move(BaseModel):
    """A pose that is asked for."""

    upload: str
    crop: str
    keypoints: list[tuple[float, float]]
    """(K, 2), (x, y) in [-1, 1] of the crop."""


class Puppet:
    """One source, found by the pose transfer that knows it best."""

    def __init__(self, source: Clip, crop: str, device: torch.device) -> None:
        self.checkpoint, self.networks = choose_checkpoint(source, crop, device)
        self.appearance = read_appearance(source, TransferOptions(crop=crop), self.networks)
        self.side = max(self.networks.model.size, min(LARGEST_SIDE, round(self.appearance.crop.side)))

    def facts(self) -> dict[str, Any]:
        """What the page needs to draw and drag."""
        crop, points, weights = self.appearance.crop, self.appearance.keypoints[0], self.networks.weights
        return {
            "checkpoint": self.checkpoint,
            "size": self.networks.model.size,
            "keypoints": points.round(4).tolist(),
            "edges": edge_pairs(len(points)).T.tolist(),
            "weights": (weights / weights.max()).round(4).tolist(),
            "colours": keypoint_colours(len(points)).tolist(),
            "crop": [crop.x, crop.y, crop.side, crop.side],
        }

    def move(self, keypoints: list[tuple[float, float]]) -> bytes:
        """The source in a pose, as a JPEG.

        Raises:
            UserError: a keypoint is missing or far outside.
        """
        poses = np.array(keypoints)[None]
        if poses.shape[1:] != self.appearance.keypoints[0].shape or not (np.abs(poses) <= 2 * OUTSIDE).all():
            raise UserError(f"a pose has {len(self.appearance.keypoints[0])} keypoints, in or near the picture")
        return jpeg(next(redraw(self.networks, self.appearance, poses, None, self.side, 1)))
