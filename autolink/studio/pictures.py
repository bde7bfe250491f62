"""What is sent to the page: pictures as bytes, jobs as JSON."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from autolink.studio.jobs import Job
from autolink.studio.session import Session
from autolink.video.files import spread_frames

STRIP_FRAMES, STRIP_HEIGHT = 10, 72
"""What a timeline shows of a clip."""


def jpeg(image: NDArray[np.uint8], quality: int = 92) -> bytes:
    """(H, W, 3), RGB, as a JPEG of full colour: of all formats the quickest to write at the networks' sizes."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def film_strip(path: Path, frames: int = STRIP_FRAMES, height: int = STRIP_HEIGHT) -> NDArray[np.uint8]:
    """Frames of a video, evenly spread and cut to squares, beside each other: (height, frames * height, 3).

    Raises:
        VideoError: it cannot be read.
    """
    found = spread_frames(path, frames)
    squares = [np.asarray(ImageOps.fit(Image.fromarray(image), (height, height))) for image in found]
    rows = np.linspace(0, len(squares) - 1, frames).round().astype(int)  # a short clip shows some of them twice
    return np.concatenate([squares[n] for n in rows], 1)


def public(job: Job, session: Session) -> dict[str, Any]:
    """A job as the page sees it: with the command that does the same, without the folders of this machine."""
    values = asdict(job)
    here = f"{session.folder}/"
    values["command"] = ["autolink", *(word.replace(here, "") for word in values.pop("arguments"))]
    for name in ("said", "notes"):
        values[name] = [line.replace(here, "") for line in values[name]]
    values["error"] = job.error.replace(here, "")
    return values
