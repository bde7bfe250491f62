"""A translator's training data: two views of one subject, from clips or from single pictures bent twice."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from autolink.data.clips import read_clip
from autolink.data.figures import render, sample_identity, sample_pose, sample_scene
from autolink.data.images import ImageSet, load_found
from autolink.data.source import Source
from autolink.device import to_network
from autolink.errors import UserError
from autolink.generation.classes import held_out_pictures
from autolink.losses import similarity
from autolink.video.container import VideoError

FIGURES_TRAIN, FIGURES_TEST, FIGURES_POSES = 3000, 100, 4
FIGURES_SEED = 1
"""Not the people of stage one; the same in every run."""

ALIKE = 0.1
"""Pictures of one identity are of one scene where their thumbnails differ by less than this, in [0, 1] units:
between frames of one clip of a moving head it is 0.01 to 0.09, between clips of one person mostly 0.12 and more."""

THUMBNAIL = 12
"""Side of these thumbnails in pixels."""

COMPARED = 48
"""Side of the pictures, in pixels, that are compared where only their scenes are wanted."""

TRIED = 6
"""Views among which the one is sought that differs most."""

STILL = 0.1
"""Share of the pairs whose views are one and the same: a subject at rest must stay as it is."""


@dataclass(frozen=True)
class Views:
    """Pictures in groups: the frames of a clip, pictures of one scene, or a single picture."""

    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB."""
    starts: NDArray[np.int64]
    """(G,), where each group begins."""
    lengths: NDArray[np.int64]
    """(G,), how many pictures it has."""
    test: NDArray[np.bool_]
    """(G,), held-out groups."""
    skipped: dict[str, str]
    """Files that could not be read, and why."""

    def __len__(self) -> int:
        return len(self.starts)

    def pair(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> "Pairs":
        """Pictures by number; a picture with itself is single, to be bent in two ways."""
        same = torch.from_numpy(sources == targets)
        images = torch.from_numpy(self.images[np.stack([sources, targets])])
        return Pairs(images[0], images[1], same, torch.zeros_like(same))


class Pairs(NamedTuple):
    """Sources and targets of a step, before bending."""

    sources: Tensor
    """(B, size, size, 3), 8-bit."""
    targets: Tensor
    """(B, size, size, 3), 8-bit."""
    bend: Tensor
    """(B,), which are one picture twice, to be bent."""
    still: Tensor
    """(B,), which of these are bent alike."""


def load_views(data: str, size: int) -> Views:
    """Read what `--data` names: `figures`, or a folder of videos, of pictures, or of both.

    Where landmarks.csv has identities, pictures of one person that look alike are views of one scene, like the
    frames of a clip; all other pictures are single.

    Raises:
        UserError: there is nothing to read, or nothing that can be read.
    """
    if data == "figures":
        return rendered_views(FIGURES_TRAIN, FIGURES_TEST, size)
    folder = Path(data)
    source = Source.find(folder, videos=True)
    skipped: dict[str, str] = {}
    found = [_clip_or_none(source, name, size, skipped) for name in source.videos]
    clips = [clip for clip in found if clip is not None]
    if not source.names:
        if not clips:
            name, reason = next(iter(skipped.items()))
            raise UserError(f"none of the videos in {folder} can be read; {name}: {reason}")
        return _grouped(clips, [], skipped)
    pictures = load_found(replace(source, videos=[]), size, "stretch")
    grouped = [(pictures.images[scene], held_out) for scene, held_out in picture_scenes(pictures)]
    return _grouped(clips, grouped, skipped | pictures.skipped)


def picture_scenes(pictures: ImageSet) -> list[tuple[NDArray[np.int64], bool]]:
    """The numbers of the pictures of each scene, and whether it is held out; without identities each is a scene."""
    known, test = pictures.annotation, held_out_pictures(pictures)
    numbers = (
        scenes(np.asarray(pictures.images), known.identity) if known else [np.array([n]) for n in range(len(pictures))]
    )
    return [(scene, bool(test[scene[0]])) for scene in numbers]


def named_scenes(data: str) -> list[tuple[list[str], bool]]:
    """The names of the pictures of each scene of a folder, and whether it is held out; none of a folder of clips."""
    source = Source.find(Path(data), videos=True)
    if not source.names:
        return []
    pictures = load_found(replace(source, videos=[]), COMPARED, "stretch")
    return [([pictures.names[n] for n in scene], held_out) for scene, held_out in picture_scenes(pictures)]


def _clip_or_none(source: Source, name: str, size: int, skipped: dict[str, str]) -> NDArray[np.uint8] | None:
    """The frames of a video, (T, size, size, 3); where it cannot be read, `skipped` says why."""
    try:
        return read_clip(source.path / name, size)
    except VideoError as error:
        skipped[name] = str(error)
        return None


def scenes(images: NDArray[np.uint8], identity: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Numbers of the pictures that show one person in one place, scene by scene.

    Args:
        images: (N, size, size, 3).
        identity: (N,), empty where unknown; such a picture is alone.
    """
    small = np.stack([_thumbnail(image) for image in images])
    found = [np.array([n]) for n in np.flatnonzero(identity == "")]
    for person in np.unique(identity[identity != ""]):
        mine = np.flatnonzero(identity == person)
        apart = squareform(pdist(small[mine], "cityblock")) / small.shape[1]
        _, labels = connected_components(apart < ALIKE, directed=False)
        found += [mine[labels == label] for label in range(labels.max() + 1)]
    return sorted(found, key=lambda scene: int(scene[0]))


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours with little of the shape: (size, size, 3) -> (432,) in [0, 1]."""
    blurred = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(np.asarray(blurred, np.float32).reshape(-1) / 255, np.float32)


def check_views(data: str) -> None:
    """Refuse what `--data` names if there is nothing to read; decodes nothing.

    Raises:
        UserError: no such folder, or neither videos nor pictures in it.
    """
    if data != "figures":
        Source.find(Path(data), videos=True)


def rendered_views(train: int, test: int, size: int) -> Views:
    """Rendered people, each in one place and several poses."""
    people = train + test
    images = np.empty((people * FIGURES_POSES, size, size, 3), np.uint8)
    for n in range(people):
        rng = np.random.default_rng((FIGURES_SEED, n))
        identity, scene = sample_identity(rng), sample_scene(rng)
        for pose in range(FIGURES_POSES):
            images[n * FIGURES_POSES + pose] = render(identity, sample_pose(rng), scene, size).image
    starts = np.arange(people) * FIGURES_POSES
    return Views(images, starts, np.full(people, FIGURES_POSES), np.arange(people) >= train, {})


def _grouped(
    clips: list[NDArray[np.uint8]], scenes: list[tuple[NDArray[np.uint8], bool]], skipped: dict[str, str]
) -> Views:
    """Clips first, then scenes of pictures; of four clips and more every fifth is held out."""
    groups = clips + [pictures for pictures, _ in scenes]
    lengths = np.array([len(group) for group in groups], np.int64)
    test = [n % 5 == 3 for n in range(len(clips))] + [apart for _, apart in scenes]
    return Views(np.concatenate(groups), lengths.cumsum() - lengths, lengths, np.array(test, bool), skipped)


def draw_pairs(
    views: Views,
    groups: NDArray[np.int64],
    batch: int,
    flip: bool,
    rng: np.random.Generator,
    moving: float = 0.0,
) -> Pairs:
    """Two views each of random groups, a group being as likely as it is long.

    In the share `moving` of the pairs, the second view is, of several, the one that differs most from the first.
    """
    share = views.lengths[groups] / views.lengths[groups].sum()
    chosen = rng.choice(groups, batch, p=share)
    lengths = views.lengths[chosen]
    first = (rng.random(batch) * lengths).astype(int)
    other = (first + 1 + (rng.random(batch) * (lengths - 1)).astype(int)) % lengths
    if moving:
        tried = (first + 1 + (rng.random((TRIED, batch)) * (lengths - 1)).astype(int)) % lengths
        starts = views.starts[chosen]
        start = middles(views.images[starts + first])
        apart = np.stack([np.abs(middles(views.images[starts + n]) - start).mean((1, 2)) for n in tried])
        other = np.where(rng.random(batch) < moving, tried[apart.argmax(0), np.arange(batch)], other)
    still = rng.random(batch) < STILL
    second = np.where(still, first, other)
    sources, targets = (views.images[views.starts[chosen] + n] for n in (first, second))
    if flip:
        mirrored = rng.random(batch) < 0.5
        sources[mirrored], targets[mirrored] = sources[mirrored, :, ::-1], targets[mirrored, :, ::-1]
    single_picture = torch.from_numpy(lengths == 1)
    return Pairs(torch.from_numpy(sources), torch.from_numpy(targets), single_picture, torch.from_numpy(still))


def middles(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The middles of pictures, small, grey, and without their brightness: (B, size, size, 3) -> (B, s, s)."""
    border = images.shape[1] // 4
    grey: NDArray[np.float32] = images[:, border : -border or None : 4, border : -border or None : 4].mean(
        3, dtype=np.float32
    )
    level: NDArray[np.float32] = grey.mean((1, 2), keepdims=True)
    return grey - level


def bent(images: Tensor, noise: Tensor) -> Tensor:
    """Turn, scale, shift and bend pictures smoothly, as section 4.5 of the paper does with thin plates.

    Args:
        images: (B, 3, H, W).
        noise: (B, 54), uniform in [-1, 1]: angle, scale, shift (2), and the displacements of 5 x 5 control points.

    Returns:
        (B, 3, H, W), mirrored beyond the border.
    """
    B = len(images)
    matrix = similarity(0.25 * noise[:, 0], 1 + 0.15 * noise[:, 1], *(0.15 * noise[:, 2:4]).T)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=True)
    control = 0.05 * noise[:, 4:].view(B, 2, 5, 5)
    bending = F.interpolate(control, images.shape[2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid + bending, align_corners=True, padding_mode="reflection")


def to_views(pairs: Pairs, device: torch.device, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Sources and targets in [-1, 1], (B, 3, size, size) each, single pictures bent."""
    sources, targets = (to_network(x, device) for x in (pairs.sources, pairs.targets))
    if pairs.bend.any():
        noise = torch.from_numpy(rng.uniform(-1, 1, (2, len(sources), 54)).astype(np.float32)).to(device)
        noise[1] = torch.where(pairs.still[:, None].to(device), noise[0], noise[1])
        bend = pairs.bend.to(device)
        sources[bend], targets[bend] = bent(sources[bend], noise[0, bend]), bent(targets[bend], noise[1, bend])
    return sources, targets


def shown_pairs(views: Views, groups: NDArray[np.int64], count: int) -> Iterator[tuple[int, int]]:
    """Picture numbers (source, target) from some of the groups, the same every time."""
    rng = np.random.default_rng(0)
    for n in range(count if len(groups) else 0):
        group = groups[n % len(groups)]
        first, second = rng.choice(views.lengths[group], 2) if views.lengths[group] > 1 else (0, 0)
        yield int(views.starts[group] + first), int(views.starts[group] + second)
