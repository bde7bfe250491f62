"""Contact sheets of a GAN: structures in their appearances, nearest real pictures, and the worst of all."""

import numpy as np
import torch
from torch.nn import functional as F

from autolink import draw
from autolink.eval.gan_figures import FeatureSets, Material
from autolink.eval.gan_measures import NEIGHBOURS, Pictures, nearest, realism, to_pictures
from autolink.eval.results import Picture
from autolink.generation.gan import Gan

ROWS, COLUMNS, SIDE = 6, 7, 128

ROW_NAMES = (*(f"structure {n + 1}" for n in range(ROWS)), "generated", "nearest real pictures")

WORST, WORST_COLUMNS = 20, 10
"""How many of each class are shown, and how many in a row."""


def contact_sheet(
    gan: Gan, material: Material, features: FeatureSets, seed: int, truncation: float
) -> tuple[Picture, Pictures]:
    """A structure a row (real, edge map, appearances), then generated pictures above their nearest real ones."""
    order = np.concatenate([np.flatnonzero(material.classes == c)[:ROWS] for c in np.unique(material.classes)])
    rows = np.resize(order[np.linspace(0, len(order) - 1, min(ROWS, len(order))).astype(int)], ROWS)
    side = material.real.shape[1]
    repeated = rows.repeat(COLUMNS)
    noise = torch.randn(COLUMNS, gan.config.latent, generator=torch.Generator().manual_seed(seed))
    classes = torch.from_numpy(material.classes[repeated]).to(gan.device)
    styles = gan.styles(noise.repeat(len(rows), 1).to(gan.device), classes, truncation)
    shown = to_pictures(gan.generate(torch.from_numpy(material.asked[repeated]).to(gan.device), styles), side)
    edges = gan.draw(torch.from_numpy(material.asked[rows]).to(gan.device))
    edges = F.interpolate(edges, size=(side, side), mode="bilinear", align_corners=True)
    table = [
        [
            material.real[row],
            draw.edge_map_image(edges[n, 0].cpu().numpy()),
            *shown[n * COLUMNS :][:COLUMNS],
        ]
        for n, row in enumerate(rows)
    ]
    some = np.resize(np.linspace(0, len(material.fake) - 1, COLUMNS + 2).astype(int), COLUMNS + 2)
    table.append([material.fake[n] for n in some])
    table.append([material.real[n] for n in nearest(features.fake[some], features.real).rows])
    columns = "an appearance, the real picture and its edge map being the first two"
    return _sheet("generated", "Generated pictures", ROW_NAMES, columns, table)


def worst_sheet(gan: Gan, material: Material, features: FeatureSets) -> tuple[Picture, Pictures] | None:
    """The least realistic twenty of each class, worst first; None where no class has real pictures enough."""
    table, names = [], []
    for number, name in enumerate(gan.config.classes):
        rows = np.flatnonzero(material.classes == number)
        if len(rows) <= NEIGHBOURS:
            continue
        order = rows[np.argsort(realism(features.fake[rows], features.real[rows]), kind="stable")[:WORST]]
        blank = np.full_like(material.fake[0], 255)
        for n in range(0, len(order), WORST_COLUMNS):
            pictures = [material.fake[row] for row in order[n : n + WORST_COLUMNS]]
            table.append(pictures + [blank] * (WORST_COLUMNS - len(pictures)))
            names.append(f"{name}, worst {n + 1} to {n + len(pictures)}")
    if not table:
        return None
    title = f"Worst pictures: lowest realism[{features.name}] (Kynkäänniemi et al. 2019)"
    return _sheet("worst", title, tuple(names), "a picture", table)


def _sheet(
    name: str, title: str, rows: tuple[str, ...], columns: str, table: list[list[draw.Image]]
) -> tuple[Picture, Pictures]:
    factor = max(1, SIDE // len(table[0][0]))
    image = draw.grid([[draw.enlarged(picture, factor) for picture in row] for row in table])
    return Picture(name, title, rows, columns, image.shape[1], image.shape[0]), image
