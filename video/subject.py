"""Finding the subject by the learned keypoints: square crops framed as the detector was trained."""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.video.crop import Crop
from autolink.video.layout import Layout
from autolink.video.motion import radius

Image = NDArray[np.uint8]
Detect = Callable[[Image], NDArray[np.floating]]
"""Square crops (n, size, size, 3), RGB -> keypoints (n, K, 2), (x, y) in [-1, 1] of each crop."""
Step = tuple[float, float, float]
"""Where a subject is: its centroid (x, y) and the logarithm of its radius, in pixels."""

ROUNDS = 10
"""Iterations in which a crop settles."""
STRETCH = 1.5
"""Largest change of a crop's scale in one iteration."""
SMALLEST = 16.0
"""Side in pixels below which no crop goes."""
JITTER = ((0, 0, 1), (0.1, 0, 1), (-0.1, 0, 1), (0, 0.1, 1), (0, -0.1, 1), (0, 0, 0.88), (0, 0, 1.14))
"""Shifts, in sides, and scales of the crops whose keypoints must agree."""
DOUBT_AT_ONCE, DOUBT = 0.2, 0.1
"""Doubt below which there is a subject, from the central square and from one of many squares: the best of many looks
good by chance more easily."""
GOOD = 0.05
"""Doubt below which no other candidate is looked at."""
STRANGE = 8.0
"""`Layout.strangeness` above which keypoints are on no subject: there it is mostly 1 to 3, elsewhere 20 and more."""
FLAT = 3.0
"""Standard deviation of grey levels, of 255, below which a frame is empty."""
THUMBNAIL = 32
"""Side of thumbnails in pixels."""
PROMISING = 6
"""Candidate crops that are refined: those whose keypoints have the likeliest shapes."""


class Localization(NamedTuple):
    """What `find_subject` found."""

    crop: Crop
    settled: bool
    """Whether a subject was found; if not, the crop is the picture's central square."""
    doubt: float
    """How far keypoints of shifted and scaled crops lie apart, in units of the subject's radius, times the strangeness
    of their shape; the best crop's. A subject has mostly 0.02 to 0.07, anything else 0.1 to 10."""


def find_subject(image: Image, detect: Detect, layout: Layout, size: int) -> Localization:
    """Find the crop of a picture (H, W, 3) in which the keypoints lie as in training.

    The crop moves and resizes to where its keypoints say, from the central square first and, if that leads nowhere,
    from squares all over the picture. Keypoints on a subject stay on it when the crop is shifted or scaled a little,
    and they lie to each other as in training; others do not. The least doubtful crop is taken, if it is good enough.
    """
    central = look(image, detect, layout, size)
    return central if central.settled else search(image, detect, layout, size, central)


def search(
    image: Image, detect: Detect, layout: Layout, size: int, known: Localization | None = None, tries: int = PROMISING
) -> Localization:
    """Find the subject of a picture (H, W, 3) from squares all over it; `known` competes with what is found.

    Args:
        tries: how many candidate crops are refined.
    """
    height, width = image.shape[:2]
    starts = _starts(width, height)
    keypoints = detect(np.stack([crop.take(image, size) for crop in starts]))
    promising = np.argsort(layout.strangeness(keypoints), kind="stable")[:tries]
    tried = [known] if known else []
    for n in promising:
        tried.append(settle(image, starts[n], detect, layout, size))
        if tried[-1].doubt < GOOD:
            break
    best = min(tried, key=lambda found: found.doubt)
    return best if best.settled else Localization(Crop.centre(width, height), False, best.doubt)


def look(image: Image, detect: Detect, layout: Layout, size: int) -> Localization:
    """Find the subject of a picture (H, W, 3) that it fills, without a search."""
    height, width = image.shape[:2]
    found = settle(image, Crop.centre(width, height), detect, layout, size)
    return found._replace(settled=found.doubt < DOUBT_AT_ONCE)


def settle(image: Image, crop: Crop, detect: Detect, layout: Layout, size: int) -> Localization:
    """Where a crop comes to rest, and the doubt whether there is a subject.

    Half-way it is given up where the keypoints are still on nothing: on a subject they mostly are after two rounds.
    """
    height, width = image.shape[:2]
    for n in range(ROUNDS):
        keypoints = detect(crop.take(image, size)[None])[0]
        if n == ROUNDS // 2 and (strangeness := float(layout.strangeness(keypoints))) > STRANGE:
            return Localization(crop, False, strangeness)
        crop = placed(layout, step_to(crop, keypoints, layout, (width, height), 1.0 if n < ROUNDS / 2 else 0.5))
    doubt = _doubt(image, crop, detect, layout, size)
    return Localization(crop, doubt < DOUBT, doubt)


def thumbnail(image: Image) -> NDArray[np.float32] | None:
    """A frame small and grey, with mean 0 and deviation 1; None where there is nothing in it."""
    grey = cv2.cvtColor(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    deviation = float(grey.std())
    return None if deviation < FLAT else ((grey - grey.mean()) / deviation).astype(np.float32)


def _starts(width: int, height: int) -> list[Crop]:
    """Squares of three sizes all over a picture, half overlapping."""
    crops: list[Crop] = []
    for share in (1.0, 0.6, 0.4):
        side = max(2.0, min(width, height) * share)
        columns, rows = (1 + math.ceil((length - side) / side * 2) for length in (width, height))
        for y in np.linspace(0, height - side, rows):
            crops += [Crop(float(x), float(y), side) for x in np.linspace(0, width - side, columns)]
    return crops


def step_to(
    crop: Crop, keypoints: NDArray[np.floating], layout: Layout, frame: tuple[int, int], damping: float = 1.0
) -> Step:
    """Where the subject is by its keypoints in a crop: centroid x, y and logarithm of the radius, in pixels.

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


def step_at(crop: Crop, layout: Layout) -> Step:
    """Where the subject of a crop is that frames it as in training."""
    x, y = crop.to_pixels(np.array(layout.centre)).tolist()
    return x, y, math.log((crop.side - 1) / 2 * layout.radius)


def placed(layout: Layout, step: Step | NDArray[np.floating]) -> Crop:
    """The crop that frames a subject which is there."""
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
