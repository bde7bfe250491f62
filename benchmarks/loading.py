"""How fast pictures come from shards, and what they hold in memory: python benchmarks/loading.py [--pictures 2000].

CPU seconds of one thread rather than seconds of the clock, which on a busy machine measure the others.
"""

import io
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import psutil
import tyro
from PIL import Image

from autolink import pack
from autolink.data.figures import figure_images
from autolink.data.images import load_images
from autolink.data.shard_pictures import ShardPictures, load_shards
from autolink.data.shards import read_index
from autolink.pack import PackConfig


@dataclass(frozen=True)
class Benchmark:
    """Measure loading beside an array in memory and a bare decoder."""

    pictures: int = 2000
    """Rendered pictures, JPEG."""
    side: int = 256
    """Their sides in pixels."""
    size: int = 64
    """Side of the pictures that a network is given."""
    batch: int = 64
    """Pictures of a batch."""
    repeats: int = 5
    """Rounds, in each of which everything is measured once."""
    copies: int = 10
    """How often the shards are copied to see whether memory grows."""


def resident(pattern: str, size: int, batch: int, batches: int) -> int:
    """Bytes of this process after it has drawn some batches."""
    data = load_shards(pattern, size, "stretch")
    rng = np.random.default_rng(0)
    assert isinstance(data.images, ShardPictures)
    for _ in range(batches):
        rows = rng.choice(len(data), batch)
        data.images.expect(rows)
        data.images[rows]
    return int(psutil.Process().memory_info().rss)


def run(config: Benchmark) -> None:
    """Measure and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "set").mkdir()
        for start in range(0, config.pictures, 500):
            for n, image in enumerate(figure_images(min(500, config.pictures - start), start, config.side)[0], start):
                Image.fromarray(image).save(folder / "set" / f"{n:06}.jpg", quality=95, subsampling=0)
        since = time.process_time()
        pack.run(PackConfig((folder / "set",), folder / "shards", pictures=1000))
        print(f"packing {(time.process_time() - since) / config.pictures * 1000:.3f} ms a picture")
        speeds(config, folder)
        memory(config, folder)


def speeds(config: Benchmark, folder: Path) -> None:
    """Milliseconds of CPU for a picture."""
    array = load_images(folder / "set", config.size, "stretch").images
    shards = load_shards(str(folder / "shards"), config.size, "stretch").images
    assert isinstance(shards, ShardPictures)
    files = [path.read_bytes() for path in sorted((folder / "set").iterdir())]
    rng = np.random.default_rng(0)

    def bare(rows: Any) -> None:
        for row in rows:
            with Image.open(io.BytesIO(files[row])) as picture:
                picture.draft("RGB", (3 * config.size, 3 * config.size))
                np.asarray(picture.convert("RGB").resize((config.size, config.size), 2, reducing_gap=3.0))

    ways: dict[str, Callable[[Any], Any]] = {
        "array in memory": lambda rows: array[rows],
        "bare decoder": bare,
        "shards": lambda rows: shards[rows],
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.repeats):
        draws = [rng.choice(config.pictures, config.batch) for _ in range(10)]
        for name, way in ways.items():
            since = time.process_time()
            for rows in draws:
                way(rows)
            spent[name].append((time.process_time() - since) / len(draws) / config.batch * 1000)
    for name, values in spent.items():
        print(f"{name:16} {statistics.median(values):.4f} ms a picture ({min(values):.4f} to {max(values):.4f})")


def memory(config: Benchmark, folder: Path) -> None:
    """Memory with the set and with copies of it."""
    tars = sorted((folder / "shards").glob("*.tar"))
    many = folder / "many"
    many.mkdir()
    for n in range(config.copies):
        for tar in tars:
            for file in (tar, tar.with_suffix(".index.npz")):
                shutil.copy(file, many / f"{n:02}-{file.name}")
    for where in (folder / "shards", many):
        count = sum(len(read_index(tar, None)) for tar in where.glob("*.tar"))
        size = sum(tar.stat().st_size for tar in where.glob("*.tar"))
        with get_context("spawn").Pool(1) as pool:
            held = pool.apply(resident, (str(where), config.size, config.batch, 50))
        print(f"{count} pictures, {size / 1e6:.0f} MB of shards: {held / 1e6:.1f} MB of memory")


if __name__ == "__main__":
    run(tyro.cli(Benchmark))
