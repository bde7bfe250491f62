"""What report.json holds."""

from dataclasses import dataclass
from typing import Any

from autolink.eval.results import Figure, Section

Curve = tuple[tuple[float, float], ...]
"""(step, value) pairs."""


@dataclass(frozen=True)
class Training:
    """What a run folder holds of the training."""

    config: dict[str, Any]
    versions: dict[str, Any]
    curves: dict[str, Curve]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, and what was measured of it."""

    name: str
    slug: str
    """The name as it may stand in a file name or an anchor; unique in its report."""
    kind: str
    """The checkpoint's model_type."""
    kind_name: str
    weights_sha256: str
    parameters: int
    seconds: float
    """What measuring took."""
    model: dict[str, Any]
    """The checkpoint's config.json."""
    training: Training | None
    measured: Section

    @property
    def facts(self) -> str:
        """What identifies it."""
        return f"{self.parameters / 1e6:.2f} M parameters, weights {self.weights_sha256[:12]}"

    @property
    def headlines(self) -> list[Figure]:
        """The figures of a summary."""
        return [figure for figure in self.measured.figures if figure.headline]

    def picture_file(self, picture: str) -> str:
        """Where a picture of that name lies in the report's folder."""
        return f"pictures/{self.slug}-{picture}.png"


@dataclass(frozen=True)
class OverSeeds:
    """A figure of runs that differ in their training seed only: mean and standard deviation."""

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    figure: Figure


@dataclass(frozen=True)
class PublishedFigure:
    """A figure by the test protocol of a published set, of a paper or ours."""

    data: str
    """Name of the set, as in --data."""
    method: str
    keypoints: int | None
    """None: not known here."""
    value: float | None
    highest: float | None = None
    """Where a paper gives a range, its other end."""
    ours: bool = False

    @property
    def shown(self) -> str:
        """The value or range."""
        return " to ".join(f"{value:.2f}" for value in (self.value, self.highest) if value is not None)


@dataclass(frozen=True)
class Report:
    """Everything that is written."""

    title: str
    created: str
    seconds: float
    command: str
    seed: int
    options: dict[str, Any]
    versions: dict[str, str]
    checkpoints: tuple[Checkpoint, ...]
    over_seeds: tuple[OverSeeds, ...]
    published: tuple[PublishedFigure, ...]

    @property
    def made_with(self) -> str:
        """Seed, commit and version of PyTorch."""
        versions = [f"{name} {self.versions.get(name, 'unknown')[:12]}" for name in ("commit", "torch")]
        return ", ".join([f"seed {self.seed}", *versions])
