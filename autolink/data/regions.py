"""Regions to learn from: of pictures and videos, placed by a parent's keypoints, or the same in all pictures."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autolink.data.clips import FRAMES_PER_CLIP
from autolink.data.images import CroppedPictures, ImageSet
from autolink.data.picture import square, squares
from autolink.data.picture import to_pixels as picture_pixels
from autolink.data.source import Source
from autolink.device import to_network
from autolink.errors import UsageError, UserError
from autolink.model import AutoLink
from autolink.nested import NestedAutoLink
from autolink.pictures import PictureError
from autolink.regions import MeanLayout, composed, seen
from autolink.regions import square as region_square
from autolink.video import files as video
from autolink.video.container import VideoError
from autolink.video.following import follow
from autolink.video.layout import Layout
from autolink.video.subject import Detect, find_subject

PICTURES_AT_ONCE = 64

MEASURED = 4000
"""Pictures at most that say where keypoints lie on average."""


@dataclass(frozen=True)
class Region:
    """Squares of the parent's mean picture that one child looks at; or, without parent, a square of every picture."""

    name: str
    places: tuple[tuple[float, float, float], ...]
    """Centre (x, y) and side of each, in its [-1, 1] plane."""
    mirrored: tuple[bool, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Region":
        """What --region says, once for each place: `eyes=-0.33,-0.36,0.55` and `eyes=0.28,-0.38,0.55,mirrored`.

        Raises:
            UsageError: a text is no region, or they have several names.
        """
        names, places, mirrored = set(), [], []
        for text in texts:
            name, _, numbers = text.partition("=")
            parts = numbers.split(",")
            flip = parts[-1].strip() == "mirrored"
            try:
                x, y, side = (float(part) for part in parts[: len(parts) - flip])
            except ValueError:
                x = y = side = math.nan
            if not name.isidentifier() or not (math.isfinite(x + y) and 0 < side < math.inf):
                raise UsageError(
                    f"--region is NAME=x,y,side or NAME=x,y,side,mirrored, for instance mouth=0,0.4,0.9; got {text!r}"
                )
            names.add(name)
            places.append((x, y, side))
            mirrored.append(flip)
        if len(names) != 1:
            raise UsageError(f"--region: one child is trained at a time, got {', '.join(sorted(names)) or 'none'}")
        return cls(names.pop(), tuple(places), tuple(mirrored))

    def check_within(self) -> None:
        """Refuse what cannot be looked at in all pictures alike.

        Raises:
            UsageError: there are several places, or it is mirrored or not within the picture.
        """
        (x, y, side), *others = self.places
        if others or self.mirrored[0] or max(abs(x), abs(y)) + side / 2 > 1:
            raise UsageError(
                f"--region {self.name}=x,y,side: without --nest it is one square within the picture, which is -1 to 1, "
                "and not mirrored"
            )

    @property
    def maps(self) -> Tensor:
        """From the region's own plane to the mean picture: (P, 2, 3), double."""
        pairs = zip(self.places, self.mirrored, strict=True)
        return torch.stack([region_square(*place, mirrored) for place, mirrored in pairs])


@dataclass(frozen=True)
class Placed:
    """A picture, or a clip's frames, with the parent's keypoints."""

    name: str
    frames: list[NDArray[np.uint8]]
    """(H, W, 3) each."""
    points: NDArray[np.floating]
    """(T, K, 2), (x, y) in pixels."""


def placed_pictures(
    parent: AutoLink, data: Path, device: torch.device, skipped: dict[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Placed]:  # fmt: skip
    """The pictures of a folder or zip one by one, then its videos, found and followed as a transfer does.

    What cannot be read or shows no subject is told in `skipped`.
    """
    source = Source.find(data, videos=True)
    config, total = parent.config, len(source.names) + len(source.videos)

    @torch.no_grad()
    def detect(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        return parent.keypoints(to_network(torch.from_numpy(crops), device)).cpu().numpy()

    parent.to(device).eval()
    known: list[NDArray[np.floating]] = []
    for start in range(0, len(source.names), PICTURES_AT_ONCE):
        names = source.names[start : start + PICTURES_AT_ONCE]
        pictures = {name: picture for name in names if (picture := _picture_or_none(source, name, skipped))}
        if pictures:
            found = detect(np.stack([square(picture, config.size, config.fit) for picture in pictures.values()]))
            known.append(found)
            for (name, picture), keypoints in zip(pictures.items(), found, strict=True):
                points = picture_pixels(keypoints, *picture.size, config.fit)
                yield Placed(name, [np.asarray(picture)], points[None])
        if progress:
            progress(min(start + PICTURES_AT_ONCE, len(source.names)), total)
    layout: Layout | None = None
    for n, name in enumerate(source.videos, len(source.names)):
        try:
            frames = video.spread_frames(source.path / name, FRAMES_PER_CLIP)
            if layout is None:
                layout = _framing(parent, detect, known, frames)
            track = _followed(frames, detect, layout, config.size)
        except VideoError as error:
            skipped[name] = str(error)
        else:
            if track is None:
                skipped[name] = "the parent finds no subject in it"
            else:
                yield Placed(name, frames, track)
        if progress:
            progress(n + 1, total)


def _picture_or_none(source: Source, name: str, skipped: dict[str, str]) -> Image.Image | None:
    """A picture; where it cannot be read, `skipped` says why."""
    try:
        return source.picture(name)
    except PictureError as error:
        skipped[name] = str(error)
        return None


def _framing(
    parent: AutoLink, detect: Detect, known: list[NDArray[np.floating]], frames: list[NDArray[np.uint8]]
) -> Layout:
    """How the parent's subjects are framed: in the pictures, or where there are none, in a clip's central squares."""
    if not known:
        known = [detect(squares(frames, parent.config.size, "crop"))]
    return Layout.measure(np.concatenate(known)[:MEASURED], parent.edge_weights.detach().cpu().numpy())


def _followed(
    frames: list[NDArray[np.uint8]], detect: Detect, layout: Layout, size: int
) -> NDArray[np.floating] | None:
    """Keypoints in pixels of all frames, None if the first ones show no subject."""
    for n in np.unique(np.linspace(0, len(frames) - 1, 5).astype(int)):
        subject = find_subject(frames[n], detect, layout, size)
        if subject.settled:
            return np.stack([frame.keypoints for frame in follow(frames, detect, layout, subject.crop, size)])
    return None


def mean_layout(placed: Iterable[Placed]) -> MeanLayout:
    """Where the parent's keypoints lie on average, in pictures whose longer side is the [-1, 1] plane."""
    scaled: list[NDArray[np.floating]] = []
    for one in placed:
        height, width = one.frames[0].shape[:2]
        scaled.append((one.points - [(width - 1) / 2, (height - 1) / 2]) * 2 / max(width, height))
        if sum(map(len, scaled)) > MEASURED:
            break
    if not scaled:
        raise UserError("nothing in --data shows a subject that the parent of --nest knows")
    return MeanLayout.measure(torch.from_numpy(np.concatenate(scaled)))


def cut(placed: Placed, layout: MeanLayout, region: Region, size: int) -> list[NDArray[np.uint8]]:
    """A region's crops, for each place: P arrays (T, size, size, 3)."""
    maps = layout.fit(torch.from_numpy(placed.points).double())
    crops: list[list[NDArray[np.uint8]]] = [[] for _ in region.places]
    for frame, where in zip(placed.frames, maps, strict=True):
        picture = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float()
        for place, inner in zip(crops, region.maps, strict=True):
            crop = seen(picture, composed(where, inner)[None], size)[0]
            place.append(crop.permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
    return [np.stack(place) for place in crops]


class RegionCrops(NamedTuple):
    """A region in all pictures and clips of a folder."""

    groups: list[NDArray[np.uint8]]
    """(T, size, size, 3) each: a picture, or a clip's frames, once for each place."""
    names: list[str]
    """Where each group came from."""
    layout: MeanLayout
    skipped: dict[str, str]


def region_crops(
    nested: NestedAutoLink, data: Path, region: Region, size: int, device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> RegionCrops:  # fmt: skip
    """Crop a region of everything in a folder or zip, by the parent's keypoints.

    Raises:
        UserError: there is nothing in it, or nothing that shows a subject which the parent knows.
    """
    parent, skipped = nested.parent, dict[str, str]()
    children = nested.named()
    known = [child.config.layout for _, child in children]  # one mean picture for all regions of a parent
    layout = known[0] if known else mean_layout(placed_pictures(parent, data, device, {}))
    groups, names = [], []
    for placed in placed_pictures(parent, data, device, skipped, progress):
        for crops in cut(placed, layout, region, size):
            groups.append(crops)
            names.append(placed.name)
    if not groups:
        name, reason = next(iter(skipped.items()))
        raise UserError(f"nothing in {data} shows a subject that the parent of --nest knows; {name}: {reason}")
    return RegionCrops(groups, names, layout, skipped)


def region_images(crops: RegionCrops) -> ImageSet:
    """The crops as pictures to train stage one on."""
    names = [f"{name}#{n}" for name, group in zip(crops.names, crops.groups, strict=True) for n in range(len(group))]
    return ImageSet(np.concatenate(crops.groups), names, None, crops.skipped)


def same_region(region: Region, size: int, load: Callable[[int], ImageSet]) -> ImageSet:
    """A region that `check_within` takes, size x size pixels, of all pictures, which `load` reads at a given size."""
    ((x, y, side),) = region.places
    whole = round(size * 2 / side)
    corner = np.array([min(whole - size, round((v - side / 2 + 1) / 2 * whole)) for v in (x, y)])
    data = load(whole)
    annotation = data.annotation
    if annotation:  # -1 and 1 are the centres of the outermost pixels
        half = (size - 1) / (whole - 1)
        centre = (2 * corner + size - 1) / (whole - 1) - 1
        annotation = replace(
            annotation, landmarks=((annotation.landmarks - centre) / half).astype(np.float32),
            pixels=(annotation.pixels * half).astype(np.float32),
        )  # fmt: skip
    left, top = corner.tolist()
    return replace(data, images=CroppedPictures(data.images, left, top, size), annotation=annotation)
