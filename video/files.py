"""Reads video: frame by frame in constant memory, at exact rates, upright and square."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.pictures import VIDEOS, warn_once
from autolink.video.colour import Renderer, square_size
from autolink.video.container import VideoError, opened
from autolink.video.decoding import Decoding, frames_at, timing, video_stream
from autolink.video.stills import find_stills, pace_of, read_stills
from autolink.video.timing import Timing, paced

Image = NDArray[np.uint8]

SUFFIXES = VIDEOS
"""Files that are read as video."""


SOUGHT = 100
"""Frames apart from which those wanted of a video are sought out."""


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before it is read through."""

    rate: Fraction
    """Frames a second, as `read_frames` delivers them."""
    frames: int | None
    """How many those are by the file's header (a close estimate where the rate varies), None where it is silent."""
    width: int
    """Of the delivered frames: upright, with square pixels."""
    height: int
    audio: bool
    """Whether there is sound."""


def video_facts(path: Path) -> VideoFacts:
    """Rate, length, size and sound of a video, an animated GIF, a picture or a folder of pictures.

    Raises:
        VideoError: not even one frame can be read.
    """
    with closing(read_frames(path)) as frames:
        height, width = next(frames).shape[:2]
    stills = find_stills(path)
    if stills:
        return VideoFacts(*pace_of(stills), width, height, audio=False)
    facts = timing(path)
    with opened(path) as container:
        return VideoFacts(facts.rate, facts.frames, width, height, bool(container.streams.audio))


def read_frames(path: Path) -> Generator[Image, None, None]:
    """The frames of a video, an animated GIF, a picture or a folder of pictures in natural order: (H, W, 3), RGB.

    All have one size and follow each other at the constant rate of `video_facts`: where the file's own rate varies,
    frames are repeated or left out by their timestamps, so that sound stays in step. Frames are upright, pixels
    square, and what is transparent is white.

    Raises:
        VideoError: nothing can be read; or some cannot, then all that could was delivered before.
    """
    stills = find_stills(path)
    if stills:
        yield from read_stills(stills)
        return
    facts = timing(path)
    count = 0
    shown = None
    with opened(path) as container:
        decoding = Decoding(container, path, facts)
        for frame in paced(decoding.frames(), facts.rate, decoding.clock.borne_out):
            if shown is None:
                stream = decoding.stream
                renderer = Renderer(square_size(frame, stream.sample_aspect_ratio), stream.codec_context.name)
            if frame is not shown:
                image, shown = renderer.render(frame), frame
            yield image
            count += 1
    if count == 0:
        raise VideoError(f"no frame of {path} can be decoded; it is empty or damaged, save or copy it again")
    if decoding.faults:
        raise VideoError(f"{path} is damaged: {decoding.faults[0]}; {count} frames could be read")


def read_part(
    path: Path, first: int, last: int | None = None, facts: Timing | None = None
) -> Generator[Image, None, None]:
    """The frames of `read_frames` from number `first` to before `last`, none where it is over before.

    In a file that has an index they are sought out, else all before them are decoded too.

    Args:
        facts: what `timing` says of the file, where that is known.

    Raises:
        VideoError: as `read_frames`, of what was decoded.
    """
    if first and not find_stills(path):
        facts = facts or timing(path)
        if facts.seekable:
            for image in _sought(path, facts, first, last):
                if image is None:
                    break
                yield image
            else:
                return
    yield from islice(read_frames(path), first, last)


def _sought(path: Path, facts: Timing, first: int, last: int | None) -> Iterator[Image | None]:
    """The frames of `read_part`; the first is None where its whole picture was not found."""
    with opened(path) as container:
        decoding = Decoding(container, path, facts)
        begin = next(((frame, time) for frame, time, _ in decoding.frames()), None)
    frame, origin = begin or (None, None)
    if frame is None or origin is None:
        yield None
        return
    with opened(path) as container:
        decoding = Decoding(container, path, facts)
        stream = decoding.stream
        renderer = Renderer(square_size(frame, stream.sample_aspect_ratio), stream.codec_context.name)
        container.seek(int((origin + first / facts.rate) / (stream.time_base or 1)), stream=stream)
        coming = decoding.frames()
        found = list(islice(coming, 1))
        # numbered from the file's first frame, which stands for all those that are not decoded
        passed_over = [(None, origin, Fraction(0))] if found and found[0][1] != origin else []
        numbered = chain(passed_over, found, coming)
        shown, image = None, None
        for coded in islice(paced(numbered, facts.rate, decoding.clock.borne_out), first, last):
            if coded is not None and coded is not shown:
                image, shown = renderer.render(coded), coded
            yield image
    if decoding.faults:
        raise VideoError(f"{path} is damaged: {decoding.faults[0]}")


def spread_frames(path: Path, count: int, first: int = 0, last: int | None = None) -> list[Image]:
    """Frame number `first` of a video and `count` - 1 more before `last`, evenly spread as far as its length is known.

    In a long one the frames nearest to these are sought out, not all decoded. Of a damaged one, those that can be
    read; a warning says so.
    """
    wanted = [first]
    if count > 1:
        end = min(n for n in (last, video_facts(path).frames, math.inf) if n is not None)
        end = first + count if math.isinf(end) else max(first + 1, round(end))
        wanted = np.unique(np.linspace(first, end - 1, min(count, end - first)).round().astype(int)).tolist()
    stills = find_stills(path)
    if stills and len(stills) > wanted[-1]:
        return list(read_stills([stills[n] for n in wanted]))
    pictures: list[Image] = []
    try:
        apart = (wanted[-1] + 1) / len(wanted)
        if not stills and apart > SOUGHT and (facts := timing(path)).seekable:
            with opened(path) as container:
                stream, shown = video_stream(container, path), (n / facts.rate for n in wanted)
                renderer: Renderer | None = None
                for frame in frames_at(container, stream, shown):
                    size = square_size(frame, stream.sample_aspect_ratio)
                    renderer = renderer or Renderer(size, stream.codec_context.name)
                    pictures.append(renderer.render(frame))
        if not pictures:
            with closing(read_frames(path)) as frames:
                pictures.extend(frame for n, frame in enumerate(islice(frames, wanted[-1] + 1)) if n in wanted)
    except VideoError as error:
        if not pictures:
            raise
        warn_once(str(error))
    return pictures
