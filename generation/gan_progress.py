"""Figures and samples of a GAN during training."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.device import to_network
from autolink.generation.gan import Gan
from autolink.generation.gan_data import GanData
from autolink.generation.losses import difference

MEASURED = 200
"""Pictures generated for the figures while training."""

TRIED = 4
"""Appearances in which a structure is drawn to see how well that goes."""

ROWS, COLUMNS = 5, 7
"""Structures and appearances in the sample picture."""


def generate(gan: Gan, data: GanData, rows: NDArray[np.int64], noise: Tensor, batch: int) -> Tensor:
    """Pictures (n, 3, size, size) with the structures of some of the data's, (n,), and noise (n, latent)."""
    classes = torch.from_numpy(data.classes[rows]).to(gan.device)
    styles = gan.styles(noise.to(gan.device), classes)
    return gan.generate(data.keypoints[0, rows].to(gan.device), styles, batch=batch)


@torch.no_grad()
def measure(gan: Gan, data: GanData, batch: int) -> dict[str, float]:
    """Re-detected against asked-for keypoints in per cent of the side, variety, and what real pictures score."""
    dice = torch.Generator().manual_seed(0)
    rows = np.resize(data.shown_rows, MEASURED)
    images, others = (
        generate(gan, data, rows, torch.randn(MEASURED, gan.config.latent, generator=dice), batch) for _ in range(2)
    )
    found = gan.stage_one.keypoints(images).cpu()
    apart = np.random.default_rng(0).permutation(len(data.shown_rows))[: MEASURED // 2]
    order = np.resize(data.shown_rows[apart], MEASURED)
    other = np.resize(np.roll(data.shown_rows[apart], 1), MEASURED)
    same_class = data.classes[order] == data.classes[other]
    real, real_other = (to_network(torch.from_numpy(data.images[r]), images.device) for r in (order, other))
    distance = (data.keypoints[0, order] - data.keypoints[0, other]).norm(dim=2).mean(1)[same_class]
    return {
        "structure_error": (found - data.keypoints[0, rows]).norm(dim=2).mean().item() * 50,
        "random_structure_error": distance.mean().item() * 50,
        "variety": difference(images, others).item(),
        "real_variety": difference(real, real_other).item(),
    }


@torch.no_grad()
def faithful_rows(gan: Gan, data: GanData, batch: int) -> NDArray[np.int64]:
    """Pictures whose structures to remember, (REMEMBERED,): of each group the one whose structure is drawn best.

    Where keypoints found on what is generated are far from those asked for, eyes and muzzles are wrong more often.
    """
    groups = data.candidates()
    rows = groups.ravel().repeat(TRIED)
    noise = torch.randn(len(rows), gan.config.latent, generator=torch.Generator().manual_seed(0))
    errors = [
        (gan.stage_one.keypoints(generate(gan, data, some, z, batch)).cpu() - data.keypoints[0, some]).norm(dim=2)
        for some, z in zip(np.array_split(rows, len(groups)), noise.tensor_split(len(groups)), strict=True)
    ]
    best = torch.cat(errors).mean(1).view(*groups.shape, TRIED).mean(2).argmin(1).numpy()
    chosen: NDArray[np.int64] = groups[np.arange(len(groups)), best]
    return chosen


@torch.no_grad()
def sample_picture(gan: Gan, data: GanData, batch: int) -> NDArray[np.uint8]:
    """A structure a row, an appearance a column, after the real picture and its edge map."""
    config = gan.config
    rows = sampled_rows(data)
    noise = torch.randn(COLUMNS, config.latent, generator=torch.Generator().manual_seed(1))
    images = generate(gan, data, rows.repeat(COLUMNS), noise.repeat(ROWS, 1), batch)
    edges = gan.draw(data.keypoints[0, rows].to(images.device))
    edges = F.interpolate(edges, size=(config.size, config.size), mode="bilinear", align_corners=True)[:, 0]
    pictures = [draw.to_image(i) for i in images.permute(0, 2, 3, 1).cpu().numpy()]
    drawn = [draw.edge_map_image(e) for e in edges.cpu().numpy()]
    factor = max(1, 128 // config.size)
    grid = [
        [data.images[row], drawn[n], *pictures[n * COLUMNS : (n + 1) * COLUMNS]] for n, row in enumerate(rows)
    ]  # fmt: skip
    return draw.grid([[draw.enlarged(picture, factor) for picture in row] for row in grid])


def sampled_rows(data: GanData) -> NDArray[np.int64]:
    """Pictures whose structures are shown, (ROWS,): of each class in turn, spread over its pictures."""
    shown = data.shown_rows
    by_class = [shown[data.classes[shown] == number] for number in np.unique(data.classes[shown])]
    picked = [by_class[n % len(by_class)] for n in range(ROWS)]
    return np.array([rows[(n * len(rows)) // ROWS] for n, rows in enumerate(picked)])
