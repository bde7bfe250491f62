"""Which bundled stage one knows some pictures best."""

from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from autolink.checkpoints import bundled
from autolink.data.picture import square
from autolink.data.source import Source
from autolink.device import to_network
from autolink.errors import UserError
from autolink.model import AutoLink
from autolink.pictures import PictureError
from autolink.video import files as video

Image = NDArray[np.uint8]

LOOKS = 8
"""Pictures that are looked at, evenly spread."""

BLOCKS, HIDDEN, MASKS = 16, 0.8, 2
"""Blocks a side of a mask, the share of them that is hidden, and masks for each picture, as in training."""


def choose_checkpoint(source: Source | Path, device: torch.device) -> tuple[str, AutoLink]:
    """The bundled stage one that rebuilds pictures best whose blocks are mostly hidden, and its name.

    Args:
        source: pictures, or a video.
        device: where to compute.

    Raises:
        UserError: no picture can be read.
    """
    pictures = _looks(source)
    known = {name: AutoLink.from_folder(folder).to(device).eval() for name, folder in bundled("autolink").items()}
    best = min(known, key=lambda name: masked_error(known[name], pictures))
    return best, known[best]


@torch.no_grad()
def masked_error(model: AutoLink, pictures: list[Image]) -> float:
    """Mean L1 of the hidden pixels, in [-1, 1] units, of pictures (H, W, 3) under masks that are always the same."""
    config, device = model.config, model.edge_logits.device
    squares = np.stack([square(PIL.Image.fromarray(picture), config.size, config.fit) for picture in pictures])
    images = to_network(torch.from_numpy(squares), device)
    dice = torch.Generator().manual_seed(0)
    visible = (torch.rand((MASKS, 1, 1, BLOCKS, BLOCKS), generator=dice) >= HIDDEN).float().to(device)
    errors = []
    for mask in visible:
        hidden = 1 - F.interpolate(mask, size=(config.size, config.size), mode="nearest")
        away = (model.reconstruct(images, mask.expand(len(images), -1, -1, -1)) - images).abs() * hidden
        errors.append(float(away.sum() / (hidden.sum() * 3 * len(images))))
    return sum(errors) / MASKS


def _looks(source: Source | Path) -> list[Image]:
    """A few pictures of a source; what cannot be read is passed over here, for detection tells of it."""
    if isinstance(source, Path):
        return video.spread_frames(source, LOOKS)
    numbers = np.unique(np.linspace(0, len(source.names) - 1, LOOKS).round().astype(int))
    pictures = []
    for n in numbers:
        try:
            pictures.append(np.asarray(source.picture(source.names[n])))
        except PictureError:
            continue
    if not pictures:
        raise UserError(
            f"--input {source.path}: none of the {len(numbers)} pictures looked at can be read, so no checkpoint can "
            "be chosen by them; give --checkpoint"
        )
    return pictures
