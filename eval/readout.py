"""What keypoints know of mouth and eyes: openings read from them by ridge regression, on people not fitted on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.device import to_network
from autolink.errors import UserError
from autolink.eval.clips import load_clips
from autolink.eval.expression import FEWEST, HARDLY, NETWORKS, following
from autolink.eval.mediapipe import FaceJudge
from autolink.eval.results import Figure, data_name
from autolink.nested import NestedAutoLink
from autolink.regions import to_pixels

Array = NDArray[Any]

SIZE = 256
"""Side in pixels of the frames that judge and stage one see."""
FOLDS = 5
STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)
"""Of the ridge, on standardised features."""

PROTOCOL = (
    "Every fifth person in the order of their names is held out (clips `anna_1` and `anna_2` show one). Ridge "
    "regression from keypoints to the opening that the judge sees is fitted on the others: from the parent's keypoints "
    "about their centre and over their radius, a child's in its region, or all of them, with or without products of "
    "two coordinates; which, and the ridge's strength, by cross-validation over the people fitted on. R2 in the "
    "clips of the people held out, opening and readout each about its own mean over a clip, all clips summed before "
    f"dividing; of the correlation, clips whose opening has a standard deviation below {HARDLY} are left out."
)


class Frames(NamedTuple):
    """What is known of the frames of all clips that show a face."""

    blocks: dict[str, Array]
    """Coordinates (N, D) of the keypoints of the parent and of each child, by name."""
    openings: dict[str, Array]
    """Of mouth and eyes, (N,)."""
    clips: Array
    """(N,), name of the clip."""
    people: Array
    """(N,), whom it shows."""
    skipped: tuple[str, ...] = ()
    """Clips that show too few faces."""


@torch.no_grad()
def keypoint_blocks(model: NestedAutoLink, pictures: Array, device: torch.device) -> dict[str, Array]:
    """The keypoints of square pictures (T, H, W, 3) without place and size of the head, by the network that finds them.

    The parent's are centred and divided by their radius, a child's are told in its region's own plane.
    """
    images = to_network(torch.from_numpy(np.array(pictures, order="C")), device)
    height, width = images.shape[2:]
    keypoints = model.parent.keypoints(images)
    maps = model.regions(to_pixels(keypoints, width, height))
    centred = keypoints - keypoints.mean(1, keepdim=True)
    radius = centred.square().sum(2).mean(1).sqrt().clamp(min=1e-6)
    blocks = {"parent": [centred / radius[:, None, None]]}
    for name, points in zip(model.owners, model.look(images, maps), strict=True):
        blocks.setdefault(name, []).append(points)
    return {name: torch.cat([p.flatten(1) for p in parts], 1).cpu().double().numpy() for name, parts in blocks.items()}


def read_frames(
    model: NestedAutoLink, data: str, count: int, judge: FaceJudge, device: torch.device, show: Callable[[], object]
) -> Frames:
    """Keypoints and openings of at most `count` frames of each clip of a folder of videos.

    Raises:
        UserError: as `load_clips`, or no face is found.
    """
    found: list[tuple[dict[str, Array], Array, str, str]] = []
    skipped: list[str] = []
    for clip in load_clips(data, 10**9, count, SIZE, 0):
        pictures = clip.frames[:, 0]
        faces = [judge.look(picture) for picture in pictures]
        seen = [n for n, face in enumerate(faces) if face]
        if len(seen) >= FEWEST:
            openings = np.array([[face.mouth, face.eyes] for face in faces if face])
            found.append((keypoint_blocks(model, pictures[seen], device), openings, clip.name, clip.shows))
        else:
            skipped.append(clip.name)
        show()
    if not found:
        raise UserError(f"--data {data}: no clip shows a face in {FEWEST} frames; give videos of heads")
    blocks = {name: np.concatenate([part[0][name] for part in found]) for name in found[0][0]}
    openings = np.concatenate([part[1] for part in found])
    counts = [len(part[1]) for part in found]
    clips, people = (np.repeat(names, counts) for names in ([part[2] for part in found], [part[3] for part in found]))
    return Frames(blocks, {"mouth": openings[:, 0], "eyes": openings[:, 1]}, clips, people, tuple(skipped))


def held_out(people: Array) -> Array:
    """Every fifth person in the order of their names, as training holds out clips: (N,) -> (N,) true or false."""
    return np.isin(people, np.unique(people)[3::5])


def within_clips(values: Array, clips: Array) -> Array:
    """Values (N,) less the mean of their clip."""
    _, member = np.unique(clips, return_inverse=True)
    means = np.bincount(member, values) / np.bincount(member)
    centred: Array = values - means[member]
    return centred


def r2_within_clips(truth: Array, readout: Array, clips: Array) -> float:
    """Share of the variance within clips that a readout explains: 1 all of it, 0 no more than each clip's mean."""
    wanted, told = within_clips(truth, clips), within_clips(readout, clips)
    whole = float(wanted @ wanted)
    return 1 - float((wanted - told) @ (wanted - told)) / whole if whole > 0 else float("nan")


def with_products(features: Array) -> Array:
    """Features (N, D) and the products of every two."""
    i, j = np.triu_indices(features.shape[1])
    return np.concatenate([features, features[:, i] * features[:, j]], 1)


def ridge(features: Array, truth: Array, strength: float, products: bool) -> Callable[[Array], Array]:
    """Ridge regression on standardised features (N, D), with a free bias; what reads the truth from others."""
    mean, spread = features.mean(0), features.std(0) + 1e-6

    def prepared(values: Array) -> Array:
        standard = (values - mean) / spread
        return with_products(standard) if products else standard

    known = prepared(features)
    centre, level = known.mean(0), truth.mean()
    known = known - centre
    if known.shape[1] <= len(known):
        weights = np.linalg.solve(known.T @ known + strength * np.eye(known.shape[1]), known.T @ (truth - level))
    else:
        weights = known.T @ np.linalg.solve(known @ known.T + strength * np.eye(len(known)), truth - level)
    return lambda values: np.asarray((prepared(values) - centre) @ weights + level)


class Readout(NamedTuple):
    """What a ridge read on people that it was not fitted on."""

    r2: float
    correlations: list[float]
    """Of the clips that move."""
    left_out: int
    """Clips that hardly move."""
    source: str
    """Which keypoints it reads."""


def choices(blocks: dict[str, Array]) -> Iterator[tuple[str, Array, bool]]:
    """What an opening may be read from: name, features (N, D), and whether products are taken."""
    for name, values in blocks.items():
        yield name, values, False
        yield f"{name} with products", values, True
    if len(blocks) > 1:
        yield "all", np.concatenate(list(blocks.values()), 1), False


def read_opening(frames: Frames, part: str, test: Array) -> Readout:
    """Fit on some people, choose by cross-validation among them, read on the others; `test` is (N,) true or false."""
    truth, train = frames.openings[part], ~test
    people = frames.people[train]
    folds = np.searchsorted(np.unique(people), people) % FOLDS

    def validated(features: Array, products: bool, strength: float) -> float:
        told = np.empty(len(people))
        for n in np.unique(folds):
            fitted = ridge(features[train][folds != n], truth[train][folds != n], strength, products)
            told[folds == n] = fitted(features[train][folds == n])
        return r2_within_clips(truth[train], told, frames.clips[train])

    tried = [
        (validated(features, products, strength), name, features, products, strength)
        for name, features, products in choices(frames.blocks)
        for strength in STRENGTHS
    ]
    _, name, features, products, strength = max(tried, key=lambda choice: choice[0])
    told = ridge(features[train], truth[train], strength, products)(features[test])
    clips = frames.clips[test]
    followed = [following(truth[test][clips == c], told[clips == c]) for c in np.unique(clips)]
    correlations = [f.correlation for f in followed if f.correlation is not None]
    return Readout(r2_within_clips(truth[test], told, clips), correlations, len(followed) - len(correlations), name)


def readout_figures(frames: Frames, data: str, seed: int) -> Iterator[Figure]:
    """R2 within clips and median correlation of mouth and eyes.

    Raises:
        UserError: there are too few people.
    """
    test = held_out(frames.people)
    people = len(np.unique(frames.people))
    if people < 2 * FOLDS:
        raise UserError(
            f"--data {data} shows {people} people's faces; at least {2 * FOLDS} are needed to read openings"
        )
    fitted, tested = (len(np.unique(frames.clips[rows])) for rows in (~test, test))
    made = partial(Figure, data=data_name(data), better="higher", group="Openings read from the keypoints",
                   measured_by=NETWORKS, seed=seed)  # fmt: skip
    for part in frames.openings:
        found = read_opening(frames, part, test)
        yield made(
            f"{part}_r2", f"{part.capitalize()} opening, R2 within clips", found.r2, count=int(test.sum()),
            samples=f"frames of {tested} clips of people held out, fitted on {fitted} clips, read from {found.source}",
            headline=True, protocol=PROTOCOL,
        )  # fmt: skip
        yield made(
            f"{part}_correlation", f"{part.capitalize()} opening, median correlation",
            float(np.median(found.correlations)) if found.correlations else None, count=len(found.correlations),
            samples=f"of these clips, {found.left_out} left out whose {part} hardly moves",
            protocol=PROTOCOL,
        )  # fmt: skip
