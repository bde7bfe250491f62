"""What `make demo` runs: the bundled models on rendered figures and faces, and generated animals."""

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from autolink import draw
from autolink.data.figures import JOINTS, figure_clip, figure_images
from autolink.data.images import ImageSet
from autolink.data.landmarks import Annotation
from autolink.detect import Finder
from autolink.device import pick_device, to_network
from autolink.errors import command
from autolink.files import write_text
from autolink.generation import sample, transfer
from autolink.generation.moving import moving_error
from autolink.generation.sample import SampleConfig
from autolink.generation.transfer_options import TransferConfig
from autolink.generation.translator import PoseTransfer
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.regression import regression_error, side_lengths
from autolink.run_state import versions
from autolink.video.writer import VideoWriter

OUT = Path("demo")
EXAMPLES = Path(__file__).parent / "examples"
"""Rendered faces: person 3's first frame and person 6's clip of `python -m recipes.heads DIR --people 8 --seconds 2
--size 160`."""
SHOWN_SIZE = 256
FRAMES, RATE = 75, Fraction(25)


def fresh_figures(size: int, seed: int, count: int = 600) -> ImageSet:
    """Held-out rendered people, half of them to fit the landmarks on."""
    images, joints = figure_images(count, seed, size)
    names = np.array([f"fresh {n}" for n in range(count)])
    pixels = np.full((count, 2), (size - 1) / 2, np.float32)
    return ImageSet(images, names.tolist(), Annotation(joints, names, pixels, np.arange(count) >= count // 2))


def detection(seed: int) -> dict[str, Any]:
    """Detect on fresh figures, measure against their true joints, draw a picture and a clip; the figures."""
    device = pick_device("auto")
    model = AutoLink.from_pretrained("figures")
    finder = Finder(model, device)
    data = fresh_figures(model.config.size, seed)
    assert data.annotation is not None
    error = regression_error(
        detect_all(model, data.images, device), data.annotation, ~data.annotation.test, side_lengths(data.annotation)
    )
    people = list(figure_images(12, seed, SHOWN_SIZE)[0])
    overlays = [finder.overlay(*found) for found in finder.each(people)]
    draw.write_picture(OUT / "figures.png", draw.grid([overlays[:6], overlays[6:]]))
    with VideoWriter(OUT / "figures.mp4", RATE) as writer:
        for found in finder.each(figure_clip(FRAMES, seed, SHOWN_SIZE)[0]):
            writer.write(finder.overlay(*found))
    return {
        "regression_error_percent_of_side": round(error.with_bias, 3),
        "mean_pose_error_percent_of_side": round(error.mean_pose, 3),
        "images": int(data.annotation.test.sum()),
        "joints": len(JOINTS),
    }


def pose_transfer(seed: int) -> dict[str, Any]:
    """Move one fresh person as another moves, and measure against that person rendered in that motion."""
    source, driver = OUT / "source.mp4", OUT / "driver.mp4"
    for path, person in ((source, seed), (driver, seed + 1)):
        with VideoWriter(path, RATE) as writer:
            for frame in figure_clip(FRAMES, person, SHOWN_SIZE)[0]:
                writer.write(frame)
    transfer.run(
        TransferConfig(
            src=source, driver=driver, out=OUT / "transfer.mp4", checkpoint="figures-transfer", motion="absolute",
            crop="none", side_by_side=True, overwrite=True,
        )
    )  # fmt: skip
    model = PoseTransfer.from_pretrained("figures-transfer")
    shown, moves, truth = (
        to_network(torch.from_numpy(clip), torch.device("cpu"))
        for clip in (
            figure_clip(1, seed, model.size)[0],
            figure_clip(FRAMES, seed + 1, model.size)[0],
            figure_clip(FRAMES, seed, model.size, seed + 1)[0],
        )
    )
    still = shown.expand_as(truth)
    moved = model.transfer(still[:, None], model.stage_one.keypoints(moves))
    (error, pixels), (copied, _) = (moving_error(x, truth, still) for x in (moved, still))
    return {
        "transfer_error_on_moving_pixels": round((error.sum() / pixels.sum()).item(), 4),
        "copying_error_on_moving_pixels": round((copied.sum() / pixels.sum()).item(), 4),
        "frames": FRAMES,
    }


def face_transfer() -> None:
    """Move a rendered face as another speaks, blinks and turns."""
    transfer.run(
        TransferConfig(
            src=EXAMPLES / "face.png", driver=EXAMPLES / "face_driver.mp4", out=OUT / "face.mp4", side_by_side=True,
            overwrite=True,
        )
    )  # fmt: skip


def animals(seed: int) -> None:
    """Cats and dogs of eight structures in seven appearances, and appearances that move from structure to structure."""
    sample.run(
        SampleConfig(
            "pets-gan", rows=8, truncation=0.75, seed=seed, grid=OUT / "animals.png",
            video=OUT / "animals.mp4", overwrite=True,
        )
    )  # fmt: skip


def run() -> None:
    """Detect on fresh people, move one as another, a face as another's, and generate animals."""
    seed = time.time_ns() % 1_000_000 + 1_000  # other people every time
    OUT.mkdir(exist_ok=True)
    found = detection(seed)
    moved = pose_transfer(seed)
    face_transfer()
    animals(seed)
    figures = {"detection": found, "pose_transfer": moved, "seed": seed, "versions": versions()}
    write_text(OUT / "figures.json", json.dumps(figures, indent=2) + "\n")
    print()
    print(f"Keypoints and graph on 12 new rendered people: {OUT / 'figures.png'}")
    print(f"The same on a clip of 3 seconds:               {OUT / 'figures.mp4'}")
    print(f"One person moved as another, side by side:     {OUT / 'transfer.mp4'}")
    print(f"A face moved as another, side by side:         {OUT / 'face.mp4'}")
    print(f"Generated animals, structure by appearance:    {OUT / 'animals.png'}")
    print(f"The same, moving from structure to structure:  {OUT / 'animals.mp4'}")
    error, baseline = found["regression_error_percent_of_side"], found["mean_pose_error_percent_of_side"]
    moved_error, still_error = moved["transfer_error_on_moving_pixels"], moved["copying_error_on_moving_pixels"]
    print(
        f"Joints predicted linearly from the keypoints miss by {error:.2f} % of the image side on {found['images']} "
        f"people (the mean pose misses by {baseline:.2f} %);\nthe moved person differs from the rendered truth by "
        f"{moved_error:.3f} on moving pixels, where standing still differs by {still_error:.3f}: {OUT / 'figures.json'}"
    )


def main() -> None:
    """Entry point of `autolink demo`."""
    command(lambda: tyro.cli(run))


if __name__ == "__main__":
    main()
