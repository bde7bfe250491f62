"""Video pose transfer from Python; the command of generation/transfer.py does nothing else."""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolink import __version__
from autolink.device import pick_device
from autolink.errors import UserError
from autolink.generation.motion import pose_distance
from autolink.generation.nested import Details
from autolink.generation.networks import Networks, choose_checkpoint
from autolink.generation.redrawing import composed, driver_frames, driving_poses, expressions, redraw, side_of
from autolink.generation.subjects import read_appearance, read_driving_motion
from autolink.generation.transfer_options import TransferOptions
from autolink.generation.translator import PoseTransfer
from autolink.overlap import workers_on
from autolink.progress import Progress, silent
from autolink.video.clip import Clip, ClipLike
from autolink.video.synthetic import tags, watermarked
from autolink.video.writer import VideoWriter

Image = NDArray[np.uint8]

FAR = 0.5
"""`pose_distance` of source and driver's reference frame from which relative motion is warned of."""

LOST = 0.3
"""Mean belief in a region's keypoints below which it is told to be lost."""

FINETUNED = 200
"""Frames of the source that finetuning learns from at most."""


class VideoTransfer:
    """One subject in the motion of another: iterate for the frames, (H, W, 3) 8-bit RGB, or `write` them.

    Source and driver have been looked at when it is made; frames are redrawn as they are asked for, in constant memory.
    """

    checkpoint: str
    """Which checkpoint redraws."""
    rate: Fraction
    """Frames a second, the driver's."""
    side: int
    """Side of the redrawn square in pixels."""
    apart: float
    """`pose_distance` of the source's pose and the driver's reference frame."""

    def __init__(
        self, source: Clip, driver: Clip, model: PoseTransfer | str | Path, options: TransferOptions, progress: Progress
    ) -> None:
        if options.start or options.end:
            driver = driver.between(options.start, options.end or math.inf)
        self.source, self.driver, self.options, self.progress = source, driver, options, progress
        if source.is_motion:
            raise UserError(f"--src {source.path} is a motion; give a video or picture that shows whose appearance")
        self.checkpoint, self.networks = networks_for(source, model, options)
        self.appearance = read_appearance(source, options, self.networks)
        self.driving = read_driving_motion(driver, options, self.networks, self.appearance, progress)
        self.rate = self.driving.motion.rate
        self.side = side_of(options, self.appearance)
        chosen = list(self.networks.model.layout.chosen)
        self.apart = float(
            pose_distance(
                self.appearance.keypoints[0][chosen], self.driving.motion.keypoints[self.driving.reference, chosen]
            )
        )

    def __len__(self) -> int:
        return len(self.driving.motion.keypoints)

    def __iter__(self) -> Iterator[Image]:
        networks = self._finetuned() if self.options.finetune else self.networks
        poses = driving_poses(self.options, networks, self.appearance, self.driving)
        wanted = expressions(self.options, networks, self.appearance, self.driving)
        workers = workers_on(networks.device)
        patches = redraw(networks, self.appearance, poses, wanted, self.side, self.options.batch, workers)
        beside = driver_frames(self.driver, self.driving) if self.options.side_by_side else iter(())
        frames = composed(self.options, self.appearance, patches, self.side, beside)
        if self.options.watermark:
            frames = map(watermarked, frames)
        return self.progress(frames, len(self), "redrawing")

    def write(self, out: str | Path, audio: Path | None = None) -> None:
        """Write the frames to an mp4 or GIF, whole or not at all, with the sound of a file; its tags say synthetic.

        Raises:
            VideoError, OSError: it cannot be written, or the sound cannot be read.
        """
        made_with = f"AutoLink {__version__}, pose transfer, checkpoint {Path(self.checkpoint).name}"
        begins = Fraction(self.options.start).limit_denominator(1000) if audio == self.driver.path else Fraction(0)
        with VideoWriter(Path(out), self.rate, audio, tags(made_with), begins) as writer:
            for frame in self:  # encoded while the next are redrawn
                writer.write(frame)

    @property
    def warnings(self) -> list[str]:
        """What may spoil the result, a sentence each."""
        told = list(self.driving.notes)
        told += lost_regions(self.networks.model, self.appearance.details, self.driving.details)
        if self.apart > FAR and self.options.motion == "relative":
            told.append(
                f"the driver's frame {self.driving.reference}, where its motion starts from, is far from the source's "
                f"pose: {self.apart:.2f} where {FAR} is close enough; expect distortions, or try --motion absolute or "
                "retarget"
            )
        return told

    def _finetuned(self) -> Networks:
        """The networks with the translator adapted to the source."""
        from autolink.generation.finetune import finetuned

        known = self.networks
        pictures = [self.appearance.crop.take(f, known.model.size) for f in self.source.spread(FINETUNED)]
        translator = finetuned(known.model, np.stack(pictures), self.options.finetune, known.device)
        return Networks(PoseTransfer(known.model.stage_one, translator, known.model.local), known.device)


def lost_regions(model: PoseTransfer, source: Details | None, driver: Details | None) -> list[str]:
    """Which regions move with the parent alone, and why, a sentence each."""
    if not model.local or not source:
        return []
    if not driver:
        return ["the driver is a motion file, which holds no lips or eyes: the head moves alone"]
    owners, told = model.local.stage_one.owners, []
    for who, beliefs in (("source", source.beliefs.mean(0)), ("driver", driver.beliefs.mean(0))):
        lost = sorted({name for name, belief in zip(owners, beliefs.tolist(), strict=True) if belief < LOST})
        if lost:
            told.append(f"{' and '.join(lost)} of the {who} cannot be made out and will hardly move by themselves")
    return told


def transfer_video(
    source: ClipLike,
    driver: ClipLike,
    model: PoseTransfer | str | Path = "auto",
    *,
    rate: Fraction | float = 25,
    progress: Progress = silent,
    **options: Any,
) -> VideoTransfer:
    """Redraw the subject of one clip in the motion of another: `for frame in transfer_video("me.jpg", "her.mp4")`.

    Args:
        source: whose appearance: a file, a folder of frames, a PIL image, an 8-bit RGB array (H, W, 3), or frames.
        driver: whose motion: the same, or the JSON that the command's --keypoints wrote.
        model: a `PoseTransfer`, a checkpoint by folder or name, or auto: of the bundled ones, the one that knows the
            source's kind best.
        rate: frames a second of frames in memory.
        progress: `autolink.progress.bar` shows bars.
        options: fields of `TransferOptions`, such as motion="absolute", paste_back=True or size=256.

    Raises:
        UserError: a file cannot be read, an option has no such value, or no subject is found.
    """
    clips = Clip.of(source, rate), Clip.of(driver, rate)
    return VideoTransfer(*clips, model, TransferOptions(**options), progress)


def networks_for(source: Clip, model: PoseTransfer | str | Path, options: TransferOptions) -> tuple[str, Networks]:
    """The networks asked for, and what they are called."""
    device = pick_device(options.device)
    if isinstance(model, PoseTransfer):
        return "given", Networks(model, device)
    if str(model) == "auto":
        return choose_checkpoint(source, options.crop, device)
    return str(model), Networks(PoseTransfer.from_pretrained(model), device)
