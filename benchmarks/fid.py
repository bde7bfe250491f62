"""What FID costs beyond its feature network: python benchmarks/fid.py.

Reading, resizing and the Fréchet distance are compared with the network's forward passes over as many pictures already
in memory; parts of the pictures are measured in turn with as many forward passes, so that a busy machine hits both
alike.
"""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from autolink.data.figures import figure_images
from autolink.eval.features import BATCH, Features, frechet, load_extractor, prepared_features


@dataclass(frozen=True)
class Benchmark:
    """Time FID on a folder of rendered pictures against saved statistics."""

    images: int = 10_000
    """Pictures in the folder."""
    size: int = 128
    """Their side in pixels."""
    features: Features = "efficientnet-lite0"
    """Feature network."""
    parts: int = 10
    """Measurements in turn."""
    threads: int = 2
    """CPU threads of the network."""


def peak_megabytes() -> float:
    """Of this process so far."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(config: Benchmark) -> None:
    """Print times, their ratio, and memory."""
    torch.set_num_threads(config.threads)
    extractor = load_extractor(config.features, torch.device("cpu"))
    batch = torch.rand(BATCH, 3, extractor.size, extractor.size).contiguous(memory_format=torch.channels_last) * 255
    whole, forward, peaks = 0.0, 0.0, []
    features = []

    def read(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("RGB"))

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        paths = [Path(folder) / f"{n}.png" for n in range(config.images)]
        for start in range(0, config.images, 500):
            some = paths[start : start + 500]
            for path, image in zip(some, figure_images(len(some), start, config.size)[0], strict=True):
                Image.fromarray(image).save(path)
        prepared_features(paths[:BATCH], read, extractor)  # the first pass is slower
        for part in np.array_split(np.arange(config.images), config.parts):
            start_time = time.perf_counter()
            features.append(prepared_features([paths[n] for n in part], read, extractor))
            middle = time.perf_counter()
            for first in range(0, len(part), BATCH):
                extractor.network(batch[: len(part) - first])
            forward += time.perf_counter() - middle
            whole += middle - start_time
            peaks.append(peak_megabytes())
    found = np.concatenate(features)
    frechet(found[::2], found[1::2])  # imports
    start_time = time.perf_counter()
    frechet(found, found[::-1] + 0.01)
    distance = time.perf_counter() - start_time
    print(f"{config.images} pictures of {config.size} px, {config.features}, {config.threads} threads")
    print(f"forward passes        {forward:9.2f} s  {forward / config.images * 1e3:.1f} ms a picture")
    print(f"reading to features   {whole:9.2f} s  {whole / forward:.3f} of the forward passes")
    print(f"Fréchet distance      {distance:9.2f} s")
    print(f"FID                   {whole + distance:9.2f} s  {(whole + distance) / forward:.3f} of the forward passes")
    ten_thousand = (whole * 1e4 / config.images + distance) / (forward * 1e4 / config.images)
    print(f"at 10,000 pictures, by these rates: {ten_thousand:.3f} of the forward passes")
    print(f"peak memory after the first part {peaks[0]:.0f} MB, after the last {peaks[-1]:.0f} MB")
    print(f"with the distance {peak_megabytes():.0f} MB; features {found.nbytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
