"""Keypoints of many videos as a table: autolink extract VIDEOS... --checkpoint NAME --out DIR.

Each segment of a video is a file of its own; what is finished is not done again, whoever did it.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import av
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.checkpoints import find_checkpoint, kind_of
from autolink.data.source import is_video
from autolink.detect import Finder, batches
from autolink.device import pick_device, prepare_cpu, to_network
from autolink.errors import UsageError, UserError, command
from autolink.extraction import About, Rows, Segment, clear_error, named, read_motion, write_error, write_rows
from autolink.generation.in_step import ROOM, Job, Turn, in_step
from autolink.generation.subjects import LOOKED_AT
from autolink.generation.translator import PoseTransfer
from autolink.inference import detect_all
from autolink.layers import folded
from autolink.nested import NestedAutoLink, fingerprint
from autolink.pictures import files_below
from autolink.regions import moved
from autolink.video.container import VideoError, opened
from autolink.video.crop import Crop
from autolink.video.decoding import timing
from autolink.video.files import VideoFacts, read_part, video_facts
from autolink.video.following import State, follow
from autolink.video.layout import Layout
from autolink.video.motion import write_motion
from autolink.video.stills import find_stills
from autolink.video.subject import find_subject, thumbnail
from autolink.video.timing import Timing

Image = NDArray[np.uint8]

SEARCHED = 32
"""Frames of a segment of which the first that is not empty is searched for the subject."""


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


class Looked(NamedTuple):
    """What is found in a frame."""

    points: NDArray[np.floating]
    """(K, 2), the parent's keypoints and then the children's, (x, y) in pixels."""
    state: State
    cut: bool


class Looker:
    """A checkpoint that goes from frames to keypoints."""

    def __init__(self, checkpoint: str, device: torch.device) -> None:
        prepare_cpu(device)
        self.device = device
        folder = find_checkpoint(checkpoint)
        self.layout: Layout | None = None
        if kind_of(folder) == "transfer":
            model = PoseTransfer.from_folder(folder)
            self.nested = model.local.stage_one if model.local else NestedAutoLink(model.stage_one, {})
            self.layout = model.layout
        else:
            self.nested = NestedAutoLink.from_folder(folder)
        followed = b"followed" if self.layout else b""
        parts = [self.nested.parent, *(child for _, child in self.nested.named())]
        self.digest = hashlib.sha256("".join(map(fingerprint, parts)).encode() + followed).hexdigest()[:16]
        self.nested = folded(self.nested).to(device)
        self.parent = self.nested.parent

    def about(self, seconds: int) -> About:
        """What the extraction's folder says."""
        children = sum(model.config.keypoints for _, model, _ in self.nested.blocks[1:])
        weights = tuple(float(f"{weight:.5g}") for weight in self.parent.edge_weights.tolist())
        return About(self.digest, self.parent.config.keypoints, children, weights, seconds)

    def look(self, frames: Iterator[Image], turn: Turn | None = None) -> Iterator[Looked]:
        """Keypoints of a video's frames, (H, W, 3) each, in order and constant memory.

        With `turn` the subject is followed, in step with other videos.
        """
        found = self._followed(frames, turn) if turn else self._whole(frames)
        if not self.nested.named():
            yield from (looked for _, looked in found)
            return
        while some := list(islice(found, LOOKED_AT)):
            closer = turn.call(partial(self._with_children, some)) if turn else self._with_children(some)
            for (_, looked), points in zip(some, closer, strict=True):
                yield looked._replace(points=points)

    def _whole(self, frames: Iterator[Image]) -> Iterator[tuple[Image, Looked]]:
        finder = Finder(self.parent, self.device)
        for some in batches(frames):
            for image, points in zip(some, finder.find(some), strict=True):
                yield image, Looked(points, "seen", False)

    def _followed(self, frames: Iterator[Image], turn: Turn) -> Iterator[tuple[Image, Looked]]:
        assert self.layout
        size, first = self.parent.config.size, list(islice(frames, SEARCHED))
        if not first:
            return
        start = Crop.centre(first[0].shape[1], first[0].shape[0])
        shown = next((image for image in first if thumbnail(image) is not None), None)
        if shown is not None:
            start = find_subject(shown, turn.detect, self.layout, size).crop
        for frame in follow(chain(first, frames), turn.detect, self.layout, start, size):
            yield frame.image, Looked(frame.keypoints, frame.state, frame.cut)

    def detect(self, crops: Image) -> NDArray[np.floating]:
        """The parent's keypoints in square crops, as `follow` asks for them."""
        return detect_all(self.parent, crops, self.device)

    @torch.no_grad()
    def _with_children(self, some: list[tuple[Image, Looked]]) -> list[NDArray[np.floating]]:
        """The keypoints of pictures of one size with those of the children, NaN where the parent's are."""
        own = [looked.points for _, looked in some]
        pictures = to_network(torch.from_numpy(np.stack([image for image, _ in some])), self.device)
        points = torch.from_numpy(np.stack(own)).float().to(self.device)
        found, maps = self.nested.look_from(pictures, points)
        places = [moved(maps[:, n], place) for n, place in enumerate(found)]
        return list(torch.cat([points, *places], 1).cpu().numpy())


class Outcome(NamedTuple):
    """What became of a segment."""

    frames: int
    error: str | None


class Worker:
    """Reads segments, finds keypoints in them and writes the rows."""

    def __init__(self, config: ExtractConfig, out: Path) -> None:
        self.looker, self.out = Looker(config.checkpoint, pick_device(config.device)), out
        self.about = self.looker.about(config.segment)

    def work(self, segments: Iterable[Segment]) -> Iterator[Outcome]:
        """Write the rows of segments, of several at once where the subject is followed."""
        if self.looker.layout is None:
            yield from map(self.write, segments)
        else:
            yield from in_step(map(self.job, segments), self.looker.detect)

    def job(self, segment: Segment) -> Job[Outcome]:
        """A segment to be written in step with others."""
        try:
            facts, _ = _known(Path(segment.video))
            weight = ceil(facts.width * facts.height / 2**19)
        except VideoError:  # told by `write`
            weight = 1
        return Job(partial(self.write, segment), weight)

    def write(self, segment: Segment, turn: Turn | None = None) -> Outcome:
        """Write a segment's rows; of a file without a single frame, the error of its first segment."""
        path, damage = Path(segment.video), ""
        try:
            facts, known = _known(path)
        except VideoError as error:
            write_error(self.out, Segment(segment.video, 0, 1), str(error), 0)
            return Outcome(0, str(error))

        def readable() -> Iterator[Image]:
            nonlocal damage
            try:
                yield from read_part(path, *segment.frames(facts.rate, self.about.seconds), known)
            except VideoError as error:
                damage = str(error)

        looked = list(self.looker.look(readable(), turn))
        K = self.about.keypoints + self.about.children
        points = np.stack([one.points for one in looked]) if looked else np.zeros((0, K, 2))
        if damage:
            write_error(self.out, segment, damage, len(looked))
        write_rows(self.out, self.about, segment, facts,
                   Rows(points, [one.state for one in looked], [one.cut for one in looked]))  # fmt: skip
        if not damage:
            clear_error(self.out, segment)
        return Outcome(len(looked), damage or None)

    def __call__(self, rows: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
        """As Ray calls it, with columns."""
        columns = (rows[name].tolist() for name in ("video", "number", "count"))
        done = list(self.work(Segment(*row) for row in zip(*columns, strict=True)))
        return {"frames": [one.frames for one in done], "error": [one.error or "" for one in done]}


@lru_cache(2 * ROOM)
def _known(path: Path) -> tuple[VideoFacts, Timing | None]:
    """Facts of a video that several segments are of."""
    return video_facts(path), None if find_stills(path) else timing(path)


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
        fn_constructor_args=(config, out), compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
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
    worker = Worker(config, out)
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
