"""The networks that the page uses, each loaded when it is first asked for."""

from functools import cache, lru_cache

import numpy as np
import torch
from PIL import Image as Still

from autolink.checkpoints import bundled, find_checkpoint
from autolink.choose import choose_checkpoint
from autolink.data.source import Source
from autolink.errors import UserError
from autolink.generation.gan import Gan
from autolink.inputs import Image
from autolink.nested import NestedAutoLink
from autolink.pictures import PictureError, decode_picture, decode_reduced
from autolink.studio.animals import Animals
from autolink.studio.discover import Discoverer
from autolink.studio.puppet import Learn, Puppet
from autolink.studio.session import Session, Upload
from autolink.video.clip import Clip
from autolink.video.files import spread_frames

SHOWN_SIDE = 1024
"""Longest side of a picture that is shown or looked at."""

PUPPETS = 4
"""Sources that are kept ready to be moved by hand."""

NESTED = "faces-transfer/stage_one"
"""The bundled stage one that has children."""


class Models:
    """Networks of a session, on one device; used from one thread."""

    def __init__(self, session: Session, gan: str, device: torch.device) -> None:
        self.session, self.gan, self.device = session, gan, device
        self.animals = cache(self._animals)
        self.discoverer = cache(self._discoverer)
        self.puppet = lru_cache(PUPPETS)(self._puppet)

    def _animals(self) -> Animals:
        return Animals(Gan.from_pretrained(self.gan).to(self.device), self.gan)

    def _discoverer(self, name: str) -> Discoverer:
        if name not in self.names():
            raise UserError(f"there is no checkpoint {name} here; choose one of the list")
        run = self.session.runs / name.removeprefix("runs/") / "model"
        folder = run if name.startswith("runs/") else find_checkpoint(name)
        return Discoverer(name, NestedAutoLink.from_folder(folder).to(self.device))

    def _puppet(self, upload: str, crop: str) -> Puppet:
        return Puppet(Clip.of(self.session.file_of(upload)), crop, self.device)

    def expressions(self, learn: Learn) -> list[list[list[float]]]:
        """What moves in a driver, or in given poses, for a source; as `Puppet.expressions`."""
        driver = Clip.of(self.session.file_of(learn.driver)) if learn.driver else None
        return self.puppet(learn.upload, learn.crop).expressions(learn, driver)

    def names(self) -> list[str]:
        """Stage ones: the bundled ones, and those trained here."""
        trained = sorted(path.parents[1].name for path in self.session.runs.glob("*/model/config.json"))
        return [*bundled("autolink"), NESTED, *(f"runs/{name}" for name in trained)]

    def picture(self, upload: Upload) -> Image:
        """What an upload shows, upright, at most SHOWN_SIDE on a side; of a video its first frame.

        Raises:
            UserError: it is a motion.
        """
        path = self.session.file_of(upload.id)
        if upload.kind == "motion":
            raise UserError(f"{upload.name} is a motion; it shows no picture")
        if upload.kind == "video":
            still = Still.fromarray(spread_frames(path, 1)[0])
        else:
            still, _ = decode_reduced(path, SHOWN_SIDE)
        still.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        return np.array(still)  # a copy, for torch wants to write

    def best_for(self, upload: Upload) -> str:
        """The bundled stage one that knows an upload best; of faces, the one that looks at mouth and eyes as well."""
        path = self.session.file_of(upload.id)
        source = path if upload.kind == "video" else Source(path.parent, [path.name], [])
        best = choose_checkpoint(source, self.device)[0]
        return NESTED if best == "faces" else best

    def keypoints(self, upload: Upload, checkpoint: str) -> dict[str, object]:
        """What a stage one, or the one that knows it best, finds in an upload."""
        discoverer = self.discoverer(self.best_for(upload) if checkpoint == "auto" else checkpoint)
        return discoverer.graph | discoverer.find(self.picture(upload), upload.width, upload.height)

    def look(self, checkpoint: str, jpeg: bytes, edges: bool) -> tuple[dict[str, object], bytes]:
        """What a stage one finds in a frame of the webcam, and its edge map if that is wanted.

        Raises:
            UserError: it is no picture.
        """
        try:
            frame = np.array(decode_picture(jpeg))
        except PictureError as error:
            raise UserError(f"the webcam's frame cannot be read: {error}") from None
        height, width = frame.shape[:2]
        discoverer = self.discoverer(checkpoint)
        found = discoverer.graph | discoverer.find(frame, width, height)
        return found, discoverer.edge_map(frame) if edges else b""
