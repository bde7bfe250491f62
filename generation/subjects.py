"""Who is redrawn and what moves: source and driver, read, framed and told by their keypoints."""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from autolink.generation.nested import Details
from autolink.generation.networks import LOOKS, Networks
from autolink.generation.transfer_options import TransferOptions
from autolink.video.clip import Clip
from autolink.video.crop import Crop, parse_crop
from autolink.video.motion import Motion, best_frame, read_motion
from autolink.video.subject import find_subject, follow
from numpy.typing import NDArray

from autolink.errors import UsageError, UserError
from autolink.progress import Progress

Image = NDArray[np.uint8]

LOOKED_AT = 8
"""Frames that the children look at together."""


class Appearance(NamedTuple):
    """Who is redrawn."""

    pictures: list[Image]
    """(H, W, 3) each; the first is the one that is redrawn."""
    crop: Crop
    """The square that is redrawn, in pixels of all of them."""
    keypoints: NDArray[np.float64]
    """(S, K, 2), (x, y) in [-1, 1] of the crop."""
    details: Details | None = None
    """What the children see in the first picture, where the checkpoint has children."""


class DrivingMotion(NamedTuple):
    """What moves."""

    motion: Motion
    """Keypoints in pixels of the driver's frames."""
    crop: Crop
    """Where the subject is in the reference frame: what [-1, 1] means for it."""
    reference: int
    """The frame that stands for the source's pose."""
    damage: str | None = None
    """What could not be read, where something could not."""
    details: Details | None = None
    """What the children see in every frame, where the checkpoint has children and the driver is no motion file."""


def read_appearance(clip: Clip, options: TransferOptions, networks: Networks) -> Appearance:
    """The source's pictures, the square to redraw, and the keypoints there.

    Raises:
        VideoError, UserError: it cannot be read, or shows no subject.
    """
    pictures = clip.spread(options.source_frames)
    height, width = pictures[0].shape[:2]
    if options.crop == "none":
        looked_into = crop = Crop.centre(width, height)
    elif options.crop == "auto":
        shows, looked_into = frame_with_subject(pictures[0], clip, networks, "--src")
        pictures, crop = [shows, *pictures[1:]], looked_into.inside(width, height)
    else:
        looked_into = crop = parse_crop(options.crop)
        if crop.x >= width or crop.y >= height or crop.x + crop.side <= 0 or crop.y + crop.side <= 0:
            raise UsageError(f"--crop {options.crop} lies outside of the source, which is {width}x{height} pixels")
    # in the driver's framing, also where that leaves the picture: in another, the same pose has other keypoints
    found = networks.detect(np.stack([looked_into.take(p, networks.detector_size) for p in pictures]))
    points = looked_into.to_pixels(found)
    return Appearance(pictures, crop, crop.from_pixels(points), networks.details(pictures[:1], points[:1]))


def frame_with_subject(first: Image, clip: Clip, networks: Networks, option: str) -> tuple[Image, Crop]:
    """A frame of a video that shows its subject, and the square in which that lies as in training.

    The first frame, if that does; a video may begin with a title or in the dark.

    Raises:
        VideoError, UserError: no frame that is looked at shows a subject that the detector knows.
    """

    def looked_at() -> Iterator[Image]:
        yield first
        yield from clip.spread(LOOKS)[1:]

    for image in looked_at():
        subject = find_subject(image, networks.detect, networks.model.layout, networks.detector_size)
        if subject.settled:
            return image, subject.crop
    raise UserError(
        f"{option} {clip.path or clip.name}: no subject of the kind that this checkpoint knows was found; choose the "
        "square with --crop x,y,w,h, or take the central one with --crop none"
    )


def read_driving_motion(
    clip: Clip, options: TransferOptions, networks: Networks, appearance: Appearance, progress: Progress
) -> DrivingMotion:
    """The driver's keypoints in all frames, and its crop in the reference frame.

    Raises:
        VideoError, UserError: it cannot be read, or fits neither checkpoint nor options.
    """
    layout = networks.model.layout
    K = networks.model.translator.config.keypoints
    damage = details = None
    if clip.is_motion:
        assert clip.path
        motion = read_motion(clip.path)
        if motion.keypoints.shape[1] != K:
            raise UserError(
                f"--driver {clip.path} has {motion.keypoints.shape[1]} keypoints, the checkpoint {K}; give a "
                "motion that was written with the same stage one"
            )
    else:
        motion, details, damage = follow_driver(clip, options.crop == "none", networks, progress)
    chosen = list(layout.chosen)
    reference = reference_frame(options.best_frame, appearance.keypoints[0][chosen], motion.keypoints[:, chosen])
    if options.crop == "none":
        crop = Crop.centre(motion.width, motion.height)
    else:
        crop = layout.crop(*layout.where(motion.keypoints[reference]))
    return DrivingMotion(motion, crop, reference, damage, details)


def follow_driver(
    clip: Clip, still: bool, networks: Networks, progress: Progress
) -> tuple[Motion, Details | None, str | None]:
    """Keypoints in every frame of the driving clip, in a crop that follows or stands still; and what was damaged."""
    facts = clip.facts()
    damage: list[str] = []
    track: list[NDArray[np.float64]] = []
    details: list[Details] = []
    with closing(clip.readable_frames(damage)) as frames:
        first = next(frames)
        height, width = first.shape[:2]
        start = Crop.centre(width, height) if still else frame_with_subject(first, clip, networks, "--driver")[1]
        followed = follow(
            progress(chain([first], frames), facts.frames, "driver"),
            networks.detect, None if still else networks.model.layout, start, networks.detector_size,
        )  # fmt: skip
        while some := list(islice(followed, LOOKED_AT)):
            track += [frame.keypoints for frame in some]
            seen = networks.details([frame.image for frame in some], np.stack(track[-len(some) :]))
            details += [seen] if seen else []
    motion = Motion(np.stack(track), facts.rate, width, height, networks.weights)
    return motion, Details.joined(details) if details else None, damage[0] if damage else None


def reference_frame(best: str, source: NDArray[np.float64], track: NDArray[np.float64]) -> int:
    """The driver's frame, of (T, n, 2), that stands for the source's pose (n, 2); `best` is auto or its number."""
    if best == "auto":
        return best_frame(source, track)
    n = int(best)
    if n >= len(track):
        raise UsageError(f"--best-frame {n}: the driver has {len(track)} frames, from 0")
    return n
