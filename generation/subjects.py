"""Who is redrawn and what moves: source and driver, read, framed and told by their keypoints."""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from autolink.generation.motion import best_frame
from autolink.generation.networks import LOOKS, Networks
from autolink.generation.transfer_options import TransferConfig
from autolink.video import files as video
from autolink.video.crop import Crop, parse_crop
from autolink.video.following import filled, follow
from autolink.video.motion import Motion, read_motion
from autolink.video.subject import find_subject
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.errors import UsageError, UserError

Image = NDArray[np.uint8]


class Source(NamedTuple):
    """Who is redrawn."""

    pictures: list[Image]
    """(H, W, 3) each; the first is the one that is redrawn."""
    crop: Crop
    """The square that is redrawn, in pixels of all of them."""
    keypoints: NDArray
    """(S, K, 2), (x, y) in [-1, 1] of the crop."""


class Driver(NamedTuple):
    """What moves."""

    motion: Motion
    """Keypoints in pixels of the driver's frames."""
    crop: Crop
    """Where the subject is in the reference frame: what [-1, 1] means for it."""
    reference: int
    """The frame that stands for the source's pose."""
    damage: str | None = None
    """What could not be read, where something could not."""


def read_source(config: TransferConfig, networks: Networks) -> Source:
    """The source's pictures, the square to redraw, and the keypoints there.

    Raises:
        VideoError, UserError: it cannot be read, or shows no subject.
    """
    pictures = video.spread_frames(config.src, config.source_frames)
    height, width = pictures[0].shape[:2]
    if config.crop == "none":
        looked_into = crop = Crop.centre(width, height)
    elif config.crop == "auto":
        shows, looked_into = frame_with_subject(pictures[0], config.src, networks, "--src")
        pictures, crop = [shows, *pictures[1:]], looked_into.inside(width, height)
    else:
        looked_into = crop = parse_crop(config.crop)
        if crop.x >= width or crop.y >= height or crop.x + crop.side <= 0 or crop.y + crop.side <= 0:
            raise UsageError(f"--crop {config.crop} lies outside of the source, which is {width}x{height} pixels")
    # in the driver's framing, also where that leaves the picture: in another, the same pose has other keypoints
    found = networks.detect(np.stack([looked_into.take(p, networks.detector_size) for p in pictures]))
    return Source(pictures, crop, crop.from_pixels(looked_into.to_pixels(found)))


def frame_with_subject(first: Image, path: Path, networks: Networks, option: str) -> tuple[Image, Crop]:
    """A frame of a video that shows its subject, and the square in which that lies as in training.

    The first frame, if that does; a video may begin with a title or in the dark.

    Raises:
        VideoError, UserError: no frame that is looked at shows a subject that the detector knows.
    """

    def looked_at() -> Iterator[Image]:
        yield first
        yield from video.spread_frames(path, LOOKS)[1:]

    for image in looked_at():
        subject = find_subject(image, networks.detect, networks.model.layout, networks.detector_size)
        if subject.settled:
            return image, subject.crop
    raise UserError(
        f"{option} {path}: no subject of the kind that this checkpoint knows was found; choose the square with "
        "--crop x,y,w,h, or take the central one with --crop none"
    )


def read_driver(config: TransferConfig, networks: Networks, source: Source) -> Driver:
    """The driver's keypoints in all frames, and its crop in the reference frame.

    Raises:
        VideoError, UserError: it cannot be read, or fits neither checkpoint nor options.
    """
    layout = networks.model.layout
    K = networks.model.translator.config.keypoints
    if config.driver.suffix.lower() == ".json":
        motion = read_motion(config.driver)
        if motion.keypoints.shape[1] != K:
            raise UserError(
                f"--driver {config.driver} has {motion.keypoints.shape[1]} keypoints, the checkpoint {K}; give a "
                "motion that was written with the same stage one"
            )
        damage = None
    else:
        motion, damage = follow_driver(config, networks)
    chosen = list(layout.chosen)
    reference = reference_frame(config, source.keypoints[0][chosen], motion.keypoints[:, chosen])
    if config.crop == "none":
        crop = Crop.centre(motion.width, motion.height)
    else:
        crop = layout.crop(*layout.where(motion.keypoints[reference]))
    return Driver(motion, crop, reference, damage)


def follow_driver(config: TransferConfig, networks: Networks) -> tuple[Motion, str | None]:
    """Keypoints in every frame of the driving video, and what was damaged."""
    facts = video.video_facts(config.driver)
    damage: list[str] = []
    with closing(whole_frames(config.driver, damage)) as frames:
        first = next(frames)
        height, width = first.shape[:2]
        still = config.crop == "none"
        start = (
            Crop.centre(width, height) if still else frame_with_subject(first, config.driver, networks, "--driver")[1]
        )
        followed = follow(
            chain([first], tqdm(frames, total=facts.frames, unit="frame", desc="driver", initial=1)),
            networks.detect, None if still else networks.model.layout, start, networks.detector_size,
        )  # fmt: skip
        track = filled(np.stack([frame.keypoints for frame in followed]))
    return Motion(track, facts.rate, width, height, networks.weights), damage[0] if damage else None


def whole_frames(path: Path, damage: list[str]) -> Generator[Image, None, None]:
    """The frames that can be read; what could not is told in `damage` once some could."""
    count = 0
    try:
        for frame in video.read_frames(path):
            count += 1
            yield frame
    except video.VideoError as error:
        if not count:
            raise
        damage.append(str(error))


def reference_frame(config: TransferConfig, source: NDArray, track: NDArray) -> int:
    """The driver's frame, of (T, n, 2), that stands for the source's pose (n, 2)."""
    if config.best_frame == "auto":
        return best_frame(source, track)
    n = int(config.best_frame)
    if n >= len(track):
        raise UsageError(f"--best-frame {n}: the driver has {len(track)} frames, from 0")
    return n
