"""Two reports side by side: which figures can be compared, and how they differ."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from autolink.errors import UsageError, UserError
from autolink.eval.reporting.content import Report
from autolink.eval.results import Figure, from_json

MUST_AGREE = ("data", "protocol", "count", "samples", "unit", "measured_by")
"""Figures are comparable only where these are the same."""


@dataclass(frozen=True)
class Compared:
    """The same figure in both reports."""

    checkpoint: str
    first: Figure
    second: Figure

    @property
    def obstacles(self) -> list[str]:
        """Why the two cannot be compared."""
        both = [(name, getattr(self.first, name), getattr(self.second, name)) for name in MUST_AGREE]
        return [f"{name} {one!r} against {other!r}" for name, one, other in both if one != other]

    @property
    def difference(self) -> float | None:
        """The second less the first."""
        first, second = self.first.value, self.second.value
        return None if first is None or second is None else second - first

    @property
    def shown_difference(self) -> str:
        """The difference with its sign."""
        return "" if self.difference is None else f"{self.difference:+,.{self.first.digits}f}"

    @property
    def label(self) -> str:
        """The figure's group and name, and the seeds where they differ."""
        seeds = self.first.seed, self.second.seed
        differ = "" if seeds[0] == seeds[1] else f" (seeds {seeds[0]} and {seeds[1]})"
        return f"{self.first.group}: {self.first.label}{differ}"

    @property
    def verdict(self) -> str:
        """Whether the second is better, worse or equal, or nothing; and whether the 95 % intervals overlap."""
        if self.difference is None or not self.first.better:
            return ""
        if round(self.difference, self.first.digits) == 0:
            return "equal"
        verdict = "better" if (self.difference < 0) == (self.first.better == "lower") else "worse"
        one, two = self.first.interval_95, self.second.interval_95
        overlap = one and two and max(one[0], two[0]) <= min(one[1], two[1])
        return verdict + (", intervals overlap" if overlap else "")


@dataclass(frozen=True)
class Comparison:
    """Two reports, and what they share."""

    reports: tuple[tuple[Path, Report], ...]
    figures: tuple[Compared, ...]
    refused: tuple[Compared, ...]


def read_report(path: Path, option: str) -> Report:
    """A report.json, named by the user with the given option.

    Raises:
        UserError: there is none, or it is damaged or something else.
    """
    if path.is_dir():
        path = path / "report.json"
    if not path.is_file():
        raise UsageError(f"{option} {path}: there is no such file; give a report.json")
    try:
        return from_json(Report, path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is no report of this command, or damaged ({error}); measure again") from None


def pairs(first: Report, second: Report) -> list[Compared]:
    """The same figure in both: of checkpoints of one name or, where a kind has only one checkpoint in each, of that."""
    kinds = [Counter(checkpoint.kind for checkpoint in report.checkpoints) for report in (first, second)]

    def by_name(report: Report) -> dict[tuple[str, str], tuple[str, Figure]]:
        found: dict[tuple[str, str], tuple[str, Figure]] = {}
        for c in report.checkpoints:
            alone = kinds[0][c.kind] == kinds[1][c.kind] == 1
            found |= {(c.kind if alone else c.name, f.key): (c.name, f) for f in c.measured.figures}
        return found

    one, two = by_name(first), by_name(second)
    return [
        Compared(" / ".join(dict.fromkeys((one[key][0], two[key][0]))), one[key][1], two[key][1])
        for key in one
        if key in two
    ]


def compare(first: Path, second: Path) -> Comparison:
    """The comparison of two report.json.

    Raises:
        UserError: a file is no report, or no figure of one can be compared with one of the other.
    """
    reports = [read_report(path, "--compare") for path in (first, second)]
    shared = pairs(reports[0], reports[1])
    refused = [pair for pair in shared if pair.obstacles]
    if len(refused) == len(shared):
        reasons = "; ".join(f"{pair.label}: {pair.obstacles[0]}" for pair in refused[:3])
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise UserError(
            f"no figure of {first} can be compared with one of {second}: "
            + (f"{reasons}{more}" if refused else "they hold no figure of the same kind of checkpoint")
        )
    fair = tuple(pair for pair in shared if not pair.obstacles)
    return Comparison(tuple(zip((first, second), reports, strict=True)), fair, tuple(refused))
