"""What `make demo` runs: the bundled model on freshly rendered figures."""

import json
import time
from fractions import Fraction
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from autolink import draw
from autolink.data import ImageSet
from autolink.data.figures import JOINTS, figure_clip, figure_images
from autolink.data.images import Annotation
from autolink.detect import Finder, pick_device
from autolink.errors import UserError, command
from autolink.model import AutoLink
from autolink.regression import regression_error, side_lengths
from autolink.run_state import versions
from autolink.train import detect_all
from video.files import VideoWriter

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "figures"
OUT = Path("demo")
SHOWN_SIZE = 256


def fresh_figures(size: int, seed: int, count: int = 600) -> ImageSet:
    """Rendered people that no training has seen, half of them to fit the landmarks on."""
    images, joints = figure_images(count, seed, size)
    names = np.array([f"fresh {n}" for n in range(count)])
    pixels = np.full((count, 2), (size - 1) / 2, np.float32)
    return ImageSet(images, names.tolist(), Annotation(joints, names, pixels, np.arange(count) >= count // 2))


def main() -> None:
    """Detect on fresh figures, measure against their true joints, draw a picture and a clip."""
    if not (CHECKPOINT / "config.json").exists():
        raise UserError(f"the bundled checkpoint {CHECKPOINT} is missing; run the demo from a clone of the project")
    seed = time.time_ns() % 1_000_000 + 1_000  # other people every time
    device = pick_device("auto")
    model = AutoLink.from_pretrained(CHECKPOINT)
    finder = Finder(model, device)
    OUT.mkdir(exist_ok=True)

    data = fresh_figures(model.config.size, seed)
    assert data.annotation is not None
    error = regression_error(
        detect_all(model, data.images, device), data.annotation, ~data.annotation.test, side_lengths(data.annotation)
    )
    figures = {
        "regression_error_percent_of_side": round(error.with_bias, 3),
        "mean_pose_error_percent_of_side": round(error.mean_pose, 3),
        "images": int(data.annotation.test.sum()),
        "joints": len(JOINTS),
        "seed": seed,
        "versions": versions(),
    }
    (OUT / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")

    people = list(figure_images(12, seed, SHOWN_SIZE)[0])
    overlays = [overlay for overlay, _ in finder.overlays(people)]
    imageio.imwrite(OUT / "figures.png", draw.grid([overlays[:6], overlays[6:]]))
    with VideoWriter(OUT / "figures.mp4", Fraction(25)) as writer:
        for overlay, _ in finder.overlays(figure_clip(75, seed, SHOWN_SIZE)[0]):
            writer.write(overlay)

    print(f"Keypoints and graph on 12 new rendered people: {OUT / 'figures.png'}")
    print(f"The same on a clip of 3 seconds:               {OUT / 'figures.mp4'}")
    print(
        f"Joints predicted linearly from the keypoints miss by {error.with_bias:.2f} % of the image side on "
        f"{figures['images']} people (the mean pose misses by {error.mean_pose:.2f} %): {OUT / 'figures.json'}"
    )


if __name__ == "__main__":
    command(main)
