"""Tracking a subject through a video that does not always show it: seen, lost, gone, or cut away from."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.video.crop import Crop
from autolink.video.layout import Layout
from autolink.video.motion import smooth, smoothing_reach
from autolink.video.subject import STRANGE, Detect, Step, placed, search, settle, step_at, step_to, thumbnail

Image = NDArray[np.uint8]
State = Literal["seen", "held", "empty"]
"""Whether a frame shows the subject; shows it no more, so that the pose before is held; or has shown none since it went
dark, was cut, or the video began."""

ALIKE, SAME = 0.5, 0.8
"""Correlation of two frames' thumbnails below which there may be a cut between them, and of the subject's squares in
these below which there is."""
TRIES = 2
"""Candidate crops that are refined when the subject is searched for again."""
LONGEST_WAIT = 256
"""Frames between two searches at most; the first is at once, each next after twice as many."""


class Followed(NamedTuple):
    """A frame of `follow`."""

    image: Image
    crop: Crop
    keypoints: NDArray[np.floating]
    """(K, 2), (x, y) in pixels of the frame; the last seen where they are not, NaN before any were seen."""
    state: State = "seen"
    cut: bool = False
    """Whether another shot begins here, with the subject elsewhere or another one."""


class Sighting(NamedTuple):
    """The result of tracking in one frame."""

    image: Image
    step: Step
    state: State
    cut: bool
    restart: bool
    """Whether the subject was searched for and found, so that the crop's way begins here."""


def follow(
    frames: Iterable[Image], detect: Detect, layout: Layout | None, first: Crop, size: int,
    steadiness: float = 4.0, batch: int = 16,
) -> Iterator[Followed]:  # fmt: skip
    """Keypoints of a video's frames, one after the other, in a crop that follows the subject.

    Each frame is asked whether it shows the subject. Where it does not, the subject is searched for all over the
    frame, at once and then ever more rarely. Holds `batch` frames and as many as the smoothing looks ahead, whatever
    the video's length.

    Args:
        frames: (H, W, 3) each, of one size.
        detect: the keypoint detector.
        layout: how the subject should lie in the crop; None leaves the crop where it is.
        first: where the subject is when it is first seen, as far as is known.
        size: side of the detector's crops in pixels.
        steadiness: deviation in frames of the Gaussian that smooths the crop's way.
        batch: frames that are detected together.
    """
    return posed(tracked(frames, detect, layout, first, size, steadiness, batch), detect, size)


def tracked(
    frames: Iterable[Image], detect: Detect, layout: Layout | None, first: Crop, size: int,
    steadiness: float = 4.0, batch: int = 16,
) -> Iterator[list[tuple[Sighting, Crop]]]:  # fmt: skip
    """The first half of `follow`: the crops in which keypoints are to be found, `batch` frames at a time."""
    reach = smoothing_reach(steadiness) if layout else 0
    watcher = _Watcher(detect, layout, first, size)
    pending: list[Sighting] = []
    track: list[Step] = []  # of `reach` frames before the pending ones, and of these

    def emitted(ready: int) -> Iterator[list[tuple[Sighting, Crop]]]:
        if layout is None:
            crops = [first] * ready
        else:
            past = len(track) - len(pending)
            steady = smooth(np.array(track).reshape(-1, 3), steadiness)[past : past + ready]
            crops = [placed(layout, step) for step in steady]
        framed = list(zip(pending[:ready], crops, strict=True))
        yield from (framed[n : n + batch] for n in range(0, ready, batch))
        del pending[:ready]
        del track[: max(0, len(track) - len(pending) - reach)]

    for image in frames:
        sighting = watcher.look(image)
        if sighting.restart:
            yield from emitted(len(pending))
            track.clear()
        pending.append(sighting)
        track.append(sighting.step)
        if len(pending) >= batch + reach:
            yield from emitted(batch)
    yield from emitted(len(pending))


def posed(parts: Iterable[list[tuple[Sighting, Crop]]], detect: Detect, size: int) -> Iterator[Followed]:
    """The second half of `follow`: keypoints in the crops, those last seen where there is no subject."""
    poses = _Poses(detect, size)
    for part in parts:
        yield from poses.of([sighting for sighting, _ in part], [crop for _, crop in part])


class _Watcher:
    """Tracks the subject, by detection in the crop of the frame before: a fast one is not lost."""

    def __init__(self, detect: Detect, layout: Layout | None, first: Crop, size: int) -> None:
        self.detect, self.layout, self.crop, self.size = detect, layout, first, size
        self.step: Step = step_at(first, layout) if layout else (0.0, 0.0, 0.0)
        self.thumbnail: NDArray[np.floating] | None = None  # of the last frame that was not empty
        self.before: tuple[Image, Crop] | None = None  # the last frame that showed the subject, and where
        self.ever, self.shown = False, False  # whether the video, and this shot, have shown the subject
        self.cut = False  # whether there was a cut since it was last seen
        self.lost_for, self.next_search = 0, 0

    def look(self, image: Image) -> Sighting:
        """What the next frame shows."""
        small = thumbnail(image)
        if small is None:
            self.shown = False
            return Sighting(image, self.step, "empty", False, False)
        cut = self.thumbnail is not None and _correlation(small, self.thumbnail) < ALIKE
        self.thumbnail = small
        if self.layout is None:
            return Sighting(image, self.step, "seen", cut, cut)
        restart = False
        if cut:
            found = settle(image, self.crop, self.detect, self.layout, self.size)
            cut = not (found.settled and self._shows_the_same(image, found.crop))
            if cut:
                self.cut, self.shown = True, False
                self.lost_for = self.next_search = 0
                self.crop, restart = (found.crop if found.settled else self.crop), True
        return self._tracked(image, self.layout, restart) or self._searched(image, self.layout)

    def _shows_the_same(self, image: Image, crop: Crop) -> bool:
        if self.before is None:
            return False
        image_before, crop_before = self.before
        now, then = thumbnail(crop.take(image, self.size)), thumbnail(crop_before.take(image_before, self.size))
        return now is not None and then is not None and _correlation(now, then) >= SAME

    def _tracked(self, image: Image, layout: Layout, restart: bool) -> Sighting | None:
        """The subject where it was, unless it is not there."""
        height, width = image.shape[:2]
        keypoints = self.detect(self.crop.take(image, self.size)[None])[0]
        if layout.strangeness(keypoints) > STRANGE:
            return None
        return self._seen(image, layout, step_to(self.crop, keypoints, layout, (width, height)), restart)

    def _searched(self, image: Image, layout: Layout) -> Sighting:
        """The subject wherever it is, if now is the time to search."""
        self.lost_for += 1
        if self.lost_for > self.next_search:
            self.next_search = min(2 * self.next_search + 1, self.lost_for + LONGEST_WAIT)
            found = search(image, self.detect, layout, self.size, tries=TRIES)
            if found.settled:
                self.cut = self.cut or _apart(self.crop, found.crop)
                return self._seen(image, layout, step_at(found.crop, layout), True)
        return Sighting(image, self.step, "held" if self.shown else "empty", False, False)

    def _seen(self, image: Image, layout: Layout, step: Step, restart: bool) -> Sighting:
        self.step, self.crop = step, placed(layout, step)
        self.before = image, self.crop
        sighting = Sighting(image, step, "seen", self.cut and self.ever, restart or not self.ever)
        self.ever = self.shown = True
        self.cut = False
        self.lost_for = self.next_search = 0
        return sighting


def _apart(a: Crop, b: Crop) -> bool:
    """Whether two crops frame different places, or sizes."""
    shift = max(abs(a.x + a.side / 2 - b.x - b.side / 2), abs(a.y + a.side / 2 - b.y - b.side / 2))
    return shift > min(a.side, b.side) / 2 or not 2 / 3 < a.side / b.side < 3 / 2


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float((a * b).mean())


class _Poses:
    """Keypoints in crops, those last seen where there is no subject."""

    def __init__(self, detect: Detect, size: int) -> None:
        self.detect, self.size = detect, size
        self.last: NDArray[np.floating] | None = None

    def of(self, sightings: list[Sighting], crops: list[Crop]) -> Iterator[Followed]:
        """The frames with their keypoints."""
        seen = [n for n, sighting in enumerate(sightings) if sighting.state == "seen"]
        looked_at = seen or [0] * (self.last is None)  # the first gives the number of keypoints
        found: dict[int, NDArray[np.floating]] = {}
        if looked_at:
            keypoints = self.detect(np.stack([crops[n].take(sightings[n].image, self.size) for n in looked_at]))
            found = {n: crops[n].to_pixels(k) for n, k in zip(looked_at, keypoints, strict=True)}
        for n, (sighting, crop) in enumerate(zip(sightings, crops, strict=True)):
            if sighting.state == "seen":
                self.last = found[n]
            elif self.last is None:
                self.last = np.full_like(found[looked_at[0]], np.nan)
            yield Followed(sighting.image, crop, self.last, sighting.state, sighting.cut)


def filled(track: NDArray[np.floating]) -> NDArray[np.floating]:
    """A track (T, K, 2) whose first poses are NaN, for nothing was seen yet, with the first that was seen there.

    Raises:
        ValueError: nothing was ever seen.
    """
    known = np.isfinite(track).all((1, 2))
    if not known.any():
        raise ValueError("no frame shows the subject")
    start = int(known.argmax())
    return np.concatenate([np.broadcast_to(track[start], (start, *track.shape[1:])), track[start:]])


def describe_absence(states: Sequence[State], cuts: Sequence[bool]) -> str | None:
    """In one line, which frames do not show the subject and where cuts are; None where there are neither."""
    spans: dict[State, list[str]] = {"empty": [], "held": []}
    frame = 0
    for state, group in groupby(states):
        length = len(list(group))
        if state != "seen":
            spans[state].append(f"{frame}-{frame + length - 1}" if length > 1 else str(frame))
        frame += length
    starts = [str(n) for n, cut in enumerate(cuts) if cut]
    parts = [
        f"{_counted(spans['empty'])} no subject and keep the source's own pose" if spans["empty"] else "",
        f"{_counted(spans['held'], 'lose', 'loses')} the subject and hold the pose before" if spans["held"] else "",
        f"motion restarts at the cut{'s' * (len(starts) > 1)} at {_listed(starts)}" if starts else "",
    ]
    return "; ".join(part for part in parts if part) or None


def _counted(spans: list[str], many: str = "show", one: str = "shows") -> str:
    single = len(spans) == 1 and "-" not in spans[0]
    return f"frame {spans[0]} {one}" if single else f"frames {_listed(spans)} {many}"


def _listed(names: list[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
