"""Changing pictures so that a judge of joints also knows blurred, shifted and partly covered ones."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR = 1.2
"""Largest standard deviation of the blur in pixels of a 64-pixel picture."""

COVERED = 0.3
"""Share of the pictures of which a rectangle is covered: where nothing is to be seen, a judge learns to be unsure."""


def _reversed(*ranges: tuple[int, int]) -> list[int]:
    return [n for first, last in ranges for n in range(last, first - 1, -1)]


FACE_MIRROR = (
    *_reversed((0, 16), (17, 26), (27, 27)), 28, 29, 30, *_reversed((31, 35)),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *_reversed((48, 54), (55, 59), (60, 64), (65, 67)),
)  # fmt: skip
"""Which of the 68 points of a face each becomes when the picture is mirrored."""


@dataclass(frozen=True)
class Augmentation:
    """How far pictures are changed."""

    scale: tuple[float, float]
    """Smallest and largest factor."""
    rotation: float
    """Largest angle in radians, to both sides."""
    shift: float
    """Largest shift in units of the [-1, 1] plane, along each axis."""
    mirror: tuple[int, ...] | None = None
    """Number of the joint that each becomes in the mirror, for data that may be mirrored."""


def augment(
    images: Tensor, joints: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change pictures and their joints alike: (B, 3, H, W) in [-1, 1] and (B, J, 2), (x, y) in [-1, 1]."""
    images, joints = moved(images, joints, augmentation, generator)
    return blurred(recoloured(covered(images, generator), generator), generator), joints


def _uniform(count: int, low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """(count,), drawn on the CPU so that every device sees the same numbers."""
    return (torch.rand(count, generator=generator) * (high - low) + low).to(like.device)


def moved(
    images: Tensor, joints: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mirrored, turned, scaled and shifted, each picture differently; shapes as in `augment`."""
    B = len(images)
    angle = _uniform(B, -augmentation.rotation, augmentation.rotation, images, generator)
    scale = _uniform(B, *augmentation.scale, images, generator)
    shift = _uniform(2 * B, -augmentation.shift, augmentation.shift, images, generator).view(B, 2)
    linear = scale[:, None, None] * torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(B, 2, 2)
    if augmentation.mirror is not None:
        flipped = _uniform(B, 0, 1, images, generator) < 0.5
        linear[:, :, 0] *= torch.where(flipped, -1.0, 1.0)[:, None]
        mirror = torch.tensor(augmentation.mirror, device=joints.device)
        joints = torch.where(flipped[:, None, None], joints[:, mirror], joints)
    inverse = torch.linalg.inv(linear)  # grid_sample asks where each new pixel comes from
    matrix = torch.cat([inverse, -inverse @ shift[..., None]], 2)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=True)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=True)
    return images, joints @ linear.mT + shift[:, None]


def covered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Some pictures with a rectangle of one colour, up to a third of the side wide and high."""
    B, _, H, W = images.shape
    rows, columns = torch.arange(H, device=images.device), torch.arange(W, device=images.device)
    top, left, height, width, chosen = _uniform(5 * B, 0, 1, images, generator).view(5, B, 1)
    inside_rows = (rows >= top * H) & (rows < (top + height / 3) * H)
    inside_columns = (columns >= left * W) & (columns < (left + width / 3) * W)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :] & (chosen < COVERED)[..., None, None]
    colour = _uniform(3 * B, -1, 1, images, generator).view(B, 3, 1, 1)
    return torch.where(inside, colour, images)


def recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast, brightness and tint changed."""
    B = len(images)
    contrast = _uniform(B, 0.75, 1.25, images, generator).view(B, 1, 1, 1)
    offset = _uniform(B, -0.2, 0.2, images, generator).view(B, 1, 1, 1)
    tint = _uniform(3 * B, -0.1, 0.1, images, generator).view(B, 3, 1, 1)
    return (images * contrast + offset + tint).clamp(-1, 1)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures smoothed by a Gaussian of random width."""
    B, C, H, W = images.shape
    sigma = _uniform(B, -BLUR, BLUR, images, generator).clamp(min=1e-3) * W / 64
    taps = torch.arange(-4, 5, device=images.device)
    kernel = (-(taps**2) / (2 * sigma[:, None] ** 2)).softmax(1).repeat_interleave(C, 0)[:, None]
    flat = F.pad(images.reshape(1, B * C, H, W), (4, 4, 4, 4), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[:, :, None], groups=B * C), kernel[..., None], groups=B * C)
    return flat.view(B, C, H, W)
