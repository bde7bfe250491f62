"""Finding and following the subject by the learned keypoints: square crops framed as the detector was trained."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.video.crop import Crop
from autolink.video.layout import Layout
from autolink.video.motion import radius, smooth, smoothing_reach

Image = NDArray[np.uint8]
Detect = Callable[[Image], NDArray]
"""Square crops (n, size, size, 3), RGB -> keypoints (n, K, 2), (x, y) in [-1, 1] of each crop."""
Step = tuple[float, float, float]
"""Where a subject is: its centroid (x, y) and the logarithm of its radius, in pixels."""

ROUNDS = 10
"""Looks that a crop gets to settle."""
STRETCH = 1.5
"""How much larger or smaller a crop may become from one look to the next."""
SMALLEST = 16.0
"""Side in pixels below which no crop goes."""
JITTER = ((0, 0, 1), (0.1, 0, 1), (-0.1, 0, 1), (0, 0.1, 1), (0, -0.1, 1), (0, 0, 0.88), (0, 0, 1.14))
"""Shifts, in sides, and scales of the crops whose keypoints must agree."""
DOUBT_AT_ONCE, DOUBT = 0.2, 0.1
"""Doubt below which there is a subject, from the central square and from one of many squares: the best of many looks
good by chance more easily."""
PROMISING = 6
"""Squares all over a picture that are looked at more closely: those whose keypoints have the likeliest shapes."""


class Subject(NamedTuple):
    """What `find_subject` found."""

    crop: Crop
    settled: bool
    """Whether a subject was found; if not, the crop is the picture's central square."""
    doubt: float
    """How far keypoints of shifted and scaled crops lie apart, in units of the subject's radius, times the strangeness
    of their shape; the best crop's. A subject has mostly 0.02 to 0.07, anything else 0.1 to 10."""


class Followed(NamedTuple):
    """A frame of `follow`."""

    image: Image
    crop: Crop
    keypoints: NDArray
    """(K, 2), (x, y) in pixels of the frame."""


def find_subject(image: Image, detect: Detect, layout: Layout, size: int) -> Subject:
    """Find the crop of a picture (H, W, 3) in which the keypoints lie as in training.

    The crop moves and resizes to where its keypoints say, from the central square first and, if that leads nowhere,
    from squares all over the picture. Keypoints on a subject stay on it when the crop is shifted or scaled a little,
    and they lie to each other as in training; others do not. The least doubtful crop is taken, if it is good enough.
    """
    central = look(image, detect, layout, size)
    if central.settled:
        return central
    height, width = image.shape[:2]
    starts = _starts(width, height)
    keypoints = detect(np.stack([crop.take(image, size) for crop in starts]))
    promising = np.argsort(layout.strangeness(keypoints), kind="stable")[:PROMISING]
    tried = [_settled(image, starts[n], detect, layout, size) for n in promising]
    best = min(
        [central, *(Subject(crop, doubt < DOUBT, doubt) for crop, doubt in tried)], key=lambda found: found.doubt
    )
    return best if best.settled else Subject(Crop.centre(width, height), False, best.doubt)


def look(image: Image, detect: Detect, layout: Layout, size: int) -> Subject:
    """Find the subject of a picture (H, W, 3) that it fills, without a search."""
    height, width = image.shape[:2]
    crop, doubt = _settled(image, Crop.centre(width, height), detect, layout, size)
    return Subject(crop, doubt < DOUBT_AT_ONCE, doubt)


def _settled(image: Image, crop: Crop, detect: Detect, layout: Layout, size: int) -> tuple[Crop, float]:
    """Where a crop comes to rest, and the doubt whether there is a subject."""
    height, width = image.shape[:2]
    for n in range(ROUNDS):
        keypoints = detect(crop.take(image, size)[None])[0]
        crop = _placed(layout, _step(crop, keypoints, layout, (width, height), 1.0 if n < ROUNDS / 2 else 0.5))
    return crop, _doubt(image, crop, detect, layout, size)


def _starts(width: int, height: int) -> list[Crop]:
    """Squares of three sizes all over a picture, half overlapping."""
    crops: list[Crop] = []
    for share in (1.0, 0.6, 0.4):
        side = max(2.0, min(width, height) * share)
        columns, rows = (1 + math.ceil((length - side) / side * 2) for length in (width, height))
        for y in np.linspace(0, height - side, rows):
            crops += [Crop(float(x), float(y), side) for x in np.linspace(0, width - side, columns)]
    return crops


def _step(crop: Crop, keypoints: NDArray, layout: Layout, frame: tuple[int, int], damping: float = 1.0) -> Step:
    """Where the subject is after a look into a crop: centroid x, y and logarithm of the radius, in pixels.

    Bounded: the centroid stays in the picture, the radius changes by no more than a factor at a time and keeps
    between a few pixels and the picture. Keypoints that are not finite change nothing.
    """
    old_centroid = crop.to_pixels(np.array(layout.centre))
    old_radius = (crop.side - 1) / 2 * layout.radius
    centroid, size = layout.where(crop.to_pixels(keypoints))
    if not (np.isfinite(centroid).all() and math.isfinite(size)):
        centroid, size = old_centroid, old_radius
    size = min(max(size, old_radius / STRETCH, 1e-6), old_radius * STRETCH)
    size = min(max(size, SMALLEST / 2 * layout.radius), max(frame) * layout.radius)
    x, y = (old_centroid + damping * (centroid - old_centroid)).clip(0, np.array(frame) - 1.0).tolist()
    return x, y, math.log(old_radius) + damping * math.log(size / old_radius)


def _placed(layout: Layout, step: Step | NDArray) -> Crop:
    x, y, log_radius = step
    return layout.crop(np.array([x, y]), math.exp(log_radius))


def _doubt(image: Image, crop: Crop, detect: Detect, layout: Layout, size: int) -> float:
    """How far a counted keypoint strays when the crop is shifted and scaled, in units of the subject's radius, times
    the strangeness of the shape.

    The median over keypoints of their RMS distances: some cling to the frame on good crops too.
    """
    crops = []
    for right, down, scale in JITTER:
        side = crop.side * scale
        offset = (crop.side - side) / 2
        crops.append(Crop(crop.x + offset + right * crop.side, crop.y + offset + down * crop.side, side))
    keypoints = detect(np.stack([c.take(image, size) for c in crops]))
    whole = np.stack([c.to_pixels(k) for c, k in zip(crops, keypoints, strict=True)])
    points = whole[:, list(layout.chosen)]
    if not np.isfinite(points).all():
        return math.inf
    strayed = np.sqrt(np.square(points - points.mean(0)).sum(2).mean(0))
    disagreement = float(np.median(strayed)) / max(float(radius(points[0])), 1e-6)
    return disagreement * float(np.median(layout.strangeness(whole)))


def follow(
    frames: Iterable[Image], detect: Detect, layout: Layout | None, first: Crop, size: int,
    steadiness: float = 4.0, batch: int = 16,
) -> Iterator[Followed]:  # fmt: skip
    """Keypoints of a video's frames, one after the other, in a crop that follows the subject.

    Holds `batch` frames and as many as the smoothing looks ahead, whatever the video's length.

    Args:
        frames: (H, W, 3) each, of one size.
        detect: the keypoint detector.
        layout: how the subject should lie in the crop; None leaves the crop where it is.
        first: where the subject is in the first frame.
        size: side of the detector's crops in pixels.
        steadiness: deviation in frames of the Gaussian that smooths the crop's way.
        batch: frames that are detected together.
    """
    frames = iter(frames)
    if layout is None:
        while images := list(islice(frames, batch)):
            yield from _detected(images, [first] * len(images), detect, size)
        return
    reach = smoothing_reach(steadiness)
    pending: list[Image] = []
    track: list[Step] = []  # of `reach` frames before the pending ones, and of these
    last = first
    ended = False
    while not ended:
        images = list(islice(frames, batch))
        ended = len(images) < batch
        if images:
            track += _track(images, last, detect, layout, size)
            last = _placed(layout, track[-1])
            pending += images
        ready = len(pending) if ended else max(0, len(pending) - reach)
        past = len(track) - len(pending)
        steady = smooth(np.array(track).reshape(-1, 3), steadiness)[past : past + ready]
        for n in range(0, ready, batch):
            crops = [_placed(layout, step) for step in steady[n : n + batch]]
            yield from _detected(pending[n : n + batch][: len(crops)], crops, detect, size)
        del pending[:ready]
        del track[: max(0, len(track) - len(pending) - reach)]


def _track(images: list[Image], crop: Crop, detect: Detect, layout: Layout, size: int) -> Iterator[Step]:
    """Where the subject is in each frame, by a look into the crop of the frame before: a fast one is not lost."""
    for image in images:
        height, width = image.shape[:2]
        step = _step(crop, detect(crop.take(image, size)[None])[0], layout, (width, height))
        crop = _placed(layout, step)
        yield step


def _detected(images: list[Image], crops: list[Crop], detect: Detect, size: int) -> Iterator[Followed]:
    keypoints = detect(np.stack([crop.take(image, size) for crop, image in zip(crops, images, strict=True)]))
    for image, crop, found in zip(images, crops, keypoints, strict=True):
        yield Followed(image, crop, crop.to_pixels(found))
