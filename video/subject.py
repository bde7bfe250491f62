"""Finding and following the subject by the learned keypoints: square crops framed as the detector was trained."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from video.motion import edge_matrix, radius, smooth, smoothing_reach

Image = NDArray[np.uint8]
Detect = Callable[[Image], NDArray]
"""Square crops (n, size, size, 3), RGB -> keypoints (n, K, 2), (x, y) in [-1, 1] of each crop."""
Step = tuple[float, float, float]
"""Where a subject is: its centroid (x, y) and the logarithm of its radius, in pixels."""

LINKED = 0.08
"""A keypoint counts if its strongest edge has this share of the graph's strongest."""
STRAYING = 0.5
"""And if it strays from its mean place in the subject by less than this, in units of the subject's radius (RMS)."""
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
SMALLEST_VARIANCE = 1e-4
"""Variance that every coordinate of a shape of size one is believed to have at least."""


@dataclass(frozen=True)
class Crop:
    """A square of a picture in its pixels, (0, 0) being the centre of the first one; it may leave the picture."""

    x: float
    """Centre of the crop's leftmost pixels: -1 of its [-1, 1] plane."""
    y: float
    """Centre of its topmost pixels."""
    side: float
    """Side in pixels: 1 of the [-1, 1] plane is at x + side - 1."""

    @classmethod
    def centre(cls, width: int, height: int) -> "Crop":
        """The largest square inside a picture, about its centre."""
        side = max(2, min(width, height))  # one pixel alone spans no plane
        return cls((width - side) / 2, (height - side) / 2, side)

    def inside(self, width: int, height: int) -> "Crop":
        """The nearest crop that does not leave a picture of this size, smaller where need be."""
        side = min(self.side, max(2, min(width, height)))
        middle = np.array([self.x, self.y]) + (self.side - side) / 2
        x, y = middle.clip(0, np.maximum(0, np.array([width, height]) - side)).tolist()
        return Crop(x, y, side)

    def to_pixels(self, keypoints: NDArray) -> NDArray:
        """(..., 2), (x, y) in [-1, 1] of the crop -> pixels of the picture."""
        return (keypoints + 1) / 2 * (self.side - 1) + [self.x, self.y]

    def from_pixels(self, points: NDArray) -> NDArray:
        """The inverse of `to_pixels`."""
        return (points - [self.x, self.y]) / (self.side - 1) * 2 - 1

    def take(self, image: Image, size: int) -> Image:
        """Cut the crop out of (H, W, 3): (size, size, 3), the picture's border repeated outside of it."""
        return _sampled(image, (self.x, self.y), (self.side - 1) / (size - 1), (size, size))

    def paste(self, image: Image, patch: Image, feather: float = 0.08) -> Image:
        """Put a square picture back where the crop was taken: (H, W, 3), the rest untouched.

        Args:
            image: (H, W, 3); not changed.
            patch: (size, size, 3) of any size.
            feather: width of the soft border inside the crop, as a share of its side.
        """
        pasted = image.copy()
        height, width = image.shape[:2]
        left, right = max(0, math.ceil(self.x)), min(width, math.floor(self.x + self.side - 1) + 1)
        top, bottom = max(0, math.ceil(self.y)), min(height, math.floor(self.y + self.side - 1) + 1)
        if left >= right or top >= bottom:
            return pasted
        step = (len(patch) - 1) / (self.side - 1)
        start = ((left - self.x) * step, (top - self.y) * step)
        layer = _sampled(patch, start, step, (bottom - top, right - left))
        across = _opacity(self.x, self.side, width, feather)[left:right]
        down = _opacity(self.y, self.side, height, feather)[top:bottom]
        opacity = (down[:, None] * across)[..., None]
        below = image[top:bottom, left:right]
        pasted[top:bottom, left:right] = np.rint(below + opacity * (layer.astype(np.float32) - below))
        return pasted


def _opacity(start: float, side: float, length: int, feather: float) -> NDArray[np.float32]:
    """How much of the patch shows along one axis of a picture: none beyond the crop, all where the feather ends.

    A border at or beyond the picture's own has no feather; as it moves inside, the feather grows with it.
    """
    position = np.arange(length)
    near, far = position - start + 0.5, start + side - 0.5 - position  # to the outer edges of the crop's end pixels
    widths = np.array([start, length - start - side]).clip(1e-6, max(1e-6, feather * side))
    t = np.minimum(near / widths[0], far / widths[1]).clip(0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _sampled(image: Image, start: tuple[float, float], step: float, shape: tuple[int, int]) -> Image:
    """Sample an image at start + step * (column, row), each sample the mean over its step: shape + (3,)."""
    finer = max(1, math.ceil(step - 1e-9))  # samples at most a pixel apart, then averaged: no aliasing
    fine = step / finer
    x, y = (value - fine * (finer - 1) / 2 for value in start)
    rows, columns = shape
    interpolation = cv2.INTER_LINEAR if finer > 1 else cv2.INTER_CUBIC
    sampled = cv2.warpAffine(
        image, np.array([[fine, 0, x], [0, fine, y]]), (columns * finer, rows * finer),
        flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    if finer > 1:
        sampled = cv2.resize(sampled, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(sampled, dtype=np.uint8)


def parse_crop(text: str) -> Crop:
    """The square about a box `x,y,w,h` in pixels.

    Raises:
        ValueError: the text is no box; the message says what to give.
    """
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"a crop is x,y,w,h in pixels, for instance 100,40,256,256; got {text!r}") from None
    if not (math.isfinite(x + y + w + h) and w >= 2 and h >= 2):
        raise ValueError(f"a crop must be at least 2 pixels wide and high and finite; got {text!r}")
    side = max(w, h)
    return Crop(x + (w - side) / 2, y + (h - side) / 2, side)


@dataclass(frozen=True)
class Shape:
    """What the counted keypoints look like together, wherever they are and however large: a normal distribution."""

    mean: NDArray
    """(2n,), the mean shape, centred and of length one."""
    whitening: NDArray
    """(2n, 2n), by which a deviation from it becomes white noise."""

    @classmethod
    def measure(cls, points: NDArray) -> "Shape":
        """The shapes of (N, n, 2)."""
        shapes = cls.of(points)
        covariance = np.cov(shapes.T, bias=True) + SMALLEST_VARIANCE * np.eye(shapes.shape[1])
        return cls(shapes.mean(0), np.linalg.cholesky(np.linalg.inv(covariance)))

    @staticmethod
    def of(points: NDArray) -> NDArray:
        """Centred and scaled to length one: (..., n, 2) -> (..., 2n)."""
        centred = points - points.mean(-2, keepdims=True)
        length = np.sqrt(np.square(centred).sum((-1, -2), keepdims=True))
        return (centred / length.clip(1e-9)).reshape(*points.shape[:-2], -1)

    def strangeness(self, points: NDArray) -> NDArray:
        """Mean squared deviation in standard deviations, (..., n, 2) -> (...): about 1 for a subject."""
        with np.errstate(invalid="ignore", over="ignore"):
            white = (self.of(points.astype(np.float64)) - self.mean) @ self.whitening
        return np.nan_to_num(np.square(white).mean(-1), nan=np.inf)


@dataclass(frozen=True)
class Layout:
    """Where keypoints lie in crops such as the detector was trained on."""

    centre: tuple[float, float]
    """Mean centroid, (x, y) in [-1, 1]."""
    radius: float
    """Mean RMS distance from the centroid, in units of the [-1, 1] plane."""
    chosen: tuple[int, ...]
    """The keypoints that count."""
    shape: Shape | None = field(default=None, compare=False)
    """How these lie to each other, where that is known."""

    @classmethod
    def measure(cls, keypoints: NDArray, weights: NDArray | None = None) -> "Layout":
        """The layout of training crops' keypoints, (N, K, 2) in [-1, 1].

        Keypoints that no edge of the graph, weights (E,), links in earnest do not count: they tell of the frame
        rather than of the subject and stay where they are when the crop moves. Nor do those that stray: they jump to
        whatever is beside the subject.
        """
        K = keypoints.shape[1]
        strongest = np.ones(K) if weights is None else edge_matrix(weights, K).max(1)
        chosen = np.flatnonzero(strongest >= LINKED * strongest.max())
        strayed = np.sqrt(
            Shape.of(keypoints[:, chosen].astype(np.float64)).reshape(len(keypoints), -1, 2).var(0).sum(1)
        )
        steady = strayed * math.sqrt(len(chosen)) < STRAYING
        chosen = chosen[steady] if steady.sum() > 1 else chosen
        points = keypoints[:, chosen].astype(np.float64)
        x, y = points.mean((0, 1)).tolist()
        return cls((x, y), float(radius(points).mean()), tuple(chosen.tolist()), Shape.measure(points))

    def where(self, points: NDArray) -> tuple[NDArray, float]:
        """Centroid (2,) and RMS radius of the counted ones of keypoints (K, 2)."""
        counted = points[list(self.chosen)]
        return counted.mean(0), float(radius(counted))

    def strangeness(self, points: NDArray) -> NDArray:
        """How unlike a subject the counted ones of keypoints (..., K, 2) lie to each other: (...), 1 at least."""
        counted = points[..., list(self.chosen), :]
        return np.ones(counted.shape[:-2]) if self.shape is None else self.shape.strangeness(counted).clip(1)

    def crop(self, centroid: NDArray, radius: float) -> Crop:
        """The crop in which a subject with this centroid and radius, in pixels, lies as in training."""
        span = 2 * radius / self.radius
        x, y = (centroid - (np.array(self.centre) + 1) / 2 * span).tolist()
        return Crop(x, y, span + 1)


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
