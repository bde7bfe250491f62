"""What a transfer can be asked for, from Python and from the command line alike."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from autolink.errors import UsageError
from autolink.pretrained import check_output
from autolink.video.crop import parse_crop
from autolink.video.writer import WRITTEN

LARGEST = 512
"""Side of the result in pixels at most, unless another is asked for."""

MOST = 3
"""Largest exaggeration of lips, eyes or pose."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """How the subject of one clip is redrawn in the motion of another."""

    motion: Literal["relative", "absolute", "retarget"] = "relative"
    """Relative: the source's pose moves as the driver's moves away from its reference frame. Absolute: the driver's
    keypoints as they are. Retarget: the source's bone lengths with the driver's bone angles."""
    adapt_scale: bool = True
    """Scale the motion by how large the source is beside the driver."""
    best_frame: str = "auto"
    """The driver's reference frame: the one most like the source's pose (auto), or a number, from 0."""
    lips: float = 1.0
    """How much of the driver's mouth: 0 none, 1 all of it, more exaggerates. Of checkpoints that know one."""
    eyes: float = 1.0
    """How much of the driver's eyes, likewise."""
    pose: float = 1.0
    """How much of the driver's pose, likewise."""
    smooth: float = 0.0
    """Smooth the motion over so many frames (deviation of a Gaussian); 0 is off."""
    crop: str = "auto"
    """What is redrawn: the square in which the subject lies as in training (auto), the central square (none), or the
    box x,y,w,h of the source in pixels; the driver is then found by itself."""
    paste_back: bool = False
    """Put the redrawn square back into the source's whole picture."""
    side_by_side: bool = False
    """Show source, driver and result beside each other."""
    source_frames: int = 1
    """Frames of a source video that are looked at, evenly spread; the first is the one that is redrawn."""
    finetune: int = 0
    """Adapt the translator to the source in so many training steps first."""
    size: int = 0
    """Side of the redrawn square in pixels; 0 is the source's own, 512 at most."""
    batch: int = 8
    """Frames computed together."""
    start: float = 0.0
    """Second of the driver from which its motion is taken."""
    end: float = 0.0
    """Second of the driver up to which its motion is taken; 0 is all."""
    watermark: bool = False
    """Draw a small mark that says synthetic into every frame."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        if self.motion not in ("relative", "absolute", "retarget"):
            raise UsageError(f"--motion is relative, absolute or retarget, got {self.motion}")
        if self.best_frame != "auto" and not self.best_frame.isdecimal():
            raise UsageError(f"--best-frame is auto or a frame number from 0, got {self.best_frame}")
        for name in ("lips", "eyes", "pose"):
            if not 0 <= getattr(self, name) <= MOST:
                raise UsageError(f"--{name} is a factor from 0 to {MOST}, got {getattr(self, name)}")
        if not 0 <= self.smooth < 1000:
            raise UsageError(f"--smooth is a number of frames from 0 to 1000, got {self.smooth}")
        if self.crop not in ("auto", "none"):
            try:
                parse_crop(self.crop)
            except ValueError as error:
                raise UsageError(f"--crop is auto, none or a box: {error}") from None
        if min(self.source_frames, self.batch) < 1 or min(self.finetune, self.size) < 0:
            raise UsageError("--source-frames and --batch must be at least 1, --finetune and --size not negative")
        if not (0 <= self.start < math.inf and (self.end == 0 or self.start < self.end < math.inf)):
            raise UsageError(
                f"--start and --end are seconds of the driver, the end after the start; got {self.start:g} and "
                f"{self.end:g}"
            )
        if self.size == 1 or self.size > 4096:
            raise UsageError(f"--size is 0 or 2 to 4096 pixels, got {self.size}")


@dataclass(frozen=True, kw_only=True)
class TransferConfig(TransferOptions):
    """Redraw the subject of one video or picture in the motion of another."""

    src: Path
    """Whose appearance: a video, a picture or a folder of frames."""
    driver: Path
    """Whose motion: a video, a folder of frames, or the JSON that --keypoints or `autolink detect` wrote; with --show
    also webcam or screen."""
    out: Path = Path("result.mp4")
    """The video to write, .mp4 or .gif."""
    checkpoint: str = "auto"
    """A checkpoint folder of a pose transfer, the name of a bundled one, or hf:owner/name; auto takes, of the bundled
    ones, the one that knows the source's kind best."""
    audio: Literal["driver", "source", "none"] = "driver"
    """Whose sound the result gets."""
    keypoints: Path | None = None
    """Write the driver's keypoints to this JSON, which --driver takes in place of a video."""
    overwrite: bool = False
    """Replace --out and --keypoints where they exist."""
    show: bool = False
    """Redraw the driver's newest frame in a window, as it comes, until q or Esc; nothing is written. A file plays at
    its rate."""
    dry_run: bool = False
    """Look at source and driver, say what would be done, and stop."""


LIVE = ("webcam", "screen")
"""Drivers that are no file."""

WHOLE = ("out", "keypoints", "smooth", "best_frame", "start", "end", "finetune", "audio", "dry_run")
"""Options of a result that is written, or of a driver that is known to its end."""


def check_files(config: TransferConfig) -> None:
    """Refuse what cannot work before anything is computed."""
    live = str(config.driver) in LIVE
    if live and not config.show and not config.driver.exists():
        raise UsageError(f"--driver {config.driver} is shown as it comes; add --show")
    for option, path in (("--src", config.src), ("--driver", config.driver)):
        if not path.exists() and not (live and config.show and option == "--driver"):
            raise UsageError(f"{option} {path} does not exist")
    if config.show:
        given = [field.name for field in fields(config) if getattr(config, field.name) != field.default]
        if useless := next((name for name in WHOLE if name in given), None):
            option = useless.replace("_", "-")
            raise UsageError(f"--show writes nothing and knows only the frames so far; leave out --{option}")
        if config.driver.suffix.lower() == ".json":
            raise UsageError(f"--show {config.driver}: a motion file has no frames to be seen; give --out instead")
        return
    for option, out, suffixes in (("--out", config.out, WRITTEN), ("--keypoints", config.keypoints, (".json",))):
        if out and any(out.exists() and out.samefile(path) for path in (config.src, config.driver)):
            raise UsageError(f"{option} {out} is an input as well; choose another name")
        check_output(option, out, config.overwrite, suffixes)
