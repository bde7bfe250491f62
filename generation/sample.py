"""Sample the conditional GAN: python generation/sample.py [--structures PICTURES] [--grid grid.png]."""

import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from autolink import __version__, draw
from autolink.device import pick_device, prepare_cpu
from autolink.errors import UsageError, command
from autolink.generation.gan import Gan
from autolink.generation.sample_pictures import (
    Image,
    Lock,
    edge_pictures,
    factor_of,
    laid_out,
    moving_appearances,
    moving_structures,
    path_through,
    to_pictures,
)
from autolink.generation.structures import PLAUSIBLE, Structures, kept_edges, moved, read_structures, spread
from autolink.generation.styles import DIRECTIONS, style_directions
from autolink.pretrained import check_output
from autolink.video.synthetic import GENERATED, tags
from autolink.video.writer import WRITTEN, VideoWriter

RATE = Fraction(25)
"""Frames a second, where the structures are no video with a rate of its own."""

STEPS = (-3, -2, -1, 0, 1, 2, 3)
"""Of a sweep, in standard deviations."""


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
    lock: Lock = "none"
    """Hold one still: `structure`, the first one in many appearances; `appearance`, the first one on many structures.
    The grid is then a contact sheet."""
    sweep: int | None = None
    """In place of appearances, the first of them along a principal direction of style, 0 being what varies most, from
    3 standard deviations below it to 3 above."""
    class_name: Annotated[str, tyro.conf.arg(name="class")] = ""
    """Class of all appearances; by default that of each structure, and where it is unknown all classes in turn."""
    seed: int = 0
    """Which appearances."""
    truncation: float = 1.0
    """Below 1: nearer to the average appearance of the class; less variety, fewer failures."""

    directions: int = PLAUSIBLE
    """Take structures along so many principal directions of those that the checkpoint remembers: what stage one got
    wrong on a picture mostly lies off them, and gives a second nose or no eye. 0 takes them as found."""

    grid: Path | None = None
    """Write a PNG: a structure a row, after its picture and its edge map, and an appearance a column. Without --grid,
    --folder and --video it is samples.png, or samples.mp4 of a video's structures, or the next free name."""
    folder: Path | None = None
    """Write every generated picture, as STRUCTURE-seedSEED-APPEARANCE.png, into this new or empty folder."""
    video: Path | None = None
    """Write an mp4 or GIF that goes from one structure, or appearance, to the next."""
    interpolate: Literal["structure", "appearance"] = "structure"
    """What changes in the video."""
    between: int = 12
    """Frames of the video from one structure or appearance to the next."""

    move: tuple[str, ...] = ()
    """Move keypoints: number:dx,dy in units of half the picture, such as 3:0.1,-0.05. Grid and video show what is not
    edited above."""
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
        if self.directions < 0:
            raise UsageError(f"--directions cannot be negative, got {self.directions}")
        if not 0 < self.scale < 10:
            raise UsageError(f"--scale is above 0 and below 10, got {self.scale}")
        if self.sweep is not None and not 0 <= self.sweep < DIRECTIONS:
            raise UsageError(f"--sweep is 0 to {DIRECTIONS - 1}, got {self.sweep}")
        if self.lock == "appearance" and (self.sweep is not None or self.interpolate == "appearance"):
            raise UsageError("--lock appearance holds it still; leave out --sweep and --interpolate appearance")
        check_output("--grid", self.grid, self.overwrite, (".png",))
        check_output("--video", self.video, self.overwrite, WRITTEN)
        if self.folder and self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(f"--folder {self.folder} is not an empty folder; choose another")

    @property
    def most(self) -> int:
        """Structures, at most."""
        return 1 if self.lock == "structure" else self.rows

    @property
    def chosen(self) -> tuple[int, ...]:
        """The numbers of the appearances."""
        numbers = self.pick or tuple(range(self.appearances))
        return numbers if self.sweep is None and self.lock != "appearance" else numbers[:1]

    @property
    def appearance_names(self) -> list[str]:
        """Each generated picture of a structure, as files are named."""
        names = [f"seed{self.seed}-{number:04d}" for number in self.chosen]
        return names if self.sweep is None else [f"{names[0]}-sweep{self.sweep}{step:+d}" for step in STEPS]

    @property
    def edited(self) -> bool:
        """Whether structures are changed."""
        return bool(self.move or self.drop_edge or self.scale != 1 or any(self.shift))

    def with_output(self, moving: bool) -> "SampleConfig":
        """With a file to write, where none was named: samples.png, or samples.mp4 of a video's structures."""
        if self.grid or self.folder or self.video:
            return self
        return replace(self, video=free_name("mp4")) if moving else replace(self, grid=free_name("png"))


def free_name(suffix: str) -> Path:
    """The first of samples.png, samples-2.png and so on that is not there."""
    names = (Path(f"samples{f'-{n}' if n > 1 else ''}.{suffix}") for n in count(1))
    return next(name for name in names if not name.exists())


class Sampler:
    """A GAN and what is asked of it."""

    def __init__(self, config: SampleConfig, gan: Gan, structures: Structures) -> None:
        self.config, self.gan = config, gan
        kept = kept_edges(gan, config.drop_edge)
        edited = moved(structures, config.move, config.scale, config.shift)
        self.versions = [(structures, None), (edited, kept)] if config.edited else [(structures, None)]
        """Structures and their edges, unedited before edited."""
        self.directions = None if config.sweep is None else style_directions(gan)

    def styles(self, classes: NDArray[np.int64]) -> Tensor:
        """The appearances (S, A, latent) of structures of these classes (S,), -1 where it is not known."""
        known, which = np.unique(classes, return_inverse=True)
        return torch.stack([self.styles_of_class(c) for c in known.tolist()])[which]

    def styles_of_class(self, structure_class: int) -> Tensor:
        """The appearances (A, latent) of a structure of this class."""
        config = self.config
        number = self.gan.class_number(config.class_name) if config.class_name else structure_class
        styles = self.gan.appearances(
            config.chosen, seed=config.seed, class_number=number, truncation=config.truncation
        )
        if self.directions is None:
            return styles
        return styles + torch.tensor(STEPS, device=styles.device)[:, None] * self.directions[config.sweep]

    def generate(self, structures: Structures, kept: Tensor | None) -> list[list[Image]]:
        """Every structure in every appearance, enlarged to be seen."""
        rows = []
        for points, styles in zip(self.on_device(structures), self.styles(structures.classes), strict=True):
            rows.append(to_pictures(self.gan.generate(points.expand(len(styles), -1, -1), styles, kept)))
        return rows

    @cached_property
    def shown_rows(self) -> list[list[Image]]:
        """What is generated of the structures as asked for, edited if they are: grid and folder hold the same."""
        structures, kept = self.versions[-1]
        return self.generate(spread(structures, self.config.most), kept)

    def on_device(self, structures: Structures) -> Tensor:
        """Keypoints (S, K, 2)."""
        return torch.from_numpy(structures.keypoints).to(self.gan.device)

    def strips(self) -> list[list[list[Image]]]:
        """Of each version each structure's picture, if any, its edge map, and what is generated of it."""
        found = []
        for n, (structures, kept) in enumerate(self.versions, 1):
            shown = spread(structures, self.config.most)
            edges = edge_pictures(self.gan, self.on_device(shown), kept, self.config.numbers)
            rows = self.shown_rows if n == len(self.versions) else self.generate(shown, kept)
            strips = [[edge, *row] for edge, row in zip(edges, rows, strict=True)]
            if shown.pictures:
                factor = factor_of(self.gan.config.size)
                strips = [[draw.enlarged(p, factor), *strip] for p, strip in zip(shown.pictures, strips, strict=True)]
            found.append(strips)
        return found

    def write_grid(self, path: Path) -> None:
        """All in one picture."""
        versions = self.strips()
        strips = [strip for of_one in zip(*versions, strict=True) for strip in of_one]
        rows = laid_out(strips, self.config.lock, len(versions))
        draw.write_picture(path, draw.grid(rows), self.said("picture"))

    def write_folder(self, folder: Path) -> None:
        """Every picture, edited if it is, at its own size."""
        folder.mkdir(parents=True, exist_ok=True)
        factor = factor_of(self.gan.config.size)
        for s, row in enumerate(self.shown_rows):
            for name, image in zip(self.config.appearance_names, row, strict=True):
                own = np.ascontiguousarray(image[::factor, ::factor])
                draw.write_picture(folder / f"{s:04d}-{name}.png", own, self.said("picture"))

    def write_video(self, path: Path) -> int:
        """Moving structures in all appearances, or all structures in moving appearances; frames written.

        From a structure of one class to one of another the class changes as the structure does.
        """
        config, gan = self.config, self.gan
        films = []
        for structures, kept in self.versions:
            keypoints, styles = self.on_device(structures), self.styles(structures.classes)
            if config.interpolate == "appearance" or config.lock == "structure":
                paths = path_through(styles.transpose(0, 1), config.between)
                films.append(moving_appearances(gan, keypoints, paths, kept, config.numbers))
            else:
                order = np.argsort(structures.classes, kind="stable")  # as few changes of class as can be
                poses, looks = keypoints[order], styles[order]
                if not structures.moving:
                    poses, looks = (path_through(values, config.between) for values in (poses, looks))
                films.append(moving_structures(gan, poses, looks, kept, config.numbers))
        frames = 0
        rate = self.versions[0][0].rate or RATE
        with VideoWriter(path, rate, metadata=self.said("video")) as writer:
            for together in zip(*films, strict=True):
                writer.write(np.concatenate(together, 0))
                frames += 1
        return frames

    def said(self, what: str) -> dict[str, str]:
        """Tags that say that a picture or video is generated."""
        return tags(f"AutoLink {__version__}, GAN, checkpoint {Path(self.config.checkpoint).name}", what, GENERATED)


def run(config: SampleConfig) -> None:
    """The command: read structures, change them, generate, write, say what was done."""
    device = pick_device(config.device)
    prepare_cpu(device)
    gan = Gan.from_pretrained(config.checkpoint).to(device)
    if config.class_name:
        gan.class_number(config.class_name)
    if not gan.config.conditional:
        print("note: this checkpoint is the unconditional control; it ignores structures", file=sys.stderr)
    structures = read_structures(gan, config.structures, config.most, config.directions)
    config = config.with_output(structures.moving)
    sampler = Sampler(config, gan, structures)
    done = []
    if config.grid:
        sampler.write_grid(config.grid)
        done.append(str(config.grid))
    if config.folder:
        sampler.write_folder(config.folder)
        done.append(str(config.folder))
    if config.video:
        frames = sampler.write_video(config.video)
        done.append(f"{config.video} ({frames} frames)")
    kinds = config.class_name or ", ".join(gan.config.classes)
    looks = f"{len(config.chosen)} appearances" if config.sweep is None else f"sweep {config.sweep} from -3 to 3"
    print(f"{len(structures)} structures, {looks} of {kinds}: {', '.join(done)}")


def main() -> None:
    """Entry point of `autolink sample` and `python generation/sample.py`."""
    command(lambda: run(tyro.cli(SampleConfig)))


if __name__ == "__main__":
    main()
