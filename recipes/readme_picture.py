"""The README's moving picture, rendered people who move as another does: python -m recipes.readme_picture.

It takes some minutes of a core and `pip install anny==0.6.2`. Repeat it when checkpoints/faces-transfer changes.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

from autolink.device import pick_device, to_network
from autolink.draw import draw_graph, grid
from autolink.edge_map import edge_pairs
from autolink.errors import command
from autolink.files import atomic_path
from autolink.generation.transfer_video import transfer_video
from autolink.generation.translator import PoseTransfer
from autolink.progress import bar
from recipes.heads import render
from recipes.people import RATE, acting, person, pose

Picture = NDArray[np.uint8]
EVERY = 2
"""Of the frames of a clip, this one out of so many is shown."""


def graphs(model: PoseTransfer, pictures: list[Picture]) -> list[Picture]:
    """Each picture with its keypoints and the parent's graph; children's keypoints are dots, too close for lines."""
    stage_one = model.local.stage_one if model.local else model.stage_one
    batch = to_network(torch.from_numpy(np.stack(pictures)), model.stage_one.edge_logits.device)
    with torch.no_grad():
        keypoints = stage_one.keypoints(batch).cpu().numpy()  # the parent's come first
    first, second = edge_pairs(keypoints.shape[1]).numpy()
    parents = np.maximum(first, second) < model.stage_one.config.keypoints
    weights = np.zeros(len(first), np.float32)
    weights[parents] = model.stage_one.edge_weights.detach().cpu().numpy()
    side = pictures[0].shape[0]
    return [
        draw_graph(picture, (points + 1) / 2 * (side - 1), weights)
        for picture, points in zip(pictures, keypoints, strict=True)
    ]


def write_animation(path: Path, frames: list[Picture]) -> None:
    """An endless WebP that shows each frame as long as it is meant to be seen."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    duration = round(1000 * EVERY / RATE)
    with atomic_path(path) as temporary:
        first.save(
            temporary, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=72, method=4
        )


def run(
    out: Annotated[Path, tyro.conf.Positional] = Path("docs/transfer.webp"),
    driver: int = 6,
    sources: tuple[int, ...] = (2, 3, 5),
    seconds: float = 3.0,
    size: int = 176,
    checkpoint: str = "faces-transfer",
    seed: int = 0,
) -> None:
    """Above: the driver and the sources; below: the driver's keypoints and graph, and each source as the driver moves.

    Args:
        out: The animated WebP to write.
        driver: Number of the person, as `recipes.heads` counts them, who is followed.
        sources: Numbers of the people who are moved; of each, one rendered picture is used.
        seconds: Length of the loop.
        size: Side of each square in pixels.
        checkpoint: The pose transfer.
        seed: Of the people.
    """
    model = PoseTransfer.from_pretrained(checkpoint).to(pick_device("auto"))
    act, frames = acting(seed, driver, round(seconds * RATE)), range(0, round(seconds * RATE), EVERY)
    who = person(seed, driver)
    moves = [render(who, pose(who, act, frame), size) for frame in bar(frames, len(frames), "rendering")]
    columns = [list(zip(moves, graphs(model, moves), strict=True))]
    for number in sources:
        who = person(seed, number)
        source = render(who, pose(who, act, 0), size)
        moved = transfer_video(source, moves, model, rate=RATE / EVERY, progress=bar, crop="none")
        columns.append([(source, frame) for frame in moved])
    shown = [grid([[above for above, _ in row], [below for _, below in row]]) for row in zip(*columns, strict=True)]
    write_animation(out, shown)


if __name__ == "__main__":
    command(lambda: tyro.cli(run))
