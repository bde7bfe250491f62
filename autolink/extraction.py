"""Keypoints of many videos as a folder of parquet files: one for each segment of a video, there whole or not at all.

extraction.json       checkpoint, keypoints, graph, seconds of a segment
points/3f/3f…-00000.parquet    the rows of segment 0 of the video whose name has this digest
errors/3f/3f…-00000.parquet    why a segment could not be read, or not to its end
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autolink.errors import UsageError, UserError
from autolink.files import atomic_path, parse_json, write_text
from autolink.video.files import VideoFacts
from autolink.video.following import State, filled
from autolink.video.motion import Motion

if TYPE_CHECKING:
    import pyarrow

ABOUT = "extraction.json"

OPTIONS = {"compression": "zstd", "use_dictionary": ["video", "state", "checkpoint"]}
"""How parquet files are written."""


@dataclass(frozen=True)
class About:
    """What holds for all rows of an extraction."""

    checkpoint: str
    """Fingerprint of the networks."""
    keypoints: int
    """Those of the parent, which the graph links."""
    children: int
    """Keypoints of its children, behind the parent's."""
    weights: tuple[float, ...]
    """The graph: (E,)."""
    seconds: int
    """Length of a segment."""

    @classmethod
    def read(cls, out: str | Path) -> "About":
        """What a folder says.

        Raises:
            UserError: it holds no extraction.
        """
        try:
            values = parse_json((Path(out) / ABOUT).read_text(encoding="utf-8"))
            return cls(**{**values, "weights": tuple(map(float, values["weights"]))})
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(f"{out} holds no extraction; give the --out of autolink extract") from None

    def claim(self, out: Path) -> None:
        """Begin an extraction in a folder, or go on with one.

        Raises:
            UsageError: the folder holds something else, or another extraction.
        """
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file; give a folder")
        if (out / ABOUT).exists():
            there = About.read(out)
            if there != self:
                other = "checkpoint" if there.checkpoint != self.checkpoint else "--segment"
                raise UsageError(f"--out {out} holds an extraction with another {other}; choose another folder")
            return
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise UsageError(f"--out {out} holds files that are no extraction; choose an empty or new folder")
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / ABOUT, json.dumps(asdict(self), indent=1) + "\n")


@dataclass(frozen=True)
class Segment:
    """A part of a video, in order."""

    video: str
    """Its absolute path."""
    number: int
    count: int
    """How many segments the video has."""

    @property
    def name(self) -> str:
        """Its file below `points` and `errors`; the digest spreads the files over 256 folders."""
        key = _key(self.video)
        return f"{key[:2]}/{key}-{self.number:05}.parquet"

    def finished(self, out: Path) -> bool:
        """Whether its rows are there."""
        return (out / "points" / self.name).exists()

    @property
    def draw(self) -> int:
        """A number by which segments are dealt to shards, the same in every process."""
        return int(hashlib.sha256(self.name.encode()).hexdigest()[:8], 16)

    def frames(self, rate: Fraction, seconds: int) -> tuple[int, int | None]:
        """Its first frame and the one behind its last, None where it goes on to the video's end."""
        last = None if self.number == self.count - 1 else round((self.number + 1) * seconds * rate)
        return round(self.number * seconds * rate), last


def _key(video: str) -> str:
    return hashlib.sha256(video.encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Rows:
    """What was found in a segment's frames."""

    points: NDArray[np.floating]
    """(T, K, 2), (x, y) in pixels."""
    states: Sequence[State]
    cuts: Sequence[bool]


def write_rows(out: Path, about: About, segment: Segment, facts: VideoFacts, rows: Rows) -> None:
    """Write a finished segment, whole or not at all."""
    import pyarrow

    T, first = len(rows.states), segment.frames(facts.rate, about.seconds)[0]
    K = about.keypoints + about.children
    plane = rows.points.reshape(T, K, 2) / [max(1, facts.width - 1), max(1, facts.height - 1)] * 2 - 1
    points = pyarrow.array(plane.astype(np.float16).ravel(), pyarrow.float16())
    frames = np.arange(first, first + T, dtype=np.int32)
    table = pyarrow.table(
        {
            "video": pyarrow.array([segment.video] * T, pyarrow.string()),
            "segment": pyarrow.array(np.full(T, segment.number, np.int32)),
            "frame": pyarrow.array(frames),
            "time": pyarrow.array(frames / float(facts.rate)),
            "points": pyarrow.FixedSizeListArray.from_arrays(points, 2 * K),
            "state": pyarrow.array(list(rows.states), pyarrow.string()),
            "cut": pyarrow.array(list(rows.cuts), pyarrow.bool_()),
            "checkpoint": pyarrow.array([about.checkpoint] * T, pyarrow.string()),
        }
    )
    told = {"rate": str(facts.rate), "width": facts.width, "height": facts.height, "segments": segment.count}
    _write(out / "points" / segment.name, table.replace_schema_metadata({"autolink": json.dumps(told)}))


def clear_error(out: Path, segment: Segment) -> None:
    """Forget that a segment could not be read."""
    (out / "errors" / segment.name).unlink(missing_ok=True)


def write_error(out: Path, segment: Segment, error: str, frames: int) -> None:
    """Write why a segment could not be read to its end; `frames` could."""
    import pyarrow

    row = {"video": [segment.video], "segment": [segment.number], "frames": [frames], "error": [error]}
    _write(out / "errors" / segment.name, pyarrow.table(row))


def _write(path: Path, table: "pyarrow.Table") -> None:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as beside:
        parquet.write_table(table, beside, **OPTIONS)


def read(out: str | Path, video: str | Path | None = None) -> "pyarrow.Table":
    """The rows of an extraction, or of one video in it, each video's in order.

    Columns are video, segment, frame, time (seconds), points, state, cut (another shot begins here), checkpoint.

    `points` are 2 K half floats, x and y in turn, in [-1, 1] of the frame with -1 and 1 at the centres of its
    outermost pixels; the parent's keypoints come first. NaN where the subject was not seen yet.

    Raises:
        UserError: the folder holds no extraction, or nothing of this video.
    """
    About.read(out)
    files = _files(Path(out) / "points", video)
    if not files:
        raise UserError(f"{out} holds no rows{f' of {video}' if video else ''}; run autolink extract to its end")
    return _joined(files)


def read_errors(out: str | Path) -> list[dict[str, Any]]:
    """What could not be read, a dictionary a segment: video, segment, frames that could, error."""
    About.read(out)
    files = _files(Path(out) / "errors", None)
    return _joined(files).to_pylist() if files else []


def _files(folder: Path, video: str | Path | None) -> list[Path]:
    key = "" if video is None else _key(named(video))
    found = folder.glob(f"{key[:2] or '*'}/{key}*.parquet")
    return sorted(path for path in found if not path.name.startswith("."))


def _joined(files: list[Path]) -> "pyarrow.Table":
    import pyarrow
    from pyarrow import parquet

    return pyarrow.concat_tables([parquet.read_table(file).replace_schema_metadata(None) for file in files])


def named(video: str | Path) -> str:
    """What the rows call a video: its absolute path, links as they are."""
    return str(Path(video).absolute())


def read_motion(out: str | Path, video: str | Path) -> Motion:
    """The parent's keypoints of a video as a motion, in pixels; frames before the subject was seen take its first pose.

    Raises:
        UserError: the video is not extracted to its end, or no frame shows the subject.
    """
    from pyarrow import parquet

    about = About.read(out)
    table, files = read(out, video), _files(Path(out) / "points", video)
    told: dict[str, Any] = parse_json(parquet.read_schema(files[0]).metadata[b"autolink"])
    if len(files) != told["segments"]:
        raise UserError(
            f"{out} holds {len(files)} of the {told['segments']} segments of {video}; run autolink extract again"
        )
    plane = points_of(table)[:, : about.keypoints].astype(np.float64)
    pixels = (plane + 1) / 2 * [told["width"] - 1, told["height"] - 1]
    try:
        track = filled(pixels)
    except ValueError as error:
        raise UserError(f"{video}: {error} that the checkpoint knows") from None
    return Motion(track, Fraction(told["rate"]), told["width"], told["height"], np.array(about.weights))


def points_of(table: "pyarrow.Table") -> NDArray[np.float16]:
    """The column `points` of some rows: (T, K, 2), (x, y) in [-1, 1] of the frame."""
    column = table["points"].combine_chunks()
    points: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=False)
    return points.reshape(len(table), -1, 2)
