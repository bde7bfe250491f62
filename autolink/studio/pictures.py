"""What is sent to the page: pictures as bytes, jobs as JSON."""

import io
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolink.studio.jobs import Job
from autolink.studio.session import Session


def jpeg(image: NDArray[np.uint8], quality: int = 92) -> bytes:
    """(H, W, 3), RGB, as a JPEG of full colour: of all formats the quickest to write at the networks' sizes."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def public(job: Job, session: Session) -> dict[str, Any]:
    """A job as the page sees it: with the command that does the same, without the folders of this machine."""
    values = asdict(job)
    here = f"{session.folder}/"
    values["command"] = ["autolink", *(word.replace(here, "") for word in values.pop("arguments"))]
    for name in ("said", "notes"):
        values[name] = [line.replace(here, "") for line in values[name]]
    values["error"] = job.error.replace(here, "")
    return values
