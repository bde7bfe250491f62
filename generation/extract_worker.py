"""What turns a segment of a video into rows of keypoints: by itself, or as Ray's actor."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.checkpoints import find_checkpoint, kind_of
from autolink.detect import Finder, batches
from autolink.device import pick_device, prepare_cpu, to_network
from autolink.extraction import About, Rows, Segment, clear_error, write_error, write_rows
from autolink.generation.in_step import ROOM, Job, Turn, in_step
from autolink.generation.subjects import LOOKED_AT
from autolink.generation.translator import PoseTransfer
from autolink.inference import detect_all
from autolink.layers import folded
from autolink.nested import NestedAutoLink, fingerprint
from autolink.regions import moved
from autolink.video.container import VideoError
from autolink.video.crop import Crop
from autolink.video.decoding import timing
from autolink.video.files import VideoFacts, read_part, video_facts
from autolink.video.following import State, follow
from autolink.video.layout import Layout
from autolink.video.stills import find_stills
from autolink.video.subject import find_subject, thumbnail
from autolink.video.timing import Timing

Image = NDArray[np.uint8]

SEARCHED = 32
"""Frames of a segment of which the first that is not empty is searched for the subject."""


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

    def __init__(self, checkpoint: str, device: str, seconds: int, out: Path) -> None:
        self.looker, self.out = Looker(checkpoint, pick_device(device)), out
        self.about = self.looker.about(seconds)

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
