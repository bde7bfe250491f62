"""FID, KID, precision and recall of a set of pictures: python eval/fid.py --real DIR --fake DIR [--json FILE]."""

import json
import sys
import zipfile
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.data.source import Source
from autolink.device import pick_device
from autolink.errors import UsageError, UserError, command
from autolink.eval.features import (
    Extractor,
    Features,
    count_warnings,
    frechet,
    kernel,
    load_extractor,
    precision_recall,
    prepared_features,
)
from autolink.eval.results import Figure, Section, as_text, data_name, write_results
from autolink.files import atomic_path, parse_json
from autolink.pictures import DAMAGE, PictureError
from autolink.pretrained import check_output
from autolink.run_state import versions

NEIGHBOURS = 3
"""k of precision and recall, as in the paper."""

MANIFOLD = 10_000
"""Precision and recall look at no more pictures of a side: their cost grows with the square."""


@dataclass(frozen=True)
class FidConfig:
    """Distance of generated from real pictures: FID, KID, precision and recall, each under its network's name."""

    real: Path
    """Folder or zip of real pictures, or the .npz that --save-statistics wrote."""
    fake: Path | None = None
    """Folder or zip of generated pictures."""
    features: Features = "efficientnet-lite0"
    """Feature network. inception gives the figures of papers; efficientnet-lite0 needs no download; vgg16-hed needs
    none either and judges what was trained on efficientnet-lite0."""
    inception_weights: Path | None = None
    """The file inception-2015-12-05.pt."""
    download: bool = False
    """Download that file if it is not there."""
    save_statistics: Path | None = None
    """Save the features of the real pictures to this .npz, to be given as --real later."""
    json: Path | None = None
    """Write the figures to this file as well."""
    images: int | None = None
    """Pictures of each side at most, sampled with the seed."""
    subsets: int = 100
    """Subsets that KID is averaged over."""
    subset_size: int = 1000
    """Pictures in such a subset; half of the smaller side at most."""
    seed: int = 0
    """Which pictures --images and the subsets take."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the files given by --json and --save-statistics."""

    def __post_init__(self) -> None:
        if self.fake is None and self.save_statistics is None:
            raise UsageError("give --fake, the generated pictures, or --save-statistics, or both")
        for option, least in (("subsets", 1), ("subset_size", 2), ("images", NEIGHBOURS + 1), ("seed", 0)):
            value = getattr(self, option)
            if value is not None and value < least:
                raise UsageError(f"--{option.replace('_', '-')} must be at least {least}, got {value}")
        if self.seed >= 2**32:
            raise UsageError(f"--seed must be below 2^32, got {self.seed}")
        if (self.inception_weights or self.download) and self.features != "inception":
            raise UsageError("--inception-weights and --download are for --features inception; add that")
        if self.save_statistics and is_statistics(self.real):
            raise UsageError(f"--save-statistics needs a folder or zip of real pictures, {self.real} are statistics")
        check_output("--json", self.json, self.overwrite)
        check_output("--save-statistics", self.save_statistics, self.overwrite, (".npz",))


def is_statistics(path: Path) -> bool:
    """Whether --real names a file of statistics."""
    return path.suffix.lower() == ".npz"


@dataclass(frozen=True)
class Side:
    """The real or the generated pictures."""

    features: NDArray[np.float32]
    """(N, D)."""
    data: str
    skipped: dict[str, str]
    """Pictures that could not be read, and why."""

    def facts(self) -> dict[str, Any]:
        """What the JSON says."""
        return {"data": self.data, "images": len(self.features), "skipped": self.skipped}


def read_side(option: str, path: Path, config: FidConfig, extractor: Extractor) -> Side:
    """Features of the pictures in a folder or zip, streamed.

    Raises:
        UserError: there are too few of them.
    """
    source, skipped = Source.find(path), {}
    names = source.names
    if config.images and config.images < len(names):
        chosen = np.random.default_rng(config.seed).choice(len(names), config.images, replace=False)
        names = [names[n] for n in sorted(chosen)]

    def read(name: str) -> NDArray[np.uint8] | None:
        try:
            return np.asarray(source.picture(name))
        except PictureError as error:
            skipped[name] = str(error)
            return None

    features = prepared_features(tqdm(names, option, unit="picture", disable=len(names) < 200), read, extractor)
    for name, reason in sorted(skipped.items()):
        print(f"skipped {path / name}: {reason}", file=sys.stderr)
    if len(features) <= NEIGHBOURS:
        raise UserError(
            f"{option} {path} holds {len(features)} readable pictures; at least {NEIGHBOURS + 1} are needed"
        )
    return Side(features, str(path), skipped)


def protocol_of(extractor: Extractor) -> dict[str, Any]:
    """What must be equal for two sets of features to be compared."""
    return {"features": extractor.name, "dimensions": extractor.dimensions, "resized_to": extractor.size}


def save_statistics(path: Path, side: Side, extractor: Extractor) -> None:
    """Write the features of real pictures and where they come from; whole or not at all, without pickle."""
    facts = protocol_of(extractor) | side.facts() | {"versions": all_versions()}
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez(file, features=side.features, facts=np.array(json.dumps(facts)))


def load_statistics(path: Path, extractor: Extractor) -> Side:
    """Read what `save_statistics` wrote.

    Raises:
        UserError: there is no such file, it is something else, or its features are another network's.
    """
    if not path.is_file():
        raise UsageError(f"--real {path} does not exist; make it with --save-statistics from a folder of pictures")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):  # it may be a bomb
                raise ValueError("--save-statistics compresses nothing")
        with np.load(path, allow_pickle=False) as file:
            features, facts = file["features"], parse_json(str(file["facts"]))
        theirs = {name: facts[name] for name in protocol_of(extractor)}
        side = Side(features, facts["data"], facts["skipped"])
    except DAMAGE:
        raise UserError(f"--real {path} holds no statistics written by --save-statistics; make them again") from None
    if theirs != protocol_of(extractor):
        raise UserError(
            f"--real {path} holds features of {theirs['features']} at {theirs['resized_to']} px, this run uses "
            f"{extractor.name} at {extractor.size} px: choose --features {theirs['features']} or make them again"
        )
    shape_fits = features.ndim == 2 and features.shape[1] == extractor.dimensions and len(features) > NEIGHBOURS
    if not shape_fits or features.dtype != np.float32 or not np.isfinite(features).all():
        raise UserError(f"--real {path} is damaged: its features are not what its description says; make it again")
    return side


def drawn(features: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """At most `count` rows, sampled with the seed."""
    if len(features) <= count:
        return features
    return features[np.sort(np.random.default_rng(seed).choice(len(features), count, replace=False))]


PROTOCOL = (
    "Pictures as 8-bit RGB (transparency over grey, 16 bits scaled), resized by clean-fid (bicubic, antialiased, not "
    "rounded); FID and KID by clean-fid from pooled features; precision and recall after Kynkäänniemi et al. 2019, "
    f"{NEIGHBOURS} neighbours, on the same features of at most {MANIFOLD:,} pictures a side."
)


def compare(real: Side, fake: Side, config: FidConfig, extractor: Extractor) -> Section:
    """All figures, and what cannot be trusted."""
    distance = kernel(real.features, fake.features, config.seed, config.subsets, config.subset_size)
    manifolds = tuple(drawn(side.features, MANIFOLD, config.seed) for side in (real, fake))
    precision, recall = precision_recall(manifolds[0], manifolds[1], NEIGHBOURS)
    figure = partial(
        Figure, data=f"{data_name(fake.data)} against {data_name(real.data)}", count=len(fake.features),
        samples=f"generated and {len(real.features):,} real pictures", protocol=PROTOCOL, seed=config.seed,
        measured_by=f"{extractor.name}, {extractor.dimensions} features at {extractor.size} px", headline=True,
    )  # fmt: skip
    over = f"{config.subsets} subsets of {distance.subset_size}"
    fid, kid, precise, recalled = map(extractor.figure, ("FID", "KID", "precision", "recall"))
    figures = (
        figure(fid, fid, frechet(real.features, fake.features), better="lower"),
        figure(kid, kid, distance.mean, better="lower", digits=5, spread=distance.spread, spread_over=over),
        figure(precise, precise, precision, better="higher", digits=3),
        figure(recalled, recalled, recall, better="higher", digits=3),
    )
    return Section(figures, notes=tuple(count_warnings(len(real.features), len(fake.features), extractor)))


def all_versions() -> dict[str, str]:
    """What produced a figure, with the packages that this one rests on."""
    return versions() | {package: version(package) for package in ("clean-fid", "scipy", "pillow")}


def run(config: FidConfig) -> None:
    """The command: measure, print, write."""
    for path in (config.real, config.fake):
        if path and not is_statistics(path):
            Source.find(path)  # before the network is loaded
    extractor = load_extractor(config.features, pick_device(config.device), config.inception_weights, config.download)
    if is_statistics(config.real):
        loaded = load_statistics(config.real, extractor)
        features = drawn(loaded.features, config.images or len(loaded.features), config.seed)
        real = Side(features, loaded.data, loaded.skipped)
    else:
        real = read_side("--real", config.real, config, extractor)
    fake = read_side("--fake", config.fake, config, extractor) if config.fake else None
    section = compare(real, fake, config, extractor) if fake else None
    if config.save_statistics:
        save_statistics(config.save_statistics, real, extractor)
        print(f"{config.save_statistics}: {config.features} features of {len(real.features)} pictures")
    if section and fake:
        print(as_text(section.figures))
        for note in section.notes:
            print(f"warning: {note}", file=sys.stderr)
        if config.json:
            facts = protocol_of(extractor) | {"real": real.facts(), "fake": fake.facts(), "seed": config.seed}
            write_results(config.json, section, **facts, versions=all_versions())


def main() -> None:
    """Entry point of `python eval/fid.py`."""
    command(lambda: run(tyro.cli(FidConfig)))


if __name__ == "__main__":
    main()
