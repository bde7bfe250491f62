"""The main figures of several reports as one piece of Markdown, to stand in a README."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolink.errors import UserError
from autolink.eval.reporting.content import shown_spread, shown_value
from autolink.eval.reporting.text import table
from autolink.pretrained import write_text

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
    places = {group: _places(figures, group) for group in groups}
    shared = len(set(places.values())) == 1
    rows, how = [], []
    for group in groups:
        mine = [figure for figure in figures if figure["group"] == group]
        if len(groups) > 1:
            rows.append([f"*{group}*" + ("" if shared else f", on {places[group]}"), "", "", ""])
        rows += [_row(figure) for figure in mine]
        for protocol in dict.fromkeys(figure["protocol"] for figure in mine):
            names = dict.fromkeys(figure["name"] for figure in mine if figure["protocol"] == protocol)
            title = f"{group}: {'; '.join(names)}" if len(groups) > 1 else "; ".join(names)
            how.append(f"- *{title}*: {protocol}\n")
    told = {key: report["versions"].get(key) for key in ("commit", "torch")}
    made = [f"seed {report['seed']}", *(f"{key} {value[:12]}" for key, value in told.items() if value)]
    return (
        f"**{checkpoint['name']}**: {checkpoint['kind_name']}, {checkpoint['parameters'] / 1e6:.2f} M parameters, "
        f"weights {checkpoint['weights_sha256'][:12]}\n\n"
        + table(["figure", "value", "baseline", "measured by"], rows)
        + f"{f'On {next(iter(places.values()))}. ' if shared else ''}`{report['command']}`, {', '.join(made)}\n\n"
        + f"<details><summary>How each is measured</summary>\n\n{''.join(how)}\n</details>\n"
    )


def _places(figures: list[dict[str, Any]], group: str) -> str:
    """What the figures of a group were measured on."""
    return "; ".join(dict.fromkeys(f"{f['data']}, {f['samples']}" for f in figures if f["group"] == group))


def _row(figure: dict[str, Any]) -> list[str]:
    """Name, value with its spread, baseline, and the networks that measured."""
    baseline = f"{shown_value(figure, 'yardstick')} {figure['yardstick_name']}".strip()
    spread = shown_spread(figure)
    value = f"**{shown_value(figure)}**" + (f", {spread}" if spread else "")
    by = ", ".join(dict.fromkeys(who for who in (figure["features"], figure["judge"]) if who != "none"))
    return [" ".join(filter(None, (figure["name"], figure["unit"]))), value, baseline, by]
