"""Transfer with children: what moves inside a region is redrawn from its own pixels and laid into the parent's result.

The parent moves the head, a child the lips or an eye within the region that moves along with the head. A child's
keypoints are told in its region's own [-1, 1] plane, so another face shape keeps its own mouth.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autolink.errors import UserError
from autolink.generation.translator import Translation, Translator, translate
from autolink.generation.translator_config import TranslatorConfig
from autolink.model import AutoLink
from autolink.nested import CHILDREN, Child, NestedAutoLink, children_in
from autolink.pretrained import load_folder, save_folder
from autolink.regions import composed, inverted, moved, scale_of, seen, similarity, to_pixels
from autolink.video.following import filled
from autolink.video.motion import smooth

ANSWER = {"mouth": 1.4, "eyes": 1.2}
"""By the child's name, how many times larger the driver's expression is told than it is, once if it is not named: a
translator answers less to another's than to the source's own (measured on people never seen)."""
HALVINGS = 6
"""Steps in which it is sought how far an expression can be driven."""
LIKE = 5
"""Frames of the driver most like the source whose mean stands for the source's own expression."""
STEADY = 2.0
"""Frames (deviation of a Gaussian) over which a region fades out and in as its child loses it and finds it again."""
SURE = 0.5
"""Belief from which a region is laid in wholly: half transparent, its lips are seen beside the parent's."""
SOFT = 0.35
"""Width of the soft border of a region laid into a picture, as a share of its half side."""


class Details(NamedTuple):
    """What the children see in T pictures, place by place."""

    keypoints: list[Tensor]
    """P tensors (T, k, 2), in the regions' own [-1, 1] planes."""
    beliefs: Tensor
    """(T, P) in [0, 1], how far these can be believed."""

    @classmethod
    def joined(cls, parts: Sequence["Details"]) -> "Details | None":
        """One after the other, None of none; frames that show nothing take what the nearest before them shows."""
        if not parts:
            return None
        tracks = [torch.cat(place) for place in zip(*(part.keypoints for part in parts), strict=True)]
        whole = [torch.from_numpy(filled(points.cpu().numpy())).to(points) for points in tracks]
        return cls(whole, torch.cat([part.beliefs for part in parts]))

    def smoothed(self, strength: float) -> "Details":
        """The keypoints smoothed over time, see `autolink.video.motion.smooth`."""
        tracks = [torch.from_numpy(smooth(points.cpu().numpy(), strength)).to(points) for points in self.keypoints]
        return Details(tracks, self.beliefs)

    def likest(self, source: "Details") -> "Details":
        """Of each place, the few frames that stand for the source's expression."""
        tracks = zip(source.keypoints, self.keypoints, self.beliefs.T, strict=True)
        rows = [likest(own, track, belief) for own, track, belief in tracks]
        beliefs = torch.stack([self.beliefs[row, n] for n, row in enumerate(rows)], 1)
        return Details([track[row] for track, row in zip(self.keypoints, rows, strict=True)], beliefs)

    def part(self, frames: slice) -> "Details":
        """Those of some of the pictures."""
        return Details([points[frames] for points in self.keypoints], self.beliefs[frames])


class LocalSource(NamedTuple):
    """Who is redrawn, as the children need it."""

    picture: Tensor
    """(1, 3, H, H) in [-1, 1], the redrawn square."""
    points: Tensor
    """(1, K, 2), the parent's keypoints in its pixels."""
    details: Details


class LocalTransfer(nn.Module):
    """The children of a transfer: who sees a region's expression, and the translators that redraw it."""

    def __init__(self, stage_one: NestedAutoLink, translators: dict[str, Translator]) -> None:
        super().__init__()
        lacking = sorted(set(translators) - {name for name, _ in stage_one.named()})
        if lacking:
            raise UserError(f"there is a translator for the child {lacking[0]}, but the stage one has no such child")
        self.stage_one = stage_one.requires_grad_(False)
        self.translators = nn.ModuleDict(translators)

    @classmethod
    def beside(cls, stage_one: AutoLink, folder: Path) -> "LocalTransfer | None":
        """The children of a transfer's checkpoint folder, `children/NAME/` beside `stage_one/`; None without any.

        Raises:
            UserError: one is damaged, or belongs to another stage one.
        """
        found = children_in(folder)
        if not found:
            return None
        nested = NestedAutoLink.around(stage_one, folder / "stage_one")
        translators = {
            name: load_folder("transfer", TranslatorConfig, Translator, path) for name, path in found.items()
        }
        return cls(nested, translators).eval()

    def save_pretrained(self, folder: Path, card: str, half: bool) -> None:
        """Write the children and their translators into a transfer's checkpoint folder."""
        for name, child in self.stage_one.named():
            child.save_pretrained(folder / "stage_one" / CHILDREN / name, half=half)
        for name, translator in self._named().items():
            save_folder("transfer", translator, translator.config, folder / CHILDREN / name, card, half)

    def parts(self) -> tuple[dict[str, Child], dict[str, Translator]]:
        """The children and their translators by name."""
        return dict(self.stage_one.named()), self._named()

    def _named(self) -> dict[str, Translator]:
        return {name: part for name, part in self.translators.items() if isinstance(part, Translator)}

    @torch.no_grad()
    def look(self, pictures: Tensor, points: Tensor) -> Details:
        """What the children see: (T, 3, H, W) in [-1, 1], the parent's keypoints (T, K, 2) in their pixels.

        Where those are not finite, neither are the children's, and they are not believed.
        """
        height, width = pictures.shape[2:]
        found, maps = self.stage_one.look_from(pictures, points)
        return Details(found, self.stage_one.beliefs(found, maps, width, height))

    def wanted(self, source: Details, driver: Details, gains: Mapping[str, float], relative: bool = True) -> Details:
        """The expressions to redraw the source in, for every frame of the driver.

        Args:
            source: one picture.
            driver: T frames.
            gains: by the child's name, how much of the driver's expression: 0 none, 1 all of it, more exaggerates.
            relative: the source's keypoints move as the driver's move away from those of its frames that are most like
                the source; else they are the driver's.
        """
        owners, children = self.stage_one.owners, dict(self.stage_one.named())
        changes: list[Tensor] = []
        for own, track, belief in zip(source.keypoints, driver.keypoints, driver.beliefs.T, strict=True):
            changes.append(track - (like_source(own, track, belief) if relative else own))
        wanted: list[Tensor] = []
        for name, own, change in zip(owners, source.keypoints, changes, strict=True):
            gain = gains.get(name, 1.0)
            if relative:  # both of a pair go up and down alike: of a head that turns, one eye looks half closed
                pair = [other for other, owner in zip(changes, owners, strict=True) if owner == name]
                change = torch.stack([change[..., 0], torch.stack(pair).mean(0)[..., 1]], -1)
                gain *= ANSWER.get(name, 1.0)
            wanted.append(believable(children[name], own, gain * change))
        steady = torch.from_numpy(smooth(driver.beliefs.cpu().numpy(), STEADY)).to(driver.beliefs).clamp(0, 1)
        beliefs = torch.minimum(steady, driver.beliefs.sqrt()) * source.beliefs
        return Details(wanted, (beliefs / SURE).clamp(max=1))

    @torch.no_grad()
    def compose(
        self,
        results: Tensor,
        translation: Translation,
        source: "LocalSource",
        wanted: Details,
        amp: torch.dtype | None = None,
    ) -> Tensor:
        """Lay the regions, redrawn, into the parent's results: (B, 3, H, H) -> (B, 3, H, H), in [-1, 1].

        Args:
            results: what the parent drew.
            translation: how; its flow tells where the regions went.
            source: who is redrawn.
            wanted: the expressions of these B frames.
            amp: what the translators compute in, if not in full precision; places need that.
        """
        maps = self.stage_one.regions(source.points)[0]
        for n, name in enumerate(self.stage_one.owners):
            share = wanted.beliefs[:, n]
            if name in self.translators and share.any():
                place = composed(carried(translation, maps[n], results.shape[-1]), maps[n])
                points = source.details.keypoints[n], wanted.keypoints[n]
                results = laid(results, self._redrawn(name, source.picture, maps[n], *points, amp), place, share)
        return results

    def _redrawn(
        self, name: str, source: Tensor, place: Tensor, keypoints: Tensor, wanted: Tensor, amp: torch.dtype | None
    ) -> Tensor:
        """A region of the source in other expressions: (1, k, 2), (B, k, 2) -> (B, 3, side, side)."""
        translator = self._named()[name]
        child = dict(self.stage_one.named())[name]
        side = max(translator.config.size, min(256, round(float(scale_of(place)) * 2)))
        small, large = (seen(source, place[None], size)[None] for size in (translator.config.size, side))
        with torch.autocast(source.device.type, amp, enabled=amp is not None):
            drawn, _ = translate(child, translator, small, keypoints[None], wanted)
        return drawn.on(large)


def believable(child: Child, own: Tensor, change: Tensor) -> Tensor:
    """Keypoints changed as far as the child has seen any: (1, k, 2), (T, k, 2) -> (T, k, 2).

    Keypoints that no face has would tear one; what the source itself shows is always allowed.
    """
    allowed = torch.minimum(child.belief(own), own.new_tensor(0.999))
    low, high = change.new_zeros(len(change)), change.new_ones(len(change))
    whole = child.belief(own + change) >= allowed
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fine = child.belief(own + middle[:, None, None] * change) >= allowed
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return own + torch.where(whole, 1.0, low)[:, None, None] * change


def like_source(own: Tensor, track: Tensor, beliefs: Tensor) -> Tensor:
    """The driver's expression that stands for the source's: (1, k, 2), (T, k, 2), (T,) -> (k, 2).

    The mean of the few believed frames most like it, wherever the region lies in its square.
    """
    return track[likest(own, track, beliefs)].mean(0)


def likest(own: Tensor, track: Tensor, beliefs: Tensor) -> Tensor:
    """The few believed frames most like the source: (1, k, 2), (T, k, 2), (T,) -> their numbers, the likest first."""
    away = (track - track.mean(1, keepdim=True) - own + own.mean(1, keepdim=True)).square().sum((1, 2))
    away = away + (1 - beliefs) * 1e3
    return away.argsort()[:LIKE]


def carried(translation: Translation, region: Tensor, side: int) -> Tensor:
    """How the parent moved a region of the source: the similarity from source to result, in pixels: (B, 2, 3).

    Fitted to the parent's own flow where that shows the region.
    """
    flow = translation.flow[:, 0].float()  # (B, m, m, 2), where each pixel of the result comes from
    B, m = flow.shape[:2]
    axis = torch.linspace(-1, 1, m, device=flow.device)
    grid = torch.cartesian_prod(axis, axis).flip(1).expand(B, m * m, 2)
    origin, target = (to_pixels(points, side, side) for points in (flow.reshape(B, m * m, 2), grid))
    within = moved(inverted(region), origin).square().sum(-1)
    weights = (-2 * within).exp() * (within < 2)
    found = similarity(origin, target, weights)
    still = torch.eye(2, 3, device=flow.device).expand(B, 2, 3)
    return torch.where(weights.sum(1)[:, None, None] > 1, found, still)


def laid(pictures: Tensor, patches: Tensor, maps: Tensor, share: Tensor) -> Tensor:
    """Lay soft-edged patches into pictures: (B, 3, H, W), (B, 3, s, s), region planes to pixels (B, 2, 3), (B,)."""
    H, W = pictures.shape[2:]
    corners = moved(maps, maps.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]])).reshape(-1, 2)
    left, top = (max(0, int(v)) for v in corners.amin(0).floor().tolist())
    right, bottom = (min(size, int(v) + 1) for v, size in zip(corners.amax(0).ceil().tolist(), (W, H), strict=True))
    if left >= right or top >= bottom:
        return pictures
    x, y = (torch.arange(a, b, dtype=maps.dtype, device=maps.device) for a, b in ((left, right), (top, bottom)))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    places = moved(inverted(maps), grid.view(1, -1, 2)).view(len(maps), *grid.shape)
    layer = F.grid_sample(patches, places.to(patches.dtype), "bilinear", "border", align_corners=True)
    opacity = soft_edge(places)[:, None].to(pictures.dtype) * share.view(-1, 1, 1, 1).to(pictures.dtype)
    below = pictures[:, :, top:bottom, left:right]
    result = pictures.clone()
    result[:, :, top:bottom, left:right] = below + opacity * (layer - below)
    return result


def soft_edge(places: Tensor) -> Tensor:
    """How much of a patch shows at places of its plane: (..., 2) -> (...), 1 inside, 0 from the border on, round."""
    t = ((1 - places.pow(4).sum(-1).pow(0.25)) / SOFT).clamp(0, 1)
    return t * t * (3 - 2 * t)
