"""The main figures of several reports as one piece of Markdown, to stand in a README."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolink.errors import UserError
from autolink.pretrained import write_text
from eval.reporting.content import shown_spread, shown_value
from eval.reporting.text import table

BEGIN, END = "<!-- results -->", "<!-- /results -->"
"""The lines between which `put_into` writes."""


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """The headline figures of every checkpoint, each with baseline, data, sample count, networks, seed and command."""
    return "\n".join(_checkpoint(report, checkpoint) for report in reports for checkpoint in report["checkpoints"])


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the lines BEGIN and END of a Markdown file.

    Raises:
        UserError: the file cannot be read, or does not have each line once, in this order.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--into {path} cannot be read: {error}") from None
    before, begin, rest = old.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end or BEGIN in rest or END in before + after:
        raise UserError(f"--into {path} needs one line {BEGIN} and, below it, one line {END}; the table goes between")
    write_text(path, f"{before}{BEGIN}\n{text}{END}\n{after}")


def _checkpoint(report: dict[str, Any], checkpoint: dict[str, Any]) -> str:
    """One checkpoint's table, what made it, and how each of its figures is measured."""
    figures = [figure for figure in checkpoint["figures"] if figure["headline"]]
    groups = dict.fromkeys(figure["group"] for figure in figures)
    rows = []
    for figure in figures:
        name = f"{figure['group']}: {figure['name']}" if len(groups) > 1 else figure["name"]
        baseline = f"{shown_value(figure, 'yardstick')} {figure['yardstick_name']}".strip()
        spread = shown_spread(figure)
        value = f"**{shown_value(figure)}**" + (f", {spread}" if spread else "")
        by = ", ".join(dict.fromkeys(who for who in (figure["features"], figure["judge"]) if who != "none"))
        on = f"{figure['data']}, {figure['samples']}"
        rows.append([" ".join(filter(None, (name, figure["unit"]))), value, baseline, on, by])
    told = {key: report["versions"].get(key) for key in ("commit", "torch")}
    made = ", ".join([f"seed {report['seed']}", *(f"{key} {value[:12]}" for key, value in told.items() if value)])
    protocols = "".join(
        f"- *{'; '.join(dict.fromkeys(f['name'] for f in figures if f['protocol'] == protocol))}*: {protocol}\n"
        for protocol in dict.fromkeys(figure["protocol"] for figure in figures)
    )
    how = f"<details><summary>How each is measured</summary>\n\n{protocols}\n</details>\n"
    return (
        f"**{checkpoint['name']}**: {checkpoint['kind_name']}, {checkpoint['parameters'] / 1e6:.2f} M parameters, "
        f"weights {checkpoint['weights_sha256'][:12]}\n\n"
        + table(["figure", "value", "baseline", "measured on", "measured by"], rows)
        + f"`{report['command']}`, {made}\n\n{how}"
    )
