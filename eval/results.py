"""Figures and their conditions: what every measure returns, every command prints and every report shows."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from autolink.data import RENDERED
from autolink.data.published import PUBLISHED
from autolink.files import write_text

Better = Literal["lower", "higher", ""]

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Figure:
    """One measured number, and everything it depends on besides the checkpoint."""

    key: str
    """Unique among the figures of a checkpoint."""
    name: str
    value: float | None
    """None, or not finite: it could not be measured."""
    data: str
    """What it was measured on, as `data_name` calls it."""
    count: int
    """How many samples."""
    samples: str
    """What the samples are: `test pictures, fitted on 8,000`."""
    protocol: str
    """How it is measured."""
    unit: str = ""
    better: Better = ""
    digits: int = 2
    """Decimals that are shown."""
    group: str = ""
    """The table that it stands in."""
    measured_by: str = ""
    """The networks that measured it, if any did."""
    seed: int = 0
    spread: float | None = None
    """A standard deviation."""
    spread_over: str = ""
    interval_95: tuple[float, float] | None = None
    baseline: float | None = None
    """What something trivial scores."""
    baseline_name: str = ""
    headline: bool = False
    """Whether it stands in the summary."""

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 12:
            raise ValueError(f"digits must be 0 to 12, got {self.digits}")

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def measured_on(self) -> str:
        """Data and sample count."""
        return f"{self.data}, {self.count:,} {self.samples}"

    @property
    def direction(self) -> str:
        """Which is better."""
        return f"{self.better} is better" if self.better else ""

    @property
    def shown_value(self) -> str:
        """The value as printed everywhere."""
        return shown(self.value, self.digits)

    @property
    def shown_baseline(self) -> str:
        """The baseline and its name."""
        return f"{self.baseline_name} {shown(self.baseline, self.digits)}".strip()

    @property
    def shown_spread(self) -> str:
        """How sure the value is."""
        if self.interval_95:
            low, high = self.interval_95
            return f"{shown(low, self.digits)} to {shown(high, self.digits)} (95 %)"
        return "" if self.spread is None else f"± {shown(self.spread, self.digits)} over {self.spread_over}"


def shown(value: float | None, digits: int) -> str:
    """A number with `digits` decimals; empty where it could not be measured."""
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else ""


@dataclass(frozen=True)
class Landmark:
    """The regression error of one landmark."""

    name: str
    error: float
    unit: str
    mean_pose_error: float | None = None


@dataclass(frozen=True)
class Graph:
    """A learned graph."""

    positions: tuple[tuple[float, float], ...]
    """Mean position of each keypoint, (x, y) in [-1, 1]."""
    edges: tuple[tuple[int, int, float], ...]
    """Two keypoints and the weight over the largest one."""


@dataclass(frozen=True)
class Picture:
    """A sheet of pictures of one size, without its pixels."""

    name: str
    title: str
    rows: tuple[str, ...]
    """What each row shows, from the top."""
    columns: str
    """What a column shows."""
    width: int
    height: int


class Metric(NamedTuple):
    """What a measurement becomes a `Figure` by, before it is measured."""

    key: str
    name: str
    unit: str
    digits: int
    better: Better
    protocol: str
    measured_by: str = ""
    headline: bool = False
    beside: str = ""
    """Where the baseline is found, if not by the table."""


@dataclass(frozen=True)
class Section:
    """All that was measured of one checkpoint on one data set."""

    figures: tuple[Figure, ...]
    landmarks: tuple[Landmark, ...] = ()
    best_landmarks: tuple[Landmark, ...] = ()
    """For each keypoint the landmark that it predicts best by itself."""
    graph: Graph | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Figure:
        """The figure of that key."""
        return next(figure for figure in self.figures if figure.key == key)


def data_name(data: str) -> str:
    """How results name what they were measured on: no more of a path than its end."""
    return data if data in RENDERED or data in PUBLISHED else Path(data).resolve().name


def to_json(results: Any) -> str:
    """A dataclass, or a dictionary of them, as JSON: null for numbers that are not finite."""
    return json.dumps(_plain(results), indent=2, allow_nan=False) + "\n"


def from_json(kind: type[Kind], text: str | bytes) -> Kind:
    """The dataclass that `to_json` wrote, every type checked.

    Raises:
        ValueError: the text is damaged or something else; the message is one line.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}".replace("\n", " ")) from None


def write_results(path: Path, section: Section, **facts: Any) -> None:
    """What a command writes with --json: the section, and what else is known of the measurement."""
    write_text(path, to_json(asdict(section) | facts))


def as_text(figures: Iterable[Figure]) -> str:
    """Figures for a terminal: a table for each group, what it was measured on and by above it."""
    tables = []
    for group, members in groupby(figures, lambda figure: figure.group):
        table = list(members)
        where = "; ".join(dict.fromkeys(figure.measured_on for figure in table))
        rows = [
            [f"  {f.label}", f.shown_value, f.shown_spread, f.shown_baseline, f.direction, f.measured_by] for f in table
        ]
        lines = ["  ".join(row).rstrip() for row in aligned(rows, frozenset({1}))]
        tables.append("\n".join([f"{group}: {where}" if group else where, *lines]))
    return "\n".join(tables)


def aligned(rows: Sequence[Sequence[str]], numbers: frozenset[int] = frozenset()) -> list[list[str]]:
    """Rows of cells, those of a column brought to one width; columns of numbers are set right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [c.rjust(w) if n in numbers else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]


def _plain(value: Any) -> Any:
    """Values that JSON has."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, str):  # a file's name need not be text
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
