"""Who is redrawn and what moves: source and driver, read, framed and told by their keypoints."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.errors import UsageError, UserError
from autolink.generation.motion import best_frame, shots
from autolink.generation.nested import Details
from autolink.generation.networks import LOOKS, Networks
from autolink.generation.transfer_options import TransferOptions
from autolink.overlap import ahead, workers_on
from autolink.progress import Progress
from autolink.video.clip import Clip
from autolink.video.crop import Crop, parse_crop
from autolink.video.following import describe_absence, filled, posed, tracked
from autolink.video.motion import Motion, read_motion
from autolink.video.subject import find_subject, thumbnail

Image = NDArray[np.uint8]

SEARCHED = 3
"""Frames behind a clip's first that are searched for the subject at most."""

LOOKED_AT = 8
"""Frames that the children look at together."""


class Appearance(NamedTuple):
    """Who is redrawn."""

    pictures: list[Image]
    """(H, W, 3) each; the first is the one that is redrawn."""
    crop: Crop
    """The square that is redrawn, in pixels of all of them."""
    keypoints: NDArray[np.floating]
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
    empty: NDArray[np.bool_]
    """(T,), frames that show no subject since the last cut: they keep the source's own pose."""
    shots: list[slice]
    """The frames from one cut to the next; motion starts anew in each."""
    notes: list[str]
    """What could not be read, and which frames do not show the subject, a sentence each."""
    details: Details | None = None
    """What the children see in every frame, where the checkpoint has children and the driver shows or tells it."""

    @property
    def template(self) -> Motion:
        """The motion with what the children see, as it is kept in a file."""
        if not self.details:
            return self.motion
        regions = tuple(track.cpu().numpy() for track in self.details.keypoints)
        return replace(self.motion, regions=regions, beliefs=self.details.beliefs.cpu().numpy())


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


def looked_at(first: Image, clip: Clip) -> Iterator[Image]:
    """The frames of a clip in which its subject is looked for, empty ones left out: a search takes seconds."""
    if thumbnail(first) is not None:
        yield first
    others = [image for image in clip.spread(LOOKS)[1:] if thumbnail(image) is not None]
    for n in np.unique(np.linspace(0, len(others) - 1, min(SEARCHED, len(others))).round().astype(int)).tolist():
        yield others[n]


def frame_with_subject(first: Image, clip: Clip, networks: Networks, option: str) -> tuple[Image, Crop]:
    """A frame of a video that shows its subject, and the square in which that lies as in training.

    The first frame, if that does; a video may begin with a title or in the dark.

    Raises:
        VideoError, UserError: no frame that is looked at shows a subject that the detector knows.
    """

    for image in looked_at(first, clip):
        subject = find_subject(image, networks.detect, networks.model.layout, networks.detector_size)
        if subject.settled:
            return image, subject.crop
    raise UserError(
        f"{option} {clip.path or clip.name}: no subject of the kind that this checkpoint knows was found"
        f"{networks.tried}; choose the square with --crop x,y,w,h, or take the central one with --crop none"
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
    if clip.is_motion:
        assert clip.path
        motion = read_motion(clip.path)
        first, last = (
            round(clip.start * motion.rate),
            None if math.isinf(clip.end) else math.ceil(clip.end * motion.rate),
        )
        if not len(motion.keypoints[first:last]):
            raise UserError(f"--driver {clip.path} is over before --start {clip.start:g}; choose an earlier one")
        motion = motion.part(first, last)
        if motion.keypoints.shape[1] != K:
            raise UserError(
                f"--driver {clip.path} has {motion.keypoints.shape[1]} keypoints, the checkpoint {K}; give a "
                "motion that was written with the same stage one"
            )
        T = len(motion.keypoints)
        seen = Seen(motion, np.zeros(T, bool), [slice(0, T)], [], _details(motion, clip, networks, appearance))
    else:
        seen = follow_driver(clip, options.crop == "none", networks, progress)
    shown = np.flatnonzero(~seen.empty)
    chosen = list(layout.chosen)
    track = seen.motion.keypoints[:, chosen]
    if options.best_frame == "auto":
        reference = int(shown[best_frame(appearance.keypoints[0][chosen], track[shown])])
    else:
        reference = int(options.best_frame)
        if reference >= len(track):
            raise UsageError(f"--best-frame {reference}: the driver has {len(track)} frames, from 0")
    crop = crop_at(seen.motion, reference, options, networks)
    return DrivingMotion(seen.motion, crop, reference, seen.empty, seen.shots, seen.notes, seen.details)


def _details(motion: Motion, clip: Clip, networks: Networks, appearance: Appearance) -> Details | None:
    """What a motion file holds of the children's regions, None if the checkpoint or the file has none.

    Raises:
        UserError: it holds regions of another checkpoint.
    """
    own = appearance.details
    if not (own and motion.regions and motion.beliefs is not None):
        return None
    if [track.shape[1] for track in motion.regions] != [place.shape[1] for place in own.keypoints]:
        raise UserError(
            f"--driver {clip.path} holds other regions than the checkpoint's {', '.join(networks.owners)}; give a "
            "motion that was written with this one"
        )
    tracks = [torch.from_numpy(track).to(own.beliefs) for track in motion.regions]
    return Details(tracks, torch.from_numpy(motion.beliefs).to(own.beliefs))


def crop_at(motion: Motion, frame: int, options: TransferOptions, networks: Networks) -> Crop:
    """Where the driver's subject is in a frame."""
    if options.crop == "none":
        return Crop.centre(motion.width, motion.height)
    layout = networks.model.layout
    return layout.crop(*layout.where(motion.keypoints[frame]))


class Seen(NamedTuple):
    """What was seen of a driver; fields as in `DrivingMotion`."""

    motion: Motion
    empty: NDArray[np.bool_]
    shots: list[slice]
    notes: list[str]
    details: Details | None = None


def follow_driver(clip: Clip, still: bool, networks: Networks, progress: Progress) -> Seen:
    """Keypoints in every frame of the driving clip, in a crop that follows or stands still."""
    facts = clip.facts()
    damage: list[str] = []
    workers = workers_on(networks.device)
    layout, size = None if still else networks.model.layout, networks.detector_size
    with ExitStack() as stack:
        frames = stack.enter_context(closing(clip.readable_frames(damage)))
        first = next(frames)
        start = (
            Crop.centre(facts.width, facts.height)
            if still
            else frame_with_subject(first, clip, networks, "--driver")[1]
        )
        shown = progress(chain([first], frames), facts.frames, "driver")
        crops = stack.enter_context(closing(ahead(tracked(shown, networks.detect, layout, start, size), workers - 1)))
        following = posed(crops, networks.detect, size)
        followed, looks = [], []
        while some := list(islice(following, LOOKED_AT)):
            followed += [(frame.keypoints, frame.state, frame.cut) for frame in some]
            looks.append(networks.details([f.image for f in some], np.stack([f.keypoints for f in some])))
    track, states, cuts = (list(values) for values in zip(*followed, strict=True))
    if set(states) == {"empty"}:
        raise UserError(f"--driver {clip.path or clip.name}: no frame shows a subject that this checkpoint knows")
    notes = [f"{damage[0]}; the {len(track)} frames that could be read are used"] if damage else []
    absent = describe_absence(states, cuts)
    motion = Motion(filled(np.stack(track)), facts.rate, facts.width, facts.height, networks.weights)
    empty, notes = np.array([state == "empty" for state in states]), notes + ([absent] if absent else [])
    return Seen(motion, empty, shots(cuts), notes, Details.joined([look for look in looks if look]))
