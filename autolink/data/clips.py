"""Videos as training pictures: frames sampled evenly from each."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolink.data.picture import square
from autolink.pictures import warn_once
from autolink.video.container import VideoError
from autolink.video.files import read_frames

FRAMES_PER_CLIP = 200
"""Frames kept of a clip at most."""


def read_clip(path: Path, size: int, count: int = FRAMES_PER_CLIP) -> NDArray[np.uint8]:
    """Frames of a video, evenly spread, their central squares: (n, size, size, 3), n at most `count`.

    What can be read of a damaged one is used, and that is logged.

    Raises:
        VideoError: not even one frame can be read.
    """
    frames: list[NDArray[np.uint8]] = []
    stride = 1
    try:
        for n, frame in enumerate(read_frames(path)):
            if n % stride:
                continue
            frames.append(square(Image.fromarray(frame), size, "crop"))
            if len(frames) == 2 * count:  # too long to keep: every second frame from here on
                frames, stride = frames[::2], 2 * stride
    except VideoError as error:
        if not frames:
            raise
        warn_once(str(error))
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), count)).round().astype(int))
    return np.stack([frames[n] for n in chosen])
