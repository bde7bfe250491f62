"""The Animals page: a structure that is dragged about, in an appearance that is kept."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from autolink.draw import keypoint_colours, to_image
from autolink.edge_map import edge_pairs
from autolink.errors import UserError
from autolink.generation.gan import Gan
from autolink.generation.structures import OUTSIDE, PLAUSIBLE, as_structures, plausible
from autolink.generation.styles import DIRECTIONS, principal, style_directions
from autolink.inputs import Picture
from autolink.studio.pictures import jpeg


class Look(BaseModel):
    """An appearance."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(default=0, ge=0, lt=2**31)
    number: int = Field(default=0, ge=0, lt=2**31)
    class_number: int = Field(default=0, ge=0)
    truncation: float = Field(default=0.75, ge=0, le=2)
    sweep: list[float] = Field(default=[], max_length=DIRECTIONS)
    """Along the principal directions, in standard deviations."""


class Paint(BaseModel):
    """A picture that is asked for."""

    keypoints: list[tuple[float, float]]
    """(K, 2), (x, y) in [-1, 1]."""
    off: list[int] = []
    """Edges that are switched off."""
    look: Look = Look()


class Animals:
    """The GAN as the page uses it."""

    def __init__(self, gan: Gan, name: str = "") -> None:
        self.gan, self.name = gan.eval(), name

    def facts(self) -> dict[str, Any]:
        """What the page needs to draw and drag: graph, classes, remembered structures, principal directions."""
        gan, config = self.gan, self.gan.config
        weights = gan.stage_one.edge_weights.detach().cpu()
        structures = gan.generator.structures.float().cpu().numpy()
        return {
            "name": self.name,
            "size": config.size,
            "keypoints": config.keypoints,
            "classes": config.classes,
            "edges": edge_pairs(config.keypoints).T.tolist(),
            "weights": (weights / weights.max()).tolist(),
            "colours": keypoint_colours(config.keypoints).tolist(),
            "structures": plausible(gan, structures, PLAUSIBLE).round(4).tolist(),
            "structure_classes": gan.generator.structure_classes.tolist(),
            "pose_directions": principal(structures.reshape(len(structures), -1))
            .reshape(DIRECTIONS, -1, 2)
            .round(4)
            .tolist(),
            "look_directions": DIRECTIONS,
            "mirror": mirrored_partners(structures).tolist(),
            "outside": OUTSIDE,
        }

    @cached_property
    def look_directions(self) -> torch.Tensor:
        """As `style_directions`."""
        return style_directions(self.gan)

    def style(self, look: Look) -> torch.Tensor:
        """(1, latent)."""
        if look.class_number >= len(self.gan.config.classes):
            raise UserError(f"there is no class {look.class_number} here")
        style = self.gan.appearances(
            [look.number], seed=look.seed, class_number=look.class_number, truncation=look.truncation
        )
        if any(look.sweep):
            steps = torch.tensor(look.sweep, device=style.device)
            style = style + steps @ self.look_directions[: len(steps)].to(style.device)
        return style

    def paint(self, wanted: Paint) -> bytes:
        """The picture as a JPEG.

        Raises:
            UserError: a keypoint is missing or outside of the picture, or there is no such edge.
        """
        K = self.gan.config.keypoints
        points = np.array(wanted.keypoints, np.float32)
        if points.shape != (K, 2) or not (np.abs(points) <= OUTSIDE).all():
            raise UserError(f"a structure has {K} keypoints, each within {OUTSIDE} of the centre")
        kept = torch.ones(K * (K - 1) // 2, dtype=torch.bool, device=self.gan.device)
        if any(not 0 <= edge < len(kept) for edge in wanted.off):
            raise UserError(f"edges are 0 to {len(kept) - 1}")
        kept[wanted.off] = False
        keypoints = torch.from_numpy(points)[None].to(self.gan.device)
        image = self.gan.generate(keypoints, self.style(wanted.look), kept)[0]
        return jpeg(to_image(image.permute(1, 2, 0).cpu().numpy()))

    def structure(self, picture: Picture) -> list[list[float]]:
        """The keypoints of a picture, (K, 2) in [-1, 1]."""
        found: list[list[float]] = as_structures(self.gan, picture).keypoints[0].round(4).tolist()
        return found


def mirrored_partners(structures: NDArray[np.floating]) -> NDArray[np.int64]:
    """Which keypoint takes each one's place in a mirrored picture, by where they lie on average: (S, K, 2) -> (K,).

    Each takes one place only, so that of several that lie together each finds a partner.
    """
    from scipy.optimize import linear_sum_assignment  # imported here, for the first page does without SciPy

    mean = structures.mean(0)
    away = np.square(mean[:, None] * [-1, 1] - mean).sum(2)
    partners = linear_sum_assignment(away)[1]
    alone = np.arange(len(mean))
    mutual: NDArray[np.int64] = np.where(partners[partners] == alone, partners, alone)
    return mutual
