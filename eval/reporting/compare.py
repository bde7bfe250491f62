"""Two reports side by side: which figures can be compared, and how they differ."""

import json
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from autolink.errors import UsageError, UserError
from autolink.eval.reporting.content import shown_value
from autolink.eval.reporting.page import document, table
from autolink.eval.reporting.text import table as text_table

MUST_AGREE = ("data", "protocol", "samples", "unit", "features", "judge")
"""Figures are comparable only where these are the same."""

Pair = tuple[dict[str, Any], dict[str, Any]]


def read_report(path: Path, option: str) -> dict[str, Any]:
    """A report.json, named by the user with the given option.

    Raises:
        UserError: there is none, or it is something else.
    """
    if path.is_dir():
        path = path / "report.json"
    if not path.is_file():
        raise UsageError(f"{option} {path}: there is no such file; give a report.json")
    try:
        report = json.loads(path.read_text())
        figures = [figure for checkpoint in report["checkpoints"] for figure in checkpoint["figures"]]
        missing = [name for f in figures for name in (*MUST_AGREE, "key", "name", "value", "digits") if name not in f]
        if missing:
            raise ValueError(f"a figure without {missing[0]}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no report of this command ({type(error).__name__}: {error})") from None
    return report


def pairs(first: dict[str, Any], second: dict[str, Any]) -> list[Pair]:
    """The same figure in both: of checkpoints of one name or, where a kind has only one checkpoint in each, of that."""

    def by_name(report: dict[str, Any], other: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
        kinds, others = (Counter(c["kind"] for c in r["checkpoints"]) for r in (report, other))
        found = {}
        for c in report["checkpoints"]:
            alone = kinds[c["kind"]] == others[c["kind"]] == 1
            for f in c["figures"]:
                found[c["kind"] if alone else c["name"], f["key"]] = f | {"checkpoint": c["name"]}
        return found

    one, two = by_name(first, second), by_name(second, first)
    return [(one[key], two[key]) for key in one if key in two]


def obstacles(pair: Pair) -> list[str]:
    """Why two figures cannot be compared."""
    one, two = pair
    return [f"{name} {one[name]!r} against {two[name]!r}" for name in MUST_AGREE if one[name] != two[name]]


def compare(first: Path, second: Path) -> dict[str, Any]:
    """The comparison, ready for JSON.

    Raises:
        UserError: a file is no report, or no figure of one can be compared with one of the other.
    """
    reports = [read_report(path, "--compare") for path in (first, second)]
    rows, refused = [], []
    for one, two in pairs(*reports):
        against = obstacles((one, two))
        names = {"name": one["name"], "group": one["group"], "checkpoints": [one["checkpoint"], two["checkpoint"]]}
        if against:
            refused.append(names | {"why": against})
            continue
        difference = None if None in (one["value"], two["value"]) else two["value"] - one["value"]
        seeds = [one["seed"], two["seed"]]
        rows.append(
            {
                **names, "unit": one["unit"], "digits": one["digits"], "better": one["better"], "seeds": seeds,
                "first": one["value"], "second": two["value"], "difference": difference,
                "verdict": _verdict(one, two, difference),
            }
        )  # fmt: skip
    if not rows:
        told = "; ".join(f"{r['group']}, {r['name']}: {r['why'][0]}" for r in refused[:3])
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise UserError(
            f"no figure of {first} can be compared with one of {second}"
            + (f": {told}{more}" if refused else ": they hold no figure of the same kind of checkpoint")
        )
    heads = [{"file": str(p), "created": r["created"], "commit": r["versions"].get("commit", "unknown")}
             for p, r in zip((first, second), reports, strict=True)]  # fmt: skip
    return {"reports": heads, "figures": rows, "not_comparable": refused}


def _verdict(figure: dict[str, Any], other: dict[str, Any], difference: float | None) -> str:
    """better, worse, equal, or nothing where more is neither; and whether the 95 % intervals overlap."""
    if difference is None or not figure["better"]:
        return ""
    if round(difference, figure["digits"]) == 0:
        return "equal"
    verdict = "better" if (difference < 0) == (figure["better"] == "lower") else "worse"
    intervals = figure["interval_95"], other["interval_95"]
    overlap = all(intervals) and max(i[0] for i in intervals) <= min(i[1] for i in intervals)
    return verdict + (", intervals overlap" if overlap else "")


HEAD = ["checkpoint", "figure", "first", "second", "difference", "second is"]


def _cells(row: dict[str, Any]) -> list[str]:
    names = " / ".join(dict.fromkeys(row["checkpoints"]))
    first, second = (shown_value(row, which) for which in ("first", "second"))
    difference = "" if row["difference"] is None else f"{row['difference']:+.{row['digits']}f}"
    seeds = "" if row["seeds"][0] == row["seeds"][1] else f" (seeds {row['seeds'][0]} and {row['seeds'][1]})"
    name = " ".join(filter(None, (f"{row['group']}: {row['name']}", row["unit"])))
    return [names, name + seeds, first, second, difference, row["verdict"]]


def _refusals(found: dict[str, Any]) -> list[str]:
    return [f"{r['group']}: {r['name']}: {'; '.join(r['why'])}" for r in found["not_comparable"]]


def as_markdown(found: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    heads = "".join(
        f"- {which}: {r['file']}, {r['created']}, commit {r['commit']}\n"
        for which, r in zip(("first", "second"), found["reports"], strict=True)
    )
    refused = "".join(f"- {line}\n" for line in _refusals(found))
    return f"# Two reports\n\n{heads}\n{text_table(HEAD, [_cells(row) for row in found['figures']])}" + (
        f"## Not comparable\n\n{refused}" if refused else ""
    )


def as_html(found: dict[str, Any]) -> str:
    """The comparison as a page."""
    heads = "".join(
        f"<li>{which}: <code>{escape(r['file'])}</code>, {escape(r['created'])}, commit {escape(r['commit'])}</li>"
        for which, r in zip(("first", "second"), found["reports"], strict=True)
    )
    rows = [[escape(c) for c in _cells(row)] for row in found["figures"]]
    refused = "".join(f"<li>{escape(line)}</li>" for line in _refusals(found))
    body = f"<main><h1>Two reports</h1><ul>{heads}</ul>{table('Differences', HEAD, rows, frozenset({2, 3, 4}))}"
    body += f"<h2>Not comparable</h2><ul>{refused}</ul>" if refused else ""
    return document("Two reports", body + "</main>")


def as_text(found: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    rows = [HEAD, *(_cells(row) for row in found["figures"])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if n in (2, 3, 4) else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines + [f"not comparable: {line}" for line in _refusals(found)])
