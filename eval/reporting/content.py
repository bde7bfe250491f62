"""What a report holds, before it is written as JSON, Markdown and HTML."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from autolink.draw import Image


@dataclass(frozen=True)
class Conditions:
    """What a figure depends on besides the checkpoint; two figures are comparable only where these agree."""

    data: str
    protocol: str
    samples: str
    """How many pictures or clips of what."""
    features: str = "none"
    """The feature network that measured, if one did."""
    judge: str = "none"
    """The supervised or independent detector that measured, if one did."""
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    key: str
    """Unique within a checkpoint."""
    name: str
    value: float
    conditions: Conditions
    unit: str = ""
    digits: int = 2
    better: str = ""
    """lower, higher, or nothing."""
    group: str = ""
    """The table that it stands in."""
    spread: float | None = None
    """A standard deviation."""
    spread_over: str = ""
    interval_95: tuple[float, float] | None = None
    yardstick: float | None = None
    """What something trivial scores."""
    yardstick_name: str = ""
    headline: bool = False

    def as_json(self) -> dict[str, Any]:
        """Flat, so that every figure carries its conditions."""
        values = asdict(self)
        return plain(values | values.pop("conditions"))


@dataclass(frozen=True)
class Picture:
    """A sheet of pictures of one size."""

    name: str
    title: str
    alt: str
    rows: tuple[str, ...]
    """What each row of the sheet shows, from the top."""
    image: Image

    def as_json(self, file: str) -> dict[str, Any]:
        """All but the pixels."""
        size = {"width": self.image.shape[1], "height": self.image.shape[0]}
        return {"file": file, "title": self.title, "alt": self.alt, "rows": list(self.rows), **size}


@dataclass
class Section:
    """What was found out about one checkpoint."""

    figures: list[Figure] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    landmarks: list[dict[str, Any]] = field(default_factory=list)
    """name, error, mean_pose_error."""
    keypoints: list[dict[str, Any]] = field(default_factory=list)
    """keypoint, its links in the graph, and the landmark that it tells most about."""
    graph: dict[str, Any] | None = None
    """Mean positions of the keypoints and weights of the edges."""
    notes: list[str] = field(default_factory=list)


def plain(values: Any) -> Any:
    """For JSON: tuples become lists, numbers that are none become null."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def shown_value(figure: dict[str, Any], name: str = "value") -> str:
    """A figure's value, or its yardstick, as printed everywhere."""
    value = figure[name]
    return "" if value is None else f"{value:,.{figure['digits']}f}"


def shown_spread(figure: dict[str, Any]) -> str:
    """How sure a figure is, in words."""
    digits = figure["digits"]
    if figure["interval_95"]:
        low, high = figure["interval_95"]
        return f"{low:.{digits}f} to {high:.{digits}f} (95 %)"
    if figure["spread"] is not None:
        return f"± {figure['spread']:.{digits}f} over {figure['spread_over']}"
    return ""
