"""A clip: a video file, a picture, a folder of frames, or frames in memory, read the same way."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from autolink.errors import UserError
from autolink.inputs import Picture, read_pictures
from autolink.video.container import VideoError
from autolink.video.files import VideoFacts, read_frames, spread_frames, video_facts
from autolink.video.stills import STILL_RATE

Image = NDArray[np.uint8]

ClipLike: TypeAlias = "Clip | str | Path | PIL.Image.Image | Image | Sequence[Picture]"
"""A path; a PIL image or 8-bit RGB array (H, W, 3); or frames, as a list or (T, H, W, 3)."""


@dataclass(frozen=True)
class Clip:
    """Frames of one size at a constant rate, as often as they are wanted."""

    name: str
    path: Path | None = None
    """Where they are read from, frame by frame, unless they are in memory."""
    pictures: tuple[Image, ...] = ()
    rate: Fraction = STILL_RATE
    """Frames a second of those in memory."""
    start: float = 0.0
    """Seconds that are left out at the beginning."""
    end: float = math.inf
    """Seconds from the file's beginning after which nothing is used."""

    @classmethod
    def of(cls, value: ClipLike, rate: Fraction | float = STILL_RATE) -> "Clip":
        """A clip of a path, a picture or frames; `rate` is of frames in memory.

        Raises:
            UserError: the path does not exist, or the frames are no pictures or differ in size.
        """
        if isinstance(value, Clip):
            return value
        if isinstance(value, (str, Path)):
            if not Path(value).exists():
                raise UserError(f"{value} does not exist")
            return cls(Path(value).name, Path(value))
        pictures = tuple(read_pictures(value))
        if any(picture.shape != pictures[0].shape for picture in pictures):
            raise UserError("the frames of a clip must have one size; resize or crop them first")
        return cls("frames in memory", None, pictures, Fraction(rate).limit_denominator(65535))

    @property
    def is_motion(self) -> bool:
        """Whether it is no pictures at all, but the JSON of keypoints that `write_motion` wrote."""
        return self.path is not None and self.path.suffix.lower() == ".json"

    def between(self, start: float, end: float) -> "Clip":
        """The part of it from one second to another.

        Raises:
            UserError: there is nothing between them.
        """
        if not 0 <= start < end:
            raise UserError(f"a part of {self.name} must end after it starts, in seconds; got {start:g} to {end:g}")
        part = replace(self, start=start, end=end)
        if start and part.is_motion is False and next(part.frames(), None) is None:
            raise UserError(f"{self.name} is over before {start:g} s; choose an earlier start")
        return part

    def frames(self) -> Generator[Image, None, None]:
        """The frames, (H, W, 3) RGB.

        Raises:
            VideoError: as `read_frames`.
        """
        whole = iter(self.pictures) if self.path is None else read_frames(self.path)
        if not self.start and math.isinf(self.end):
            yield from whole
            return
        rate = self._whole.rate
        last = None if math.isinf(self.end) else math.ceil(self.end * rate)
        yield from islice(whole, round(self.start * rate), last)

    def readable_frames(self, damage: list[str]) -> Generator[Image, None, None]:
        """The frames that can be read; what could not is appended to `damage` once some could.

        Raises:
            VideoError: not even one can be read.
        """
        count = 0
        try:
            for frame in self.frames():
                count += 1
                yield frame
        except VideoError as error:
            if not count:
                raise
            damage.append(str(error))

    def facts(self) -> VideoFacts:
        """Rate, length, size and sound.

        Raises:
            VideoError: not even one frame can be read.
        """
        facts = self._whole
        if facts.frames is None or (not self.start and math.isinf(self.end)):
            return facts
        last = facts.frames if math.isinf(self.end) else min(facts.frames, math.ceil(self.end * facts.rate))
        return replace(facts, frames=max(0, last - round(self.start * facts.rate)))

    @cached_property
    def _whole(self) -> VideoFacts:
        """Facts of all frames, whatever part is used; a file is scanned for them once."""
        if self.path is not None:
            return video_facts(self.path)
        height, width = self.pictures[0].shape[:2]
        return VideoFacts(self.rate, len(self.pictures), width, height, audio=False)

    def spread(self, count: int) -> list[Image]:
        """The first frame and `count` - 1 more, evenly spread as far as the length is known."""
        if self.path is not None:
            rate = self._whole.rate
            last = None if math.isinf(self.end) else math.ceil(self.end * rate)
            return spread_frames(self.path, count, round(self.start * rate), last)
        rows = np.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures))).round().astype(int)
        return [self.pictures[n] for n in rows]
