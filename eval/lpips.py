"""LPIPS, SSIM and PSNR of pairs, or diversity of sets: python eval/lpips.py --real DIR --fake DIR [--json FILE]."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a file: import from the clone; `lpips` must not be this file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from autolink.data.source import Source
from autolink.device import pick_device
from autolink.errors import UsageError, UserError, command
from autolink.eval.feature_networks import weights_file
from autolink.eval.metrics import FEATURE_SIZE, SSIM_WINDOW, FeatureDistance, ssim
from autolink.eval.pairing import Reader, check_same_size, find_source, is_single, matched, pairs_of, structures
from autolink.eval.results import Figure, Section, as_text, data_name, write_results
from autolink.files import read_weights
from autolink.pretrained import check_output
from autolink.run_state import versions

Trunk = Literal["alex", "vgg"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""(1, 3, H, W) in [-1, 1] twice -> (1,)."""

TRUNKS = {
    "alex": ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "AlexNet", 31),
    "vgg": ("https://download.pytorch.org/models/vgg16-397923af.pth", "VGG16", 16),
}
"""Torchvision's weights, what they are of, and the smallest side that leaves the last layer a pixel."""


@dataclass(frozen=True)
class LpipsConfig:
    """Perceptual distance, SSIM and PSNR of pairs of pictures, or how much the pictures of a set differ."""

    fake: Path
    """Picture, folder or zip; with --diversity a folder or zip with a folder of pictures for each structure."""
    real: Path | None = None
    """Picture, folder or zip with pictures of the same names, whatever their endings."""
    diversity: bool = False
    """Mean distance of the pictures within each folder from each other; needs no --real."""
    features: Literal["efficientnet-lite0", "alex", "vgg"] = "efficientnet-lite0"
    """alex and vgg are LPIPS, for which torchvision's weights are needed; efficientnet-lite0 needs no download and
    has another name and scale."""
    trunk_weights: Path | None = None
    """Torchvision's file for alex or vgg, .pth or .safetensors."""
    download: bool = False
    """Download that file if it is not there."""
    pairs: int = 1000
    """With --diversity: pairs in each folder at most, sampled with the seed."""
    seed: int = 0
    """Which pairs."""
    json: Path | None = None
    """Write the figures to this file as well."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the file given by --json."""

    def __post_init__(self) -> None:
        if self.diversity == (self.real is not None):
            raise UsageError("give either --real, to compare pairs, or --diversity, to compare the pictures of a set")
        if self.pairs < 1 or self.seed < 0:
            name, least = ("pairs", 1) if self.pairs < 1 else ("seed", 0)
            raise UsageError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if (self.trunk_weights or self.download) and self.features not in TRUNKS:
            raise UsageError("--trunk-weights and --download are for --features alex or vgg; add one of them")
        check_output("--json", self.json, self.overwrite)

    @property
    def name(self) -> str:
        """What the distance is called."""
        return f"LPIPS[{self.features}]" if self.features in TRUNKS else f"feature distance[{self.features}]"

    @property
    def least_side(self) -> int:
        """Smaller pictures cannot be measured."""
        least = TRUNKS[self.features][2] if self.features in TRUNKS else 1
        return least if self.diversity else max(least, SSIM_WINDOW)


def load_lpips(trunk: Trunk, weights: Path, device: torch.device) -> Distance:
    """LPIPS 0.1 (Zhang et al. 2018) on a trunk whose weights are read from torchvision's file, nothing unpickled.

    Raises:
        UserError: the file cannot be read or is another network's.
    """
    import lpips

    state = read_weights("--trunk-weights", weights)
    with warnings.catch_warnings():  # it calls torchvision in a way that has gone out of use
        warnings.simplefilter("ignore")
        network: nn.Module = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    layers = network.get_submodule("net")
    names = {name: "features." + name.split(".", 1)[1] for name in layers.state_dict()}  # slice2.3.bias: features.3
    try:
        layers.load_state_dict({name: state[there] for name, there in names.items()})
    except (KeyError, RuntimeError, TypeError, IndexError, AttributeError):
        raise UserError(f"--trunk-weights {weights} does not hold torchvision's {TRUNKS[trunk][1]}") from None
    network = network.eval().requires_grad_(False).to(device)
    return lambda images, real: network(images, real).flatten()


def load_distance(config: LpipsConfig, device: torch.device) -> Distance:
    """The distance that --features names.

    Raises:
        UserError: weights are missing or wrong.
    """
    if config.features == "efficientnet-lite0":
        return FeatureDistance(device)
    url = TRUNKS[config.features][0]
    digest = url.rsplit("-", 1)[-1].removesuffix(".pth")
    path = weights_file(url, digest, "--trunk-weights", config.trunk_weights, config.download)
    return load_lpips(config.features, path, device)


def psnr(images: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels: (N, 3, H, W) in [-1, 1] twice -> (N,), infinite for equal pictures."""
    return -10 * torch.log10(((images - real) / 2).square().mean((1, 2, 3)))


def compare_pairs(real: Source, fake: Source, distance: Distance, config: LpipsConfig, device: torch.device) -> Section:
    """Means and spreads over the pairs.

    Raises:
        UserError: pictures without partner, unreadable, too small, or of another size than their partner.
    """
    pairs = [(real.names[0], fake.names[0])] if _single(config) else matched(real, fake)
    sides = [Reader(source, device, config.least_side) for source in (real, fake)]
    rows: dict[str, list[float]] = {config.name: [], "SSIM": [], "PSNR": []}
    for wanted, made in tqdm(pairs, unit="pair", disable=len(pairs) < 50):
        target, image = sides[0].picture(wanted), sides[1].picture(made)
        check_same_size(target, image, real.path / wanted, fake.path / made)
        with torch.no_grad():
            rows[config.name].append(distance(image, target).item())
            rows["SSIM"].append(ssim(image, target).item())
            rows["PSNR"].append(psnr(image, target).item())
    unequal = [value for value in rows["PSNR"] if np.isfinite(value)]
    figure = partial(
        Figure,
        data=f"{data_name(str(config.fake))} against {data_name(str(config.real))}",
        digits=4,
        spread_over="pairs",
        headline=True,
    )

    def mean(name: str, values: list[float], samples: str, protocol: str, **options: Any) -> Figure:
        known = {"value": float(np.mean(values)), "spread": float(np.std(values))} if values else {"value": None}
        return figure(name, name, count=len(values), samples=samples, protocol=protocol, **known, **options)

    by = {"better": "lower", "measured_by": config.features}
    figures = (
        mean(config.name, rows[config.name], "pairs", _protocol(config), **by),
        mean("SSIM", rows["SSIM"], "pairs", SSIM_PROTOCOL, better="higher"),
        mean("PSNR", unequal, "pairs that differ", PSNR_PROTOCOL, unit="dB", better="higher"),
    )
    equal = len(pairs) - len(unequal)
    return Section(figures, notes=(f"{equal} of {len(pairs)} pairs are equal; PSNR leaves them out",) if equal else ())


def _single(config: LpipsConfig) -> bool:
    return is_single(config.fake)


def compare_within(source: Source, distance: Distance, config: LpipsConfig, device: torch.device) -> Section:
    """Mean distance within a structure, averaged over structures.

    Raises:
        UserError: a folder holds one picture, or pictures that are unreadable, too small, or of unequal size.
    """
    reader = Reader(source, device, config.least_side)
    means, used = [], 0
    folders = structures(source)
    for names in tqdm(folders.values(), unit="structure", disable=len(folders) < 20):
        values = []
        for first, second in pairs_of(names, config.pairs, config.seed):
            a, b = reader.picture(first), reader.picture(second)
            check_same_size(a, b, source.path / first, source.path / second)
            with torch.no_grad():
                values.append((distance(a, b).item() + distance(b, a).item()) / 2)
        means.append(np.mean(values))
        used += len(values)
    name = f"diversity by {config.name}"
    figure = Figure(
        name, name, float(np.mean(means)), data_name(str(config.fake)), used,
        f"pairs of {len(source.names):,} pictures in {len(folders):,} structures", _protocol(config), better="higher",
        digits=4, measured_by=config.features, seed=config.seed, spread=float(np.std(means)), spread_over="structures",
        headline=True,
    )  # fmt: skip
    return Section((figure,))


def run(config: LpipsConfig) -> None:
    """The command: measure, print, write."""
    fake = find_source("--fake", config.fake)
    real = find_source("--real", config.real) if config.real else None
    if real and _single(config) != (config.real is not None and is_single(config.real)):
        raise UsageError("--real and --fake must both be pictures, or both folders or zips of them")
    device = pick_device(config.device)
    if real:
        _ = None if _single(config) else matched(real, fake)  # before the network is loaded
        section = compare_pairs(real, fake, load_distance(config, device), config, device)
    else:
        structures(fake)
        section = compare_within(fake, load_distance(config, device), config, device)
    print(as_text(section.figures))
    for note in section.notes:
        print(note)
    if config.json:
        packages = {package: version(package) for package in ("lpips", "pillow")}
        facts = {"real": str(config.real) if config.real else None, "fake": str(config.fake), "seed": config.seed}
        write_results(config.json, section, **facts, versions=versions() | packages)


SSIM_PROTOCOL = "Wang et al. 2004 at the pictures' own size, Gaussian window of 11 pixels and sigma 1.5, per channel."
PSNR_PROTOCOL = "Of 8-bit pictures, averaged over pairs; infinite for equal pictures, which are left out."


def _protocol(config: LpipsConfig) -> str:
    if config.features in TRUNKS:
        return "Pictures at their own size; LPIPS 0.1, linear heads of the lpips package."
    scale = "either picture in turn" if config.diversity else "the real picture"
    return (
        f"L1 of EfficientNet-lite0's features at {FEATURE_SIZE} px, each depth over its mean magnitude on {scale}; no "
        "LPIPS."
    )


def main() -> None:
    """Entry point of `python eval/lpips.py`."""
    command(lambda: run(tyro.cli(LpipsConfig)))


if __name__ == "__main__":
    main()
