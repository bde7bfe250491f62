"""A source that is moved by hand: its keypoints are dragged, and it is redrawn in that pose."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from autolink.draw import keypoint_colours
from autolink.edge_map import edge_pairs
from autolink.errors import UserError
from autolink.generation.nested import Details, believable
from autolink.generation.networks import choose_checkpoint
from autolink.generation.redrawing import driving_poses, redrawer
from autolink.generation.structures import OUTSIDE
from autolink.generation.styles import principal
from autolink.generation.subjects import read_appearance, read_driving_motion
from autolink.generation.transfer_options import TransferOptions
from autolink.progress import silent
from autolink.studio.pictures import jpeg
from autolink.video.clip import Clip

LARGEST_SIDE = 256
"""Pixels at which it is redrawn at most, while it is dragged."""


WATCHED = 4.0
"""Seconds of a driver from which expressions are learned at most: its keypoints are found in every frame."""

Points = list[tuple[float, float]]


class Move(BaseModel):
    """A pose that is asked for."""

    upload: str
    crop: str
    keypoints: Points
    """(K, 2), (x, y) in [-1, 1] of the crop."""
    regions: list[Points] = []
    """The children's keypoints (k, 2) in each region's own [-1, 1] plane; none keeps the source's expression."""


class Learn(BaseModel):
    """What expressions are learned from: a driver, or poses."""

    upload: str
    crop: str
    driver: str = ""
    """An upload, of which the part from `start` to `end` is watched, in seconds; 0 is all."""
    start: float = Field(default=0.0, ge=0)
    end: float = Field(default=0.0, ge=0)
    poses: list[Points] = Field(default=[], max_length=200)
    """(N, K, 2), (x, y) in [-1, 1] of the crop, where there is no driver."""


class Puppet:
    """One source, found by the pose transfer that knows it best."""

    def __init__(self, source: Clip, crop: str, device: torch.device) -> None:
        self.checkpoint, self.networks = choose_checkpoint(source, crop, device)
        self.appearance = read_appearance(source, TransferOptions(crop=crop), self.networks)
        self.side = max(self.networks.model.size, min(LARGEST_SIDE, round(self.appearance.crop.side)))
        self.draw = redrawer(self.networks, self.appearance, self.side)

    def facts(self) -> dict[str, Any]:
        """What the page needs to draw and drag; the graph is the parent's, then each region's own."""
        crop, points = self.appearance.crop, self.appearance.keypoints[0]
        blocks, details, local = [self.networks.weights], self.appearance.details, self.networks.model.local
        pairs = [edge_pairs(len(points))]
        if local and details:
            pairs = [local.stage_one.pairs]
            blocks = [m.edge_weights.detach().cpu().numpy() for _, m, _ in local.stage_one.blocks]
        regions = [place[0] for place in details.keypoints] if details else []
        return {
            "checkpoint": self.checkpoint,
            "size": self.networks.model.size,
            "keypoints": points.round(4).tolist(),
            "regions": [place.cpu().numpy().round(4).tolist() for place in regions],
            "owners": local.stage_one.owners if local and details else [],
            "edges": torch.cat(pairs, 1).T.tolist(),
            "weights": np.concatenate([block / block.max() for block in blocks]).round(4).tolist(),
            "colours": keypoint_colours(len(points) + sum(map(len, regions))).tolist(),
            "crop": [crop.x, crop.y, crop.side, crop.side],
        }

    def move(self, wanted: Move) -> tuple[dict[str, Any], bytes]:
        """The source in a pose, as a JPEG, and where its regions are then: (P, 2, 3), from their planes to the crop's.

        Raises:
            UserError: a keypoint is missing or far outside.
        """
        poses = self._checked([wanted.keypoints])
        image = self.draw(poses, self._expression(wanted.regions))[0]
        return {"maps": self._maps(poses)}, jpeg(image)

    def expressions(self, learn: Learn, driver: Clip | None) -> list[list[list[float]]]:
        """The principal directions of a driver's poses, or of given ones, in the source: (D, K, 2), one deviation long.

        Raises:
            UserError: the driver cannot be read or shows no subject, or there are too few poses.
        """
        if driver:
            if not driver.is_motion or learn.start or learn.end:
                end = min(learn.end or math.inf, learn.start + WATCHED)
                driver = driver.between(learn.start, end)
            options = TransferOptions(crop=learn.crop)
            driving = read_driving_motion(driver, options, self.networks, self.appearance, silent)
            poses = driving_poses(options, self.networks, self.appearance, driving)
        else:
            poses = self._checked(learn.poses)
        if len(poses) < 3:
            raise UserError("expressions are learned from three poses or more; keep some, or choose a driver")
        directions = principal(poses.reshape(len(poses), -1)).reshape(-1, *poses.shape[1:])
        shown = np.abs(directions).max((1, 2)) > 1e-3
        found: list[list[list[float]]] = directions[shown].round(4).tolist()
        return found

    def _checked(self, keypoints: list[Points]) -> NDArray[np.float64]:
        own = self.appearance.keypoints[0]
        same = all(len(pose) == len(own) for pose in keypoints)
        poses = np.array(keypoints if same else [], np.float64).reshape(-1, *own.shape)
        if len(poses) != len(keypoints) or not (np.abs(poses) <= 2 * OUTSIDE).all():
            raise UserError(f"a pose has {len(own)} keypoints, in or near the picture")
        return poses

    def _expression(self, regions: list[Points]) -> Details | None:
        """The children's keypoints that were asked for, as far as they have seen any."""
        own, local = self.appearance.details, self.networks.model.local
        if not (own and local and regions):
            return None
        if [len(points) for points in regions] != [place.shape[1] for place in own.keypoints]:
            raise UserError("this source has other regions; load the page again")
        children = dict(local.stage_one.named())
        places = zip(local.stage_one.owners, own.keypoints, regions, strict=True)
        keypoints = [
            believable(children[name], place, torch.tensor([points]).to(place) - place)
            for name, place, points in places
        ]
        moved = [not torch.allclose(a, b, atol=1e-3) for a, b in zip(keypoints, own.keypoints, strict=True)]
        return Details(keypoints, torch.tensor([moved]).to(own.beliefs))

    def _maps(self, poses: NDArray[np.float64]) -> list[Any]:
        local = self.networks.model.local
        if not (local and self.appearance.details):
            return []
        found: list[Any] = local.stage_one.regions(torch.from_numpy(poses)).numpy()[0].round(5).tolist()
        return found
