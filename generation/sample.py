"""Sample the conditional GAN: python generation/sample.py [--structures PICTURES] --grid grid.png."""

import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from torch import Tensor

from autolink import __version__, draw
from autolink.device import pick_device, prepare_cpu
from autolink.errors import UsageError, command
from autolink.generation.gan import Gan
from autolink.generation.structures import Structures, kept_edges, moved, read_structures, spread
from autolink.pretrained import check_output
from autolink.video.synthetic import GENERATED, tags
from autolink.video.writer import WRITTEN, VideoWriter

SHOWN_SIDE = 128
"""Smaller pictures are enlarged by whole factors to about this."""

RATE = Fraction(25)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SampleConfig:
    """Generate pictures: structures from pictures, keypoints or the checkpoint, appearances from noise and class."""

    checkpoint: str = "pets-gan"
    """A checkpoint folder of a conditional GAN, the name of a bundled one, or hf:owner/name."""
    structures: tuple[Path, ...] = ()
    """Pictures, folders or zips of them, a video, or keypoints.json of `autolink detect`; without, remembered ones."""
    rows: int = 4
    """Structures at most, evenly spread over those given."""
    appearances: int = 7
    """How many appearances, one a column."""
    pick: tuple[int, ...] = ()
    """Only these of the appearances, counted from 0; the same seed and number always give the same."""
    class_name: Annotated[str, tyro.conf.arg(name="class")] = ""
    """Class of all appearances; by default that of each structure, and where it is unknown all classes in turn."""
    seed: int = 0
    """Which appearances."""
    truncation: float = 1.0
    """Below 1: nearer to the average appearance of the class; less variety, fewer failures."""

    grid: Path | None = None
    """Write a PNG: a structure a row, after its picture and its edge map, and an appearance a column."""
    folder: Path | None = None
    """Write every generated picture, as STRUCTURE-APPEARANCE.png, into this new or empty folder."""
    video: Path | None = None
    """Write an mp4 or GIF that goes from one structure, or appearance, to the next."""
    interpolate: Literal["structure", "appearance"] = "structure"
    """What changes in the video."""
    between: int = 12
    """Frames of the video from one structure or appearance to the next."""

    move: tuple[str, ...] = ()
    """Move keypoints: number:dx,dy in units of half the picture, such as 3:0.1,-0.05."""
    scale: float = 1.0
    """Scale every structure about its centre."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Shift every structure, in units of half the picture."""
    drop_edge: tuple[str, ...] = ()
    """Switch edges off, such as 2-5."""
    numbers: bool = False
    """Write the keypoints' numbers on the edge maps."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace files that are there."""

    def __post_init__(self) -> None:
        if min(self.rows, self.appearances, self.between) < 1:
            raise UsageError("--rows, --appearances and --between must be at least 1")
        if self.pick and not all(0 <= n < 2**31 for n in self.pick):
            raise UsageError(f"--pick takes numbers from 0, got {self.pick}")
        if self.seed < 0:
            raise UsageError(f"--seed cannot be negative, got {self.seed}")
        if not 0 <= self.truncation <= 2:
            raise UsageError(f"--truncation is 0 to 2, got {self.truncation}")
        if not 0 < self.scale < 10:
            raise UsageError(f"--scale is above 0 and below 10, got {self.scale}")
        if not any((self.grid, self.folder, self.video)):
            raise UsageError("nothing to write: give --grid FILE.png, --video FILE.mp4 or --folder FOLDER")
        check_output("--grid", self.grid, self.overwrite, (".png",))
        check_output("--video", self.video, self.overwrite, WRITTEN)
        if self.folder and self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(f"--folder {self.folder} is not an empty folder; choose another")


def to_pictures(images: Tensor) -> list[Image]:
    """(N, 3, size, size) in [-1, 1] -> (side, side, 3) each, enlarged to be seen."""
    factor = max(1, SHOWN_SIDE // images.shape[-1])
    return [draw.enlarged(draw.to_image(i), factor) for i in images.permute(0, 2, 3, 1).cpu().numpy()]


def edge_pictures(gan: Gan, keypoints: Tensor, kept: Tensor | None, side: int, numbers: bool) -> list[Image]:
    """The edge maps as seen by the generator, (side, side, 3) each."""
    edges = F.interpolate(gan.draw(keypoints, kept), size=(side, side), mode="bilinear", align_corners=True)
    pictures = [draw.edge_map_image(e) for e in edges[:, 0].cpu().numpy()]
    if numbers:
        for picture, points in zip(pictures, keypoints.cpu().numpy(), strict=True):
            for k, (x, y) in enumerate(((points + 1) / 2 * (side - 1)).round().astype(int).tolist()):
                cv2.putText(picture, str(k), (x - 4, y + 4), cv2.FONT_HERSHEY_SIMPLEX, side / 400, (255, 190, 60), 1)
    return pictures


def numbers_of(config: SampleConfig) -> tuple[int, ...]:
    """The numbers of the appearances to sample."""
    return config.pick or tuple(range(config.appearances))


def generate_rows(config: SampleConfig, gan: Gan, structures: Structures) -> list[list[Image]]:
    """Every structure in every appearance, enlarged to be seen."""
    pictures = gan.sample(
        structures, numbers_of(config), seed=config.seed, class_name=config.class_name, truncation=config.truncation,
        dropped_edges=config.drop_edge,
    )  # fmt: skip
    factor = max(1, SHOWN_SIDE // gan.config.size)
    return [[draw.enlarged(picture, factor) for picture in row] for row in pictures]


def styles_of(config: SampleConfig, gan: Gan, structure_class: int) -> Tensor:
    """The sampled appearances (N, latent), of a structure of this class, -1 if it is not known."""
    number = gan.class_number(config.class_name) if config.class_name else structure_class
    return gan.appearances(numbers_of(config), seed=config.seed, class_number=number, truncation=config.truncation)


def write_grid(
    config: SampleConfig, gan: Gan, structures: Structures, rows: list[list[Image]], kept: Tensor | None
) -> None:
    """Picture (if any), edge map and generated pictures of each structure."""
    assert config.grid
    side = rows[0][0].shape[0]
    edges = edge_pictures(gan, torch.from_numpy(structures.keypoints).to(gan.device), kept, side, config.numbers)
    shown = [[edge, *row] for edge, row in zip(edges, rows, strict=True)]
    if structures.pictures:
        factor = side // gan.config.size
        shown = [[draw.enlarged(p, factor), *row] for p, row in zip(structures.pictures, shown, strict=True)]
    draw.write_picture(config.grid, draw.grid(shown), said_of(config, "picture"))


def said_of(config: SampleConfig, what: str) -> dict[str, str]:
    """Tags that say that a picture or video is generated."""
    return tags(f"AutoLink {__version__}, GAN, checkpoint {Path(config.checkpoint).name}", what, GENERATED)


def write_folder(config: SampleConfig, gan: Gan, rows: list[list[Image]]) -> None:
    """Every picture at its own size."""
    folder = config.folder
    assert folder
    folder.mkdir(parents=True, exist_ok=True)
    for s, row in enumerate(rows):
        for number, image in zip(numbers_of(config), row, strict=True):
            factor = image.shape[0] // gan.config.size
            own = np.ascontiguousarray(image[::factor, ::factor])
            draw.write_picture(folder / f"{s:04d}-{number:04d}.png", own, said_of(config, "picture"))


def path_through(values: Tensor, between: int) -> Tensor:
    """A smooth path through (S, ...): (T, ...), `between` steps from each to the next, and back to the first."""
    if len(values) == 1:
        return values.repeat(between, *[1] * (values.ndim - 1))
    share = torch.arange(between, device=values.device) / between
    share = (0.5 - 0.5 * torch.cos(share * torch.pi)).view(1, -1, *[1] * (values.ndim - 1))
    following = values.roll(-1, 0)
    return ((1 - share) * values[:, None] + share * following[:, None]).flatten(0, 1)


def write_video(config: SampleConfig, gan: Gan, structures: Structures, kept: Tensor | None) -> int:
    """Moving structures in all appearances side by side, or all structures in a moving appearance; frames written."""
    assert config.video
    keypoints = torch.from_numpy(structures.keypoints).to(gan.device)
    count = 0
    with VideoWriter(config.video, RATE, metadata=said_of(config, "video")) as writer:
        if config.interpolate == "structure":
            number = int(structures.classes[0])
            styles = styles_of(config, gan, number)
            for pose in keypoints if structures.moving else path_through(keypoints, config.between):
                images = to_pictures(gan.generate(pose.expand(len(styles), -1, -1), styles, kept))
                edge = edge_pictures(gan, pose[None], kept, images[0].shape[0], config.numbers)
                writer.write(np.concatenate([*edge, *images], 1))
                count += 1
            return count
        paths = [path_through(styles_of(config, gan, c), config.between) for c in structures.classes.tolist()]
        edges = None
        for styles in torch.stack(paths, 1):  # (S, latent), one for each structure
            images = to_pictures(gan.generate(keypoints, styles, kept))
            edges = edges or edge_pictures(gan, keypoints, kept, images[0].shape[0], config.numbers)
            writer.write(np.concatenate([np.concatenate(edges, 1), np.concatenate(images, 1)], 0))
            count += 1
    return count


def run(config: SampleConfig) -> None:
    """The command: read structures, change them, generate, write, say what was done."""
    device = pick_device(config.device)
    prepare_cpu(device)
    gan = Gan.from_pretrained(config.checkpoint).to(device)
    if config.class_name:
        gan.class_number(config.class_name)
    if not gan.config.conditional:
        print("note: this checkpoint is the unconditional control; it ignores structures", file=sys.stderr)
    kept = kept_edges(gan, config.drop_edge)
    structures = moved(read_structures(gan, config.structures, config.rows), config.move, config.scale, config.shift)
    done = []
    if config.grid or config.folder:
        still = spread(structures, config.rows)
        rows = generate_rows(config, gan, still)
        if config.grid:
            write_grid(config, gan, still, rows, kept)
            done.append(str(config.grid))
        if config.folder:
            write_folder(config, gan, rows)
            done.append(str(config.folder))
    if config.video:
        frames = write_video(config, gan, structures, kept)
        done.append(f"{config.video} ({frames} frames)")
    kinds = config.class_name or ", ".join(gan.config.classes)
    print(f"{len(structures)} structures, {len(numbers_of(config))} appearances of {kinds}: {', '.join(done)}")


def main() -> None:
    """Entry point of `autolink sample` and `python generation/sample.py`."""
    command(lambda: run(tyro.cli(SampleConfig)))


if __name__ == "__main__":
    main()
