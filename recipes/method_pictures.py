"""The pictures of docs/method.md, of rendered people: python -m recipes.method_pictures.

Some seconds of a core. Repeat it when checkpoints/figures or checkpoints/figures-transfer change.
"""

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autolink import AutoLink, PoseTransfer, draw
from autolink.data.figures import figure_images
from autolink.device import to_network
from autolink.errors import command
from autolink.files import atomic_path
from autolink.generation.translator import translate

Picture = NDArray[np.uint8]
SHOWN = 160
"""Side of each square in pixels."""
LABEL = 22
"""Height of the line of text above each column."""


def pixels(values: Tensor) -> list[Picture]:
    """(B, 3, H, W) in [-1, 1] -> 8-bit squares as they are shown."""
    return [shown(draw.to_image(v)) for v in values.permute(0, 2, 3, 1).cpu().numpy()]


def edge_maps(edges: Tensor) -> list[Picture]:
    """(B, 1, H, W) -> the same."""
    return [shown(draw.edge_map_image(e)) for e in edges[:, 0].cpu().numpy()]


def shown(picture: Picture) -> Picture:
    """A picture at the size it is shown at."""
    return cv2.resize(picture, (SHOWN, SHOWN), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def graphs(model: AutoLink, pictures: list[Picture], keypoints: Tensor) -> list[Picture]:
    """Keypoints (B, K, 2) and graph over pictures."""
    weights = model.edge_weights.detach().numpy()
    points = (keypoints.numpy() + 1) / 2 * (SHOWN - 1)
    return [draw.draw_graph(p, k, weights) for p, k in zip(pictures, points, strict=True)]


def write(path: Path, columns: dict[str, list[Picture]]) -> None:
    """Columns with their names above, as a JPEG."""
    parts = []
    for name, pictures in columns.items():
        label = np.full((LABEL, SHOWN, 3), 255, np.uint8)
        cv2.putText(label, name, (2, LABEL - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        parts.append(np.concatenate([label, *pictures]))
    with atomic_path(path) as temporary:
        Image.fromarray(draw.grid([parts], gap=4)).save(temporary, "JPEG", quality=82)


def stage_one(seed: int) -> dict[str, list[Picture]]:
    """From a picture to its reconstruction."""
    model = AutoLink.from_pretrained("figures")
    people = figure_images(3, seed, model.config.size)[0]
    images = to_network(torch.from_numpy(people), torch.device("cpu"))
    blocks = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) > 0.8  # a fifth stays visible
    mask = F.interpolate(blocks.float(), size=images.shape[2:])
    with torch.no_grad():
        output = model(images, mask)
    return {
        "picture": pixels(images),
        "keypoints, graph": graphs(model, pixels(images), output.keypoints),
        "edge map": edge_maps(output.edge_map),
        "mostly hidden": pixels(images * mask),
        "rebuilt from both": pixels(output.reconstruction),
    }


def transfer(seed: int) -> dict[str, list[Picture]]:
    """From a source and a driver to the source in the driver's pose."""
    model = PoseTransfer.from_pretrained("figures-transfer")
    people = figure_images(6, seed, model.size)[0]
    images = to_network(torch.from_numpy(people), torch.device("cpu"))
    sources, drivers = images[:3], images[3:]
    with torch.no_grad():
        known, wanted = model.stage_one.keypoints(sources), model.stage_one.keypoints(drivers)
        result, edges = translate(model.stage_one, model.translator, sources[:, None], known[:, None], wanted)
        layers = F.interpolate(result.layers, size=images.shape[2:], mode="bilinear") * 2 - 1
    return {
        "source": pixels(sources),
        "driver": pixels(drivers),
        "driver's edge map": edge_maps(edges),
        "source moved": pixels(result.moved),
        "moved, still, painted": pixels(layers),
        "result": pixels(result.image),
    }


def run(out: Annotated[Path, tyro.conf.Positional] = Path("docs"), seed: int = 11) -> None:
    """Write method.jpg and method-transfer.jpg.

    Args:
        out: The folder to write into.
        seed: Of the people and of what is hidden.
    """
    write(out / "method.jpg", stage_one(seed))
    write(out / "method-transfer.jpg", transfer(seed))


if __name__ == "__main__":
    command(lambda: tyro.cli(run))
