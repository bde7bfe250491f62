"""Keypoints of many videos as a table: autolink extract VIDEOS... --checkpoint NAME --out DIR.

Each segment of a video is a file of its own; what is finished is not done again, whoever did it.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import av
import tyro
from tqdm import tqdm

from autolink.data.source import is_video
from autolink.errors import UsageError, UserError, command
from autolink.extraction import Segment, named, read_motion
from autolink.generation.extract_worker import Outcome, Worker
from autolink.generation.in_step import ROOM
from autolink.pictures import files_below
from autolink.video.container import VideoError, opened
from autolink.video.motion import write_motion
from autolink.video.stills import find_stills


@dataclass(frozen=True)
class ExtractConfig:
    """Keypoints of all frames of many videos, as parquet files."""

    videos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Videos, folders of videos, or .txt files with the path of one in each line."""
    out: Path
    """Folder for the table. What is finished in it is not done again."""
    checkpoint: str
    """A stage one looks at all of the frame, as autolink detect; a pose transfer finds and follows the subject, as
    autolink transfer. A folder, the name of a bundled one, or hf:owner/name."""
    segment: int = 60
    """Seconds of video that become one file."""
    shard: str = "0/1"
    """Do only this part of the work: 0/4, 1/4, 2/4 and 3/4 together do all of it, wherever they run."""
    motion: Path | None = None
    """Also write the motion of the one video given, as JSON that transfer --driver takes."""
    ray: bool = False
    """Work on all machines of a Ray cluster, or on all cores of this one."""
    workers: int = 0
    """Detectors that Ray runs at once; 0 for one a core."""
    gpus: float = 0.0
    """Graphics cards that Ray gives each of them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        if self.segment < 1:
            raise UsageError(f"--segment is a number of seconds, at least 1, got {self.segment}")
        if self.workers < 0 or not self.gpus >= 0:
            raise UsageError("--workers and --gpus are 0 or more")
        _ = self.part

    @property
    def part(self) -> tuple[int, int]:
        """Number and count of `shard`."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard)
        if not found or not int(found[1]) < int(found[2]):
            raise UsageError(f"--shard is i/n with i from 0 to n - 1, for instance 0/4; got {self.shard!r}")
        return int(found[1]), int(found[2])


def listed(videos: Iterable[str]) -> list[str]:
    """The absolute paths of the videos that arguments name, each once.

    Raises:
        UsageError: one does not exist, or there are none.
    """
    found: list[str] = []
    for name in videos:
        path = Path(name)
        if path.is_dir():
            found += sorted(named(file) for file in files_below(path) if is_video(file))
        elif not path.exists():
            raise UsageError(f"{name} does not exist; give videos, folders, or .txt files that list videos")
        elif path.suffix.lower() == ".txt":
            found += [named(line.strip()) for line in path.read_text().splitlines() if line.strip()]
        else:
            found.append(named(path))
    if not found:
        raise UsageError(f"there are no videos in {', '.join(videos)}")
    return list(dict.fromkeys(found))


def segments_of(video: str, seconds: int) -> list[Segment]:
    """The segments of a video by its header, the last one open; one of a file that says nothing."""
    path, duration = Path(video), Fraction(0)
    try:
        if not find_stills(path):
            with opened(path) as container:
                duration = Fraction(container.duration or 0, av.time_base)
    except (VideoError, OSError):
        pass  # told by the worker
    count = max(1, min(ceil(duration / seconds), 99_999))
    return [Segment(video, number, count) for number in range(count)]


def unfinished(video: str, config: ExtractConfig, out: Path) -> list[Segment]:
    """The segments of a video that are this shard's and have no rows yet."""
    number, count = config.part
    return [s for s in segments_of(video, config.segment) if s.draw % count == number and not s.finished(out)]


def worker_arguments(config: ExtractConfig, out: Path) -> tuple[str, str, int, Path]:
    """Those of a `Worker`."""
    return config.checkpoint, config.device, config.segment, out


def in_this_process(config: ExtractConfig, videos: list[str], out: Path, worker: Worker) -> Iterator[Outcome]:
    """Do the work, one segment after the other."""
    yield from worker.work(
        segment for video in tqdm(videos, unit="video") for segment in unfinished(video, config, out)
    )


def by_ray(config: ExtractConfig, videos: list[str], out: Path, at_once: int) -> Iterator[Outcome]:
    """Do the work on a Ray cluster, or on one that is started here for it; a worker is given `at_once` segments."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # RAY_ADDRESS names a cluster that runs

    def plan(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [vars(segment) for segment in unfinished(row["item"], config, out)]

    workers = config.workers or int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call,unused-ignore]
    rows = ray.data.from_items(videos).flat_map(plan)
    done = rows.map_batches(
        Worker,  # type: ignore[arg-type,unused-ignore]  # a class whose objects are called
        fn_constructor_args=worker_arguments(config, out),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        batch_size=at_once, num_cpus=1, num_gpus=config.gpus or None,
    )  # fmt: skip
    for row in done.iter_rows():
        yield Outcome(row["frames"], row["error"] or None)


def check_installed(ray: bool) -> None:
    """Refuse to begin without what writes the files.

    Raises:
        UserError: it is not installed.
    """
    for name in ["pyarrow", *(["ray"] if ray else [])]:
        if find_spec(name) is None:
            raise UserError(f"autolink extract needs {name}: pip install 'autolink-keypoints[scale]'")


def run(config: ExtractConfig) -> None:
    """The command: list, find, write, say how much."""
    check_installed(config.ray)
    videos, out = listed(config.videos), config.out.absolute()
    if config.motion and (len(videos) != 1 or config.motion.suffix.lower() != ".json"):
        raise UsageError(f"--motion is a .json file and of one video; got {config.motion} of {len(videos)} videos")
    if config.motion and config.motion.exists():
        raise UsageError(f"--motion {config.motion} exists; choose another name")
    worker = Worker(*worker_arguments(config, out))
    worker.about.claim(out)
    at_once = ROOM if worker.looker.layout else 1
    done = by_ray(config, videos, out, at_once) if config.ray else in_this_process(config, videos, out, worker)
    frames, segments, errors = 0, 0, list[str]()
    for outcome in done:
        frames, segments = frames + outcome.frames, segments + 1
        if outcome.error:
            errors.append(outcome.error)
    for error in errors[:8]:
        print(f"warning: {error}", file=sys.stderr)
    if errors and not frames and not any((out / "points").glob("*/*.parquet")):
        raise UserError(
            f"nothing could be read, {len(errors)} of {segments} segments failed; {out / 'errors'} says why"
        )
    told = f", {len(errors)} of them not to their end: see {config.out / 'errors'}" if errors else ""
    print(f"{frames} frames in {segments} new segments{told}; {config.out}")
    if config.motion:
        write_motion(config.motion, read_motion(out, videos[0]), {"video": Path(videos[0]).name})
        print(f"motion: {config.motion}")


def main() -> None:
    """Entry point of `autolink extract`."""
    command(lambda: run(tyro.cli(ExtractConfig)))


if __name__ == "__main__":
    main()
