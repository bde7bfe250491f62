"""Long work takes no more memory and no more open files than short work."""

import os
import subprocess
import sys
import time
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from conftest import TINY
from PIL import Image

from autolink.data.figures import figure_clip
from autolink.video.writer import VideoWriter

pytestmark = pytest.mark.slow


class Use(NamedTuple):
    megabytes: float
    files: int


def used(*command: object) -> list[Use]:
    """What a command uses, five times a second, until it ends well."""
    words = [sys.executable, "-m", *map(str, command)]
    with psutil.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        seen: list[Use] = []
        while process.poll() is None:
            try:
                seen.append(Use(process.memory_info().rss / 1e6, process.num_fds()))
            except psutil.Error:
                break
            time.sleep(0.2)
    assert process.returncode == 0
    return seen


def assert_flat(seen: list[Use]) -> None:
    """The last fifth of the time uses what the third fifth used; print it, for docs/trust.md."""
    third, last = (seen[len(seen) * n // 5 : len(seen) * (n + 1) // 5] for n in (2, 4))
    before, after = (Use(*np.median(part, 0)) for part in (third, last))
    print(f"{len(seen) / 5:.0f} s: {before.megabytes:.0f} MB, later {after.megabytes:.0f} MB, {after.files:.0f} files")
    assert after.megabytes < before.megabytes * 1.03 + 5
    assert after.files <= before.files + 1


def clip(path: Path, frames: int) -> Path:
    """A person who moves to and fro."""
    some = list(figure_clip(50, 2, 64)[0])
    with VideoWriter(path, Fraction(25)) as writer:
        for frame in islice(chain.from_iterable(repeat(some + some[::-1])), frames):
            writer.write(frame)
    return path


def test_training(pictures: Path, tmp_path: Path) -> None:
    often = ["--steps", "600", "--save-minutes", "0.05", "--sample-minutes", "0.05"]
    assert_flat(used("autolink.train", "--data", pictures, *TINY, *often, "--out", tmp_path / "run"))


def test_detecting_3000_pictures_of_which_every_tenth_is_damaged(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    dice = np.random.default_rng(0)
    for n in range(3000):
        path = folder / f"{n:04}.jpg"
        Image.fromarray(dice.integers(0, 255, (16, 16, 3), np.uint8)).resize((160 + n % 40, 120)).save(path)
        if n % 10 == 0:
            path.write_bytes(path.read_bytes()[: dice.integers(0, 400)])
    out = tmp_path / "out"
    assert_flat(used("autolink.detect", "--checkpoint", tiny_checkpoint, "--input", folder, "--out", out))
    assert len(list(out.glob("*.jpg"))) == 2700


def test_a_transfer_of_ten_minutes(tmp_path: Path) -> None:
    source, driver = clip(tmp_path / "source.mp4", 10), clip(tmp_path / "driver.mp4", 15_000)
    options = ["--checkpoint", "figures-transfer", "--crop", "none", "--device", "cpu", "--out", tmp_path / "out.mp4"]
    assert_flat(used("autolink.generation.transfer", "--src", source, "--driver", driver, *options))
