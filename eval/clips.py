"""Clips that a pose transfer is measured on: a source frame, pairs of consecutive frames, and the truth if known."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolink.data.figures import figure_clip
from autolink.data.images import load_images
from autolink.data.picture import square
from autolink.data.source import TABLE, is_video
from autolink.errors import UserError
from autolink.generation.pairs import scenes
from autolink.pictures import is_hidden
from autolink.video.container import VideoError
from autolink.video.files import SUFFIXES, read_frames

FIRST_FIGURE = 100_000
"""Seeds of rendered clips begin here; no training uses them."""

FIGURE_FRAMES = 50
"""Length of a rendered clip: two seconds."""

MOST_FRAMES = 150
"""Of longer videos the beginning is measured."""


@dataclass(frozen=True)
class Clip:
    """One person moving."""

    name: str
    whole: NDArray[np.uint8]
    """(N, size, size, 3), RGB: every frame."""
    pairs: NDArray[np.int64]
    """(T, 2), which of them are measured: some, spread over the clip, each with the one after it."""
    all_joints: NDArray[np.float32] | None = None
    """(N, J, 2), the true joints, (x, y) in [-1, 1]."""
    seed: int = 0
    """Of a rendered clip."""
    person: str = ""
    """Whom it shows; empty: nobody that another clip shows."""

    @property
    def shows(self) -> str:
        """What tells its person from others."""
        return self.person or self.name

    @property
    def source(self) -> NDArray[np.uint8]:
        """(size, size, 3), RGB: the first frame."""
        first: NDArray[np.uint8] = self.whole[0]
        return first

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(T, 2, size, size, 3), RGB: the frames that are measured."""
        chosen: NDArray[np.uint8] = self.whole[self.pairs]
        return chosen

    @property
    def joints(self) -> NDArray[np.float32] | None:
        """(T, 2, J, 2), the true joints of `frames`."""
        return None if self.all_joints is None else self.all_joints[self.pairs]


def spread_pairs(length: int, count: int) -> NDArray[np.int64]:
    """Frame numbers (T, 2) of at most `count` consecutive pairs, evenly over a clip, without its first frame."""
    starts = np.unique(np.linspace(1, length - 2, count).round().astype(int))
    return np.stack([starts, starts + 1], 1)


def figure(seed: int, count: int, size: int, motion_seed: int | None = None) -> Clip:
    """A rendered clip; with `motion_seed`, the same person and scene doing what another does."""
    images, joints = figure_clip(FIGURE_FRAMES, seed, size, motion_seed)
    return Clip(f"figure {seed}", images, spread_pairs(FIGURE_FRAMES, count), joints, seed)


def video_clip(path: Path, count: int, size: int, most: int = MOST_FRAMES) -> Clip:
    """The central square of a video's frames, of the first `most` of them.

    Raises:
        UserError: the file is no readable video, or has fewer than four frames.
    """
    try:
        images = [square(Image.fromarray(frame), size, "crop") for frame in islice(read_frames(path), most)]
    except VideoError as error:
        raise UserError(str(error)) from None
    if len(images) < 4:
        raise UserError(f"{path} has {len(images)} frames; at least 4 are needed, a source and two pairs to drive it")
    return Clip(path.stem, np.stack(images), spread_pairs(len(images), count), person=person_of(path.stem))


def person_of(name: str) -> str:
    """Whom a video shows by its name: `anna_1` and `anna_2` are of one person."""
    return re.sub(r"_\d+$", "", name)


def scene_clips(folder: Path, count: int, size: int) -> list[Clip]:
    """One clip of each person held out by landmarks.csv: the scene with the most pictures, in their order.

    Raises:
        UserError: the pictures cannot be read, or none of these scenes has four pictures.
    """
    pictures = load_images(folder, size, "stretch")
    known = pictures.annotation
    assert known is not None  # there is a table
    images, people = pictures.images[known.test], known.identity[known.test]
    longest: dict[str, NDArray[np.int64]] = {}
    for scene in scenes(images, people) if len(images) else []:
        person = str(people[scene[0]])
        if person and len(scene) > max(3, len(longest.get(person, ()))):
            longest[person] = scene
    if not longest:
        raise UserError(f"{folder / TABLE} holds out no person with four pictures of one scene")
    return [
        Clip(f"identity {person}", images[scene], spread_pairs(len(scene), count), person=person)
        for person, scene in sorted(longest.items())
    ]


def driver_of(number: int, clips: list[Clip]) -> Clip:
    """Who drives a clip across people: the next clip of another person, or simply the next if all show one."""
    others = clips[number + 1 :] + clips[:number]
    return next((other for other in others if other.shows != clips[number].shows), others[0])


def is_clips(data: str) -> bool:
    """Whether `load_clips` takes it; decodes nothing."""
    return data == "figures" or bool(videos_in(Path(data))) or (Path(data) / TABLE).is_file()


def load_clips(data: str, clips: int, count: int, size: int, seed: int, most: int = MOST_FRAMES) -> Iterator[Clip]:
    """Clips of held-out people.

    Args:
        data: `figures`, rendered; a folder of videos, taken in the order of their names; or a folder of pictures whose
            landmarks.csv has identities, of which `scene_clips` are taken.
        clips: how many at most.
        count: pairs of frames of each at most.
        size: side in pixels.
        seed: of rendered clips.
        most: frames that are read of a video.

    Raises:
        UserError: there is no such folder, or nothing of that kind in it.
    """
    if data == "figures":
        first = FIRST_FIGURE + 10_000 * seed
        return (figure(first + n, count, size) for n in range(clips))
    folder = Path(data)
    if not folder.is_dir():
        raise UserError(f"--data {data} is no folder; give one of videos, one of pictures with {TABLE}, or figures")
    videos = videos_in(folder)
    if videos:
        return (video_clip(path, count, size, most) for path in videos[:clips])
    if (folder / TABLE).is_file():
        return iter(scene_clips(folder, count, size)[:clips])
    raise UserError(
        f"--data {data} holds no videos and no {TABLE} with the identities of pictures; allowed are "
        f"{', '.join(sorted(SUFFIXES))}"
    )


def videos_in(folder: Path) -> list[Path]:
    """The videos directly in a folder, by name; none where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and not is_hidden(p.name) and is_video(p))
