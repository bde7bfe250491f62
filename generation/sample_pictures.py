"""Samples of a GAN as pictures: structures beside what is generated of them, in a grid or from frame to frame."""

from collections.abc import Iterator
from itertools import chain
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.generation.gan import Gan

SHOWN_SIDE = 128
"""Smaller pictures are enlarged by whole factors to about this."""

WIDE = 8
"""Pictures in a line of a contact sheet."""

Image = NDArray[np.uint8]

Lock = Literal["none", "structure", "appearance"]


def factor_of(size: int) -> int:
    """How many times pictures of this side are enlarged to be seen."""
    return max(1, SHOWN_SIDE // size)


def to_pictures(images: Tensor) -> list[Image]:
    """(N, 3, size, size) in [-1, 1] -> (side, side, 3) each, enlarged to be seen."""
    factor = factor_of(images.shape[-1])
    return [draw.enlarged(draw.to_image(i), factor) for i in images.permute(0, 2, 3, 1).cpu().numpy()]


def edge_pictures(gan: Gan, keypoints: Tensor, kept: Tensor | None, numbers: bool) -> list[Image]:
    """The edge maps as the generator sees them, (side, side, 3) each; `numbers` writes those of the keypoints."""
    side = gan.config.size * factor_of(gan.config.size)
    edges = F.interpolate(gan.draw(keypoints, kept), size=(side, side), mode="bilinear", align_corners=True)
    pictures = [draw.edge_map_image(e) for e in edges[:, 0].cpu().numpy()]
    if numbers:
        for picture, points in zip(pictures, keypoints.cpu().numpy(), strict=True):
            for k, (x, y) in enumerate(((points + 1) / 2 * (side - 1)).round().astype(int).tolist()):
                cv2.putText(picture, str(k), (x - 4, y + 4), cv2.FONT_HERSHEY_SIMPLEX, side / 400, (255, 190, 60), 1)
    return pictures


def laid_out(strips: list[list[Image]], lock: Lock, each: int) -> list[list[Image]]:
    """The rows of a grid.

    Args:
        strips: of every structure its picture, if any, its edge map and what is generated; all of one length.
        lock: `none`, a strip is a row; `structure`, the strip is broken into lines; `appearance`, a structure is a
            column, and columns are broken into bands.
        each: strips of one structure: 2 where the unedited one stands before the edited one.
    """
    if lock == "none":
        return strips
    if lock == "structure":
        return [line for strip in strips for line in _broken(strip)]
    columns = [list(chain.from_iterable(strips[n : n + each])) for n in range(0, len(strips), each)]
    return [line for cells in zip(*map(_broken, zip(*columns, strict=True)), strict=True) for line in cells]


def _broken(cells: list[Image] | tuple[Image, ...]) -> list[list[Image]]:
    """Lines of WIDE cells, the last one filled up with white."""
    width = min(WIDE, len(cells))
    blank = [np.full_like(cells[0], 255)] * (-len(cells) % width)
    whole = [*cells, *blank]
    return [whole[n : n + width] for n in range(0, len(whole), width)]


def path_through(values: Tensor, between: int) -> Tensor:
    """A smooth path through (S, ...): (T, ...), `between` steps from each to the next, and back to the first."""
    if len(values) == 1:
        return values.repeat(between, *[1] * (values.ndim - 1))
    share = torch.arange(between, device=values.device) / between
    share = (0.5 - 0.5 * torch.cos(share * torch.pi)).view(1, -1, *[1] * (values.ndim - 1))
    following = values.roll(-1, 0)
    return ((1 - share) * values[:, None] + share * following[:, None]).flatten(0, 1)


def moving_structures(gan: Gan, poses: Tensor, looks: Tensor, kept: Tensor | None, numbers: bool) -> Iterator[Image]:
    """Frames: one pose after another, (T, K, 2), its edge map beside it in all its appearances, (T, A, latent)."""
    for pose, styles in zip(poses, looks, strict=True):
        images = to_pictures(gan.generate(pose.expand(len(styles), -1, -1), styles, kept))
        yield np.concatenate([*edge_pictures(gan, pose[None], kept, numbers), *images], 1)


def moving_appearances(
    gan: Gan, keypoints: Tensor, paths: Tensor, kept: Tensor | None, numbers: bool
) -> Iterator[Image]:
    """Frames: structures (S, K, 2) side by side below their edge maps, their appearances changing, (T, S, latent)."""
    edges = np.concatenate(edge_pictures(gan, keypoints, kept, numbers), 1)
    for styles in paths:
        images = to_pictures(gan.generate(keypoints, styles, kept))
        yield np.concatenate([edges, np.concatenate(images, 1)], 0)
