"""Distances between generated and real pictures; each figure of `eval/transfer.py` is one function here."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink.perceptual import PerceptualLoss

SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
"""Constants of Wang et al. 2004."""

FEATURE_SIZE = 128
"""Pictures are resized to this before the feature network, as in stage one's training."""

FLOW_SIZE = 256
"""Pictures are resized to this before their flow is found: it follows a limb of a few pixels better when enlarged."""


def l1(images: Tensor, real: Tensor) -> Tensor:
    """Mean difference of the pixels, in units of the [0, 1] range: (N, 3, H, W) in [-1, 1] twice -> (N,)."""
    return (images - real).abs().mean((1, 2, 3)) / 2


def ssim(images: Tensor, real: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004): (N, 3, H, W) in [-1, 1] twice -> (N,), 1 for equal pictures.

    Gaussian window, each channel by itself, averaged where the window lies inside the picture: what scikit-image
    gives for gaussian_weights=True, use_sample_covariance=False, data_range=1.
    """
    taps = torch.arange(SSIM_WINDOW, device=images.device) - SSIM_WINDOW // 2
    window = torch.exp(-(taps**2) / (2 * SSIM_SIGMA**2)).double()
    window = window / window.sum()

    def smooth(values: Tensor) -> Tensor:
        flat = values.flatten(0, 1)[:, None]
        return F.conv2d(F.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    x, y = (images.double() + 1) / 2, (real.double() + 1) / 2
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.view(len(images), -1).mean(1).float()


class FeatureDistance:
    """The efficientnet-lite0 distance: stage one's perceptual distance, picture by picture so that no batch matters."""

    def __init__(self, device: torch.device) -> None:
        self.loss = PerceptualLoss("efficientnet-lite0", FEATURE_SIZE).to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor, real: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] twice -> (N,)."""
        return torch.stack([self.loss(a[None], b[None]) for a, b in zip(images, real, strict=True)])

    @torch.no_grad()
    def at(self, images: Tensor, places: Tensor) -> Tensor:
        """The first three feature maps, to a quarter of the resolution, at (N, J, 2) in [-1, 1]: (N, J, c)."""
        images = F.interpolate(images, size=(FEATURE_SIZE, FEATURE_SIZE), mode="bilinear", align_corners=False)
        maps = self.loss.features(images)[:3]
        grid = places[:, :, None].to(images)
        return torch.cat([F.grid_sample(m.float(), grid, "bilinear", "border", True)[..., 0] for m in maps], 1).mT


def optical_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Where each pixel of `second` was in `first`, and whether that can be relied on; both (H, W, 3) 8-bit.

    Returns:
        Flow (H, W, 2), (x, y) in pixels, and (H, W): true where the flows forward and backward agree (Sundaram et al.
        2010), that is, where nothing was covered or uncovered.
    """
    H, W = first.shape[:2]
    a, b = (
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (FLOW_SIZE, FLOW_SIZE), interpolation=cv2.INTER_CUBIC)
        for image in (first, second)
    )
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    per_pixel = np.array([W / FLOW_SIZE, H / FLOW_SIZE], np.float32)
    start = np.zeros((FLOW_SIZE, FLOW_SIZE, 2), np.float32)
    back, forth = (
        cv2.resize(finder.calc(now, before, start.copy()), (W, H), interpolation=cv2.INTER_AREA) * per_pixel
        for now, before in ((b, a), (a, b))
    )
    returned = warp(forth, back)
    lengths = (back**2).sum(2) + (returned**2).sum(2)
    return back, ((back + returned) ** 2).sum(2) < 0.01 * lengths + 0.5


def warp(image: NDArray[np.floating | np.uint8], flow: NDArray[np.floating]) -> NDArray[np.float32]:
    """(H, W, c) looked up at each pixel plus its flow (H, W, 2)."""
    H, W = flow.shape[:2]
    y, x = np.mgrid[:H, :W].astype(np.float32)
    where = x + flow[..., 0].astype(np.float32), y + flow[..., 1].astype(np.float32)
    moved = cv2.remap(image.astype(np.float32), *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def warping_error(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.floating], relied: NDArray[np.bool_]
) -> float:
    """How much a frame differs from the one before it, moved along the flow of `optical_flow`, in [0, 1] units."""
    difference = np.abs(second.astype(np.float32) - warp(first, flow)).mean(2) / 255
    return float(difference[relied].mean()) if relied.any() else float("nan")


def nearest_identity(signatures: NDArray[np.floating], references: NDArray[np.floating]) -> NDArray[np.int64]:
    """Whose signature is nearest: (N, D) against the (P, M, D) of P people in M pictures each -> (N,).

    A person is the mean of the pictures. Each dimension is divided by its spread among pictures of one person, so
    that what changes with pose counts little.
    """
    means = references.mean(1)
    spread = np.sqrt(references.var(1).mean(0)) + 1e-6
    apart = [np.linalg.norm((signatures - mean) / spread, axis=1) for mean in means]
    return np.asarray(np.stack(apart, 1).argmin(1), np.int64)
