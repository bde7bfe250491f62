"""Which bundled stage one knows some pictures best."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink.checkpoints import bundled
from autolink.data.picture import squares
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

WINDOW = 7 / 8
"""Side of the windows in which a keypoint must lie at the same place, as a share of the picture's."""


def choose_checkpoint(source: Source | Path, device: torch.device) -> tuple[str, AutoLink]:
    """The bundled stage one that knows pictures best, and its name.

    A stage one knows a picture if it rebuilds it where it is hidden, and if its keypoints stay on the subject when the
    picture is shifted: the product of the first error and the square of the second decides, the median over a few
    pictures. The second says more of what is known, the first also how hard the pictures are to paint.

    Args:
        source: pictures, or a video.
        device: where to compute.

    Raises:
        UserError: no picture can be read.
    """
    pictures = _looks(source)
    known = {name: AutoLink.from_folder(folder).to(device).eval() for name, folder in bundled("autolink").items()}

    def strangeness(name: str) -> float:
        model = known[name]
        images = _squares(model, pictures)
        return float((masked_error(model, images) * straying(model, images).square()).median())

    best = min(known, key=strangeness)
    return best, known[best]


def _squares(model: AutoLink, pictures: list[Image]) -> Tensor:
    """Pictures (H, W, 3) as the model sees them, (B, 3, size, size) in [-1, 1]."""
    small = squares(pictures, model.config.size, model.config.fit)
    return to_network(torch.from_numpy(small), model.edge_logits.device)


@torch.no_grad()
def masked_error(model: AutoLink, images: Tensor) -> Tensor:
    """Mean L1 of the hidden pixels under masks that are always the same: (B, 3, size, size) in [-1, 1] -> (B,)."""
    dice = torch.Generator().manual_seed(0)
    visible = (torch.rand((MASKS, 1, 1, BLOCKS, BLOCKS), generator=dice) >= HIDDEN).float().to(images.device)
    errors = []
    for mask in visible:
        hidden = 1 - F.interpolate(mask, size=images.shape[2:], mode="nearest")
        away = (model.reconstruct(images, mask.expand(len(images), -1, -1, -1)) - images).abs() * hidden
        errors.append(away.sum((1, 2, 3)) / (3 * hidden.sum()))
    return torch.stack(errors).mean(0)


@torch.no_grad()
def straying(model: AutoLink, images: Tensor) -> Tensor:
    """How far keypoints found in shifted windows of a picture lie apart: (B, 3, size, size) in [-1, 1] -> (B,).

    The RMS distance from their mean, of the median keypoint, in units of the keypoints' RMS distance from their centre.
    """
    size = images.shape[3]
    side = round(size * WINDOW)
    far = size - side
    corners = [(far // 2, far // 2), (0, far // 2), (far, far // 2), (far // 2, 0), (far // 2, far)]
    found = []
    for x, y in corners:
        keypoints = model.keypoints(images[:, :, y : y + side, x : x + side])
        found.append((keypoints + 1) / 2 * (side - 1) + torch.tensor([x, y], device=images.device))
    places = torch.stack(found)  # (windows, B, K, 2), in pixels of the picture
    apart = (places - places.mean(0)).square().sum(3).mean(0).sqrt()
    radius = (places[0] - places[0].mean(1, keepdim=True)).square().sum(2).mean(1).sqrt()
    return apart.median(1).values / radius.clamp(min=1e-6)


def _looks(source: Source | Path) -> list[Image]:
    """A few pictures of a source; what cannot be read is passed over here, for detection tells of it."""
    if isinstance(source, Path):
        return video.spread_frames(source, LOOKS)
    numbers = np.unique(np.linspace(0, len(source.names) - 1, LOOKS).round().astype(int))
    pictures = [picture for n in numbers if (picture := _readable(source, source.names[n])) is not None]
    if not pictures:
        raise UserError(
            f"--input {source.path}: none of the {len(numbers)} pictures looked at can be read, so no checkpoint can "
            "be chosen by them; give --checkpoint"
        )
    return pictures


def _readable(source: Source, name: str) -> Image | None:
    """A picture of a source, None where it cannot be read."""
    try:
        return np.asarray(source.picture(name))
    except PictureError:
        return None
