"""What autolink extract costs: python benchmarks/extraction.py [--checkpoint figures] [--repeats 5].

CPU seconds of one thread rather than seconds of the clock, which on a busy machine measure the others.
"""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro

from autolink.data.figures import figure_clip
from autolink.data.picture import squares
from autolink.detect import DetectConfig
from autolink.detect import run as detect
from autolink.extraction import Segment
from autolink.generation.extract_worker import Worker
from autolink.inference import detect_all
from autolink.video.files import read_frames
from autolink.video.writer import VideoWriter
from benchmarks.rounds import turns


@dataclass(frozen=True)
class Benchmark:
    """Measure extraction beside its parts."""

    checkpoint: str = "figures"
    """A stage one or a pose transfer."""
    frames: int = 500
    """Frames of the rendered video."""
    side: int = 256
    """Its sides in pixels."""
    videos: int = 1
    """Copies of it that are extracted at once."""
    repeats: int = 5
    """Rounds, in each of which everything is measured once."""
    device: str = "cpu"
    """cpu or cuda; on a card, seconds of the clock."""


def run(config: Benchmark) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        measure(config, Path(folder))


def works(config: Benchmark, folder: Path) -> tuple[Worker, list[Segment], dict[str, Callable[[], Any]]]:
    """What is timed, each over all frames, in a folder that is empty."""
    video, out = folder / "v.mp4", folder / "out"
    with VideoWriter(video, Fraction(25)) as writer:
        for frame in figure_clip(config.frames, 0, config.side)[0]:
            writer.write(frame)
    worker = Worker(config.checkpoint, config.device, 3600, out)
    torch.set_num_threads(1)
    worker.about.claim(out)
    copies = [shutil.copy(video, folder / f"{n}.mp4") for n in range(config.videos)]
    network, segments = worker.looker.parent.config, [Segment(str(copy), 0, 1) for copy in copies]
    crops = squares(list(read_frames(video)), network.size, network.fit)
    return worker, segments, {
        "detector alone": lambda: detect_all(worker.looker.parent, crops, worker.looker.device),
        "reading alone": lambda: sum(1 for _ in read_frames(video)),
        "extraction": lambda: list(worker.work(segments)),
    }  # fmt: skip


def measure(config: Benchmark, folder: Path) -> None:
    """Measure and print."""
    worker, segments, parts = works(config, folder)
    network, video, out = worker.looker.parent.config, folder / "v.mp4", folder / "out"
    clock = time.process_time if config.device == "cpu" else time.perf_counter

    found = turns(parts, config.repeats, clock)
    shown = f"{config.videos} x {config.frames} frames of {config.side} px"
    print(f"{shown}, {config.checkpoint}, {network.keypoints} keypoints")
    for name in parts:
        looked_at = config.frames * (config.videos if name == "extraction" else 1)
        spent = sorted(one / looked_at * 1000 for one in found[name])
        print(f"{name:16} {statistics.median(spent):7.3f} ms a frame ({spent[0]:.3f} to {spent[-1]:.3f})")
    size = (out / "points" / segments[0].name).stat().st_size
    print(f"{'parquet':16} {size / config.frames:7.1f} bytes a frame")
    if not worker.looker.layout:
        detect(DetectConfig(video, folder / "json", config.checkpoint))
        text = (folder / "json" / "keypoints.json").read_text()
        bare = json.dumps(json.loads(text)["frames"], separators=(",", ":"))  # noqa: TID251  # our own
        print(f"{'JSON of detect':16} {len(text) / config.frames:7.1f} bytes a frame")
        print(f"{'without spaces':16} {len(bare) / config.frames:7.1f} bytes a frame")


if __name__ == "__main__":
    run(tyro.cli(Benchmark))
