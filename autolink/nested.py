"""Nested graphs: a parent AutoLink finds the subject, child AutoLinks look at the regions that its keypoints place."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import Self

from autolink.checkpoints import Pretrained
from autolink.device import to_network
from autolink.edge_map import edge_map, edge_pairs
from autolink.errors import UserError
from autolink.inputs import Pictures, check_range, read_pictures
from autolink.model import CARD, AutoLink, ModelConfig
from autolink.pretrained import load_folder, save_folder
from autolink.regions import MeanLayout, composed, from_pixels, inside, moved, seen, square, to_pixels

CHILDREN = "children"
"""The folder in a parent's checkpoint that holds a folder for each child."""

USUAL, LOST = 2.5, 6.0
"""A child is wholly believed if its keypoints stray as those of training pictures do, with a mean squared deviation of
one and of up to the first of these, and not at all from the second on."""
SMALLEST_VARIANCE = 1e-3
"""Variance that every coordinate of a child's keypoints is believed to have at least, in its region's [-1, 1] plane."""


@dataclass(frozen=True)
class ChildConfig(ModelConfig):
    """A child's networks, its region, and the parent that places it."""

    places: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0),)
    """Centre (x, y) and side of each square that it looks at, in the [-1, 1] plane of the parent's mean picture."""
    mirrored: tuple[bool, ...] = (False,)
    """Which of these it sees mirrored: a right eye as a left one."""
    layout_points: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """The parent's mean layout, see `MeanLayout`."""
    layout_weights: tuple[float, ...] = (1.0,)
    parent: str = ""
    """Fingerprint of the parent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("places", "layout_points"):  # JSON gives lists
            object.__setattr__(self, name, tuple(tuple(map(float, point)) for point in getattr(self, name)))
        for name in ("mirrored", "layout_weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.places or len(self.places) != len(self.mirrored):
            raise ValueError("a child needs a place or more, and for each whether it is mirrored")
        if any(len(place) != 3 or not place[2] > 0 for place in self.places):
            raise ValueError(f"a place is a centre x, y and a side above zero, got {self.places}")
        if len(self.layout_points) != len(self.layout_weights):
            raise ValueError("the layout needs a weight for each point")

    @property
    def layout(self) -> MeanLayout:
        """Where the parent's keypoints lie on average."""
        return MeanLayout(self.layout_points, self.layout_weights)

    @property
    def maps(self) -> Tensor:
        """From the region's own [-1, 1] plane to the mean picture, one map for each place: (P, 2, 3), double."""
        return torch.stack([square(*place, flip) for place, flip in zip(self.places, self.mirrored, strict=True)])


class Child(AutoLink):
    """An AutoLink of one region, or of several that look alike."""

    config: ChildConfig
    usual: Tensor
    """(2 K,), its keypoints' mean in training pictures."""
    whitening: Tensor
    """(2 K, 2 K), by which a deviation from it becomes white noise."""

    def __init__(self, config: ChildConfig) -> None:
        super().__init__(config)
        K = config.keypoints
        self.register_buffer("usual", torch.zeros(2 * K))
        self.register_buffer("whitening", torch.zeros(2 * K, 2 * K))

    @classmethod
    def of(cls, model: AutoLink, keypoints: Tensor, places: Sequence[tuple[float, float, float]],
           mirrored: Sequence[bool], layout: MeanLayout, parent: AutoLink) -> "Child":  # fmt: skip
        """A trained model made a child, with what its keypoints (N, K, 2) in training pictures usually look like."""
        networks = {f.name: getattr(model.config, f.name) for f in fields(ModelConfig)}
        child = cls(
            ChildConfig(
                places=tuple(places), mirrored=tuple(mirrored), layout_points=layout.points,
                layout_weights=layout.weights, parent=fingerprint(parent), **networks,
            )
        )  # fmt: skip
        child.load_state_dict(model.state_dict(), strict=False)
        known = keypoints.flatten(1).double()
        covariance = torch.cov(known.T, correction=0) + SMALLEST_VARIANCE * torch.eye(known.shape[1])
        child.usual.copy_(known.mean(0))
        child.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
        return child.eval()

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a child's folder, ready to detect in crops of its region."""
        return load_folder("autolink-child", ChildConfig, cls, folder)

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = False) -> None:
        """Write config.json, model.safetensors and, if there is none, the card; `half` stores 16-bit weights."""
        save_folder("autolink-child", self, self.config, Path(folder), card, half)

    def belief(self, keypoints: Tensor) -> Tensor:
        """How far keypoints can be believed to lie on the region: (..., K, 2) in its plane -> (...) in [0, 1]."""
        white = (keypoints.flatten(-2).double() - self.usual.double()) @ self.whitening.double()
        strange = torch.nan_to_num(white.square().mean(-1), nan=torch.inf)
        return ((LOST - strange) / (LOST - USUAL)).clamp(0, 1).to(keypoints.dtype)


def children_in(folder: Path) -> dict[str, Path]:
    """The folders of a checkpoint's children, by name."""
    return {path.parent.name: path.parent for path in sorted((folder / CHILDREN).glob("*/config.json"))}


def fingerprint(model: AutoLink) -> str:
    """What tells one stage one from another, the same for its weights in half precision."""
    digest = hashlib.sha256()
    for _, value in sorted(model.detector.network.state_dict().items()):
        digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class NestedAutoLink(Pretrained):
    """A parent, and children that look closer: all keypoints in the picture's frame, one graph in blocks.

    The folder holds the parent as any AutoLink, which older readers find, and `children/NAME/` for each child.
    """

    def __init__(self, parent: AutoLink, children: dict[str, Child]) -> None:
        super().__init__()
        self.parent = parent
        self.nested = nn.ModuleDict(children)
        mine = fingerprint(parent)
        for name, child in children.items():
            if child.config.parent != mine or len(child.config.layout_points) != parent.config.keypoints:
                raise UserError(
                    f"the child {name} was trained in another parent; train it in this one with --nest, or use its own"
                )

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder; one without children has none.

        Raises:
            UserError: it is damaged or of another kind, or a child is of another parent.
        """
        return cls.around(AutoLink.from_folder(folder), folder)

    @classmethod
    def around(cls, parent: AutoLink, folder: Path) -> Self:
        """A parent that is loaded, with the children in its folder; errors as in `from_folder`."""
        return cls(parent, {name: Child.from_folder(path) for name, path in children_in(folder).items()}).eval()

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = False) -> None:
        """Write the parent, and each child into a folder of its name."""
        self.parent.save_pretrained(folder, card, half=half)
        for name, child in self.named():
            child.save_pretrained(Path(folder) / CHILDREN / name, card, half=half)

    def named(self) -> list[tuple[str, Child]]:
        """The children and their names, in the order of their keypoints."""
        return [(name, child) for name, child in self.nested.items() if isinstance(child, Child)]

    @property
    def owners(self) -> list[str]:
        """The child's name for each place, in order."""
        return [name for name, child in self.named() for _ in child.config.places]

    def regions(self, points: Tensor) -> Tensor:
        """Where the regions are, by the parent's keypoints in pixels: (B, K, 2) -> (B, P, 2, 3).

        The maps lead from a region's own [-1, 1] plane to pixels, mirrored ones with a turn over.
        """
        maps = [points.new_zeros(len(points), 0, 2, 3)]
        for _, child in self.named():
            layout = child.config.layout.fit(points)
            maps.append(composed(layout[:, None], child.config.maps.to(points)))
        return torch.cat(maps, 1)

    def look(self, images: Tensor, maps: Tensor) -> list[Tensor]:
        """The children's keypoints in their regions' planes, for each place: (B, 3, H, W), (B, P, 2, 3) -> P (B, k, 2).

        The pictures may be larger than what the parent sees; children see all of it.
        """
        found: list[Tensor] = []
        for _, child in self.named():
            for _ in child.config.places:
                found.append(child.keypoints(seen(images, maps[:, len(found)], child.config.size)))
        return found

    def look_from(self, images: Tensor, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """What `look` finds, and the maps, by the parent's keypoints in pixels: (B, K, 2) -> P (B, k, 2), (B, P, 2, 3).

        Where those are not finite, neither are the children's.
        """
        shown = points.isfinite().all(2).all(1)[:, None, None]
        maps = self.regions(torch.where(shown, points.float(), 0))
        return [place.where(shown, torch.nan) for place in self.look(images, maps)], maps

    def beliefs(self, found: list[Tensor], maps: Tensor, width: int, height: int) -> Tensor:
        """How far each place's keypoints can be believed: (B, P) in [0, 1]; less where a region leaves the picture."""
        own = [self._child(n).belief(points) for n, points in enumerate(found)]
        belief = torch.stack(own, 1) if own else maps.new_zeros(len(maps), 0)
        return belief * inside(maps, width, height).to(belief)

    @torch.no_grad()
    def detect(self, images: Pictures | Tensor) -> Tensor:
        """Find all keypoints of pictures or of a tensor, as `AutoLink.detect`: (N, K + k + ..., 2), (x, y) in [-1, 1].

        Raises:
            UserError: a picture cannot be read, or a tensor is not in [-1, 1].
        """
        if isinstance(images, Tensor):
            check_range(images)
            return self.keypoints(images)
        device = self.parent.edge_logits.device
        pictures = [to_network(torch.from_numpy(picture[None]), device) for picture in read_pictures(images)]
        return torch.cat([self.keypoints(picture) for picture in pictures])

    def keypoints(self, images: Tensor) -> Tensor:
        """All keypoints, differentiable: (B, 3, H, W) in [-1, 1] -> (B, K + k + ..., 2), (x, y) in [-1, 1].

        First the parent's, then each place's, child by child.
        """
        height, width = images.shape[2:]
        keypoints = self.parent.keypoints(images)
        maps = self.regions(to_pixels(keypoints, width, height))
        found = [moved(maps[:, n], points) for n, points in enumerate(self.look(images, maps))]
        return torch.cat([keypoints, *(from_pixels(points, width, height) for points in found)], 1)

    @property
    def blocks(self) -> list[tuple[int, AutoLink, float]]:
        """First keypoint, network and scale of each block of the graph: the parent, then each place."""
        blocks: list[tuple[int, AutoLink, float]] = [(0, self.parent, 1.0)]
        start = self.parent.config.keypoints
        for _, child in self.named():
            for _, _, side in child.config.places:
                blocks.append((start, child, side / 2))
                start += child.config.keypoints
        return blocks

    @property
    def pairs(self) -> Tensor:
        """The pairs of keypoints that may be linked: (2, E), within the parent and within each place."""
        return torch.cat([edge_pairs(model.config.keypoints) + start for start, model, _ in self.blocks], 1)

    @property
    def edge_weights(self) -> Tensor:
        """The graph: (E,), above zero, one for each of `pairs`."""
        return torch.cat([model.edge_weights for _, model, _ in self.blocks])

    def draw(self, keypoints: Tensor, size: int | None = None) -> Tensor:
        """Draw the whole graph at given keypoints: (B, K + k + ..., 2) -> (B, 1, size, size), the parent's by default.

        A child's edges are as thin as its region is small, on the mean picture.
        """
        drawn = [
            edge_map(
                keypoints[:, start : start + model.config.keypoints], model.edge_weights,
                size or self.parent.config.size, model.config.thickness * scale**2,
            )
            for start, model, scale in self.blocks
        ]  # fmt: skip
        return torch.stack(drawn).amax(0)

    def edge_map(self, images: Tensor) -> Tensor:
        """Draw the graph found on images: (B, 3, H, W) in [-1, 1] -> (B, 1, size, size), not negative."""
        return self.draw(self.keypoints(images))

    def _child(self, place: int) -> Child:
        return dict(self.named())[self.owners[place]]
