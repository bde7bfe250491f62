"""Pictures reconstructed from edge maps, and the graph at the keypoints' mean positions."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data.images import ImageSet
from autolink.device import to_network
from autolink.edge_map import edge_pairs
from autolink.eval.metrics import FeatureDistance, l1
from autolink.eval.results import Figure, Graph, Picture, Section, data_name
from autolink.model import AutoLink

MASKED, MASK_BLOCKS, MASK_SEED = 0.9, 16, 0
"""How much is hidden before reconstruction, as in training."""

SHOWN, SHOWN_SIDE = 8, 192

ROWS = ("picture", "keypoints and graph", "edge map", "masked picture", "reconstruction")

PROTOCOL = (
    f"Rebuilt from edge map and picture, {MASKED:.0%} of whose {MASK_BLOCKS} x {MASK_BLOCKS} blocks are hidden; with "
    "another picture's edge map in place of its own, it is what a graph without information scores."
)


def chosen_rows(data: ImageSet, most: int) -> tuple[NDArray[np.int64], str]:
    """Which pictures are rebuilt, held-out ones where there are some, and what they are."""
    test = data.annotation.test if data.annotation is not None else np.zeros(len(data), bool)
    rows = np.flatnonzero(test) if test.any() else np.arange(len(data))
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return rows, "test pictures" if test.any() else "pictures, training pictures included"


@torch.no_grad()
def measure_reconstruction(
    model: AutoLink, data: ImageSet, name: str, most: int, device: torch.device
) -> tuple[Section, draw.Image]:
    """Reconstruction errors, graph and contact sheet of at most `most` pictures of the data called `name`."""
    rows, samples = chosen_rows(data, most)
    pictures = np.ascontiguousarray(data.images[rows])
    distance = FeatureDistance(device)
    generator = torch.Generator().manual_seed(MASK_SEED)
    found: dict[str, list[Tensor]] = {}
    keypoints: list[NDArray[np.floating]] = []
    sheets: list[draw.Image] = []
    for n in range(0, len(pictures), 64):
        images = to_network(torch.from_numpy(pictures[n : n + 64]), device)
        visible = torch.rand(len(images), 1, MASK_BLOCKS, MASK_BLOCKS, generator=generator) >= MASKED
        masked = images * F.interpolate(visible.float().to(device), size=images.shape[2:])
        output = model(images, visible.float().to(device))
        other = model.decoder(masked, output.edge_map.roll(1, 0))
        for edge_map, made in (("own", output.reconstruction), ("other", other)):
            made = made.clamp(-1, 1)
            found.setdefault(f"{edge_map}_l1", []).append(l1(made, images))
            found.setdefault(f"{edge_map}_features", []).append(distance(made, images))
        keypoints.append(output.keypoints.cpu().numpy())
        if not sheets:
            sheets.append(contact_sheet(model, pictures, masked, output.edge_map, output.reconstruction, keypoints[0]))
    means = {measured: float(torch.cat(values).mean()) for measured, values in found.items()}
    figure = partial(
        Figure, data=data_name(name), count=len(rows), samples=samples, protocol=PROTOCOL, better="lower", digits=4,
        group="Reconstruction of masked pictures", seed=MASK_SEED, baseline_name="another picture's edge map",
    )  # fmt: skip
    figures = (
        figure("reconstruction_l1", "L1 in [0, 1] units", means["own_l1"], baseline=means["other_l1"]),
        figure(
            "reconstruction_features", "Feature distance", means["own_features"], baseline=means["other_features"],
            measured_by="efficientnet-lite0",
        ),
    )  # fmt: skip
    (sheet,) = sheets
    title = "Keypoints, edge maps and reconstructions"
    picture = Picture("keypoints", title, ROWS, "a picture", sheet.shape[1], sheet.shape[0])
    return Section(figures, graph=graph(model, np.concatenate(keypoints)), pictures=(picture,)), sheet


def contact_sheet(
    model: AutoLink,
    pictures: NDArray[np.uint8],
    masked: Tensor,
    edges: Tensor,
    rebuilt: Tensor,
    keypoints: NDArray[np.floating],
) -> draw.Image:
    """Some of the pictures, a column each, rows as in `ROWS`."""
    chosen = np.unique(np.linspace(0, len(masked) - 1, min(SHOWN, len(masked))).astype(int))
    factor = max(1, SHOWN_SIDE // model.config.size)
    weights = model.edge_weights.detach().cpu().numpy()

    def enlarged(values: Tensor) -> list[draw.Image]:
        shown = values[chosen].permute(0, 2, 3, 1).cpu().numpy()
        return [draw.enlarged(draw.to_image(value), factor) for value in shown]

    inputs = [draw.enlarged(pictures[n], factor) for n in chosen]
    places = (keypoints[chosen] + 1) / 2 * (inputs[0].shape[0] - 1)
    graphs = [draw.draw_graph(image, place, weights) for image, place in zip(inputs, places, strict=True)]
    lines = [draw.enlarged(draw.edge_map_image(e), factor) for e in edges[chosen, 0].cpu().numpy()]
    return draw.grid([inputs, graphs, lines, enlarged(masked), enlarged(rebuilt)])


def graph(model: AutoLink, keypoints: NDArray[np.floating]) -> Graph:
    """The learned graph at the mean positions of the keypoints (N, K, 2), (x, y) in [-1, 1]."""
    weights = model.edge_weights.detach().cpu().numpy()
    pairs = edge_pairs(model.config.keypoints).T.tolist()
    strongest = max(float(weights.max()), 1e-12)
    edges = tuple((i, j, float(w) / strongest) for (i, j), w in zip(pairs, weights, strict=True))
    return Graph(tuple((float(x), float(y)) for x, y in keypoints.mean(0).round(4)), edges)
