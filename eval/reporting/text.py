"""A report as Markdown, pictures beside it."""

from itertools import groupby
from typing import Any

from autolink.eval.reporting.content import shown_spread, shown_value
from autolink.eval.reporting.page import published_value


def cell(text: str) -> str:
    """Text that may hold the table's own signs."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell(c) for c in line)} |\n" for line in lines) + "\n"


def markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    commit = report["versions"].get("commit", "unknown")
    parts = [f"# {report['title']}\n\n{report['created']}, commit {commit}, seed {report['seed']}\n\n"]
    if report["over_seeds"]:
        rows = [
            [
                ", ".join(r["runs"]), f"{r['group']}: {r['name']}", f"{r['mean']:.{r['digits']}f}",
                f"± {r['spread']:.{r['digits']}f}", ", ".join(map(str, r["seeds"])),
            ]
            for r in report["over_seeds"]
        ]  # fmt: skip
        parts.append("## Over seeds\n\n" + table(["runs", "figure", "mean", "standard deviation", "seeds"], rows))
    if report["published"]:
        rows = [
            [r["data"], r["method"], str(r["keypoints"] or "not known"), published_value(r)]
            for r in report["published"]
        ]
        parts.append("## Beside published figures\n\n" + table(["data", "method", "keypoints", "figure"], rows))
    parts += [checkpoint_text(checkpoint) for checkpoint in report["checkpoints"]]
    made = [[name, str(value)] for name, value in (report["options"] | report["versions"]).items()]
    return "".join(parts) + f"## How it was made\n\n```\n{report['command']}\n```\n\n" + table(["what", "value"], made)


def checkpoint_text(checkpoint: dict[str, Any]) -> str:
    """One checkpoint."""
    parts = [
        f"## {checkpoint['name']}\n\n{checkpoint['kind_name']}, {checkpoint['parameters'] / 1e6:.2f} M parameters, "
        f"weights {checkpoint['weights_sha256'][:12]}\n\n"
    ]
    parts += [f"- {note}\n" for note in checkpoint["notes"]] + ["\n"]
    for name, group in groupby(checkpoint["figures"], lambda f: f["group"]):
        rows = [
            [
                " ".join(filter(None, (f["name"], f["unit"]))), shown_value(f), shown_spread(f),
                " ".join(filter(None, (shown_value(f, "yardstick"), f["yardstick_name"]))), f["better"], f["data"],
                f["samples"], f["features"], f["judge"], str(f["seed"]),
            ]
            for f in group
        ]  # fmt: skip
        head = ["figure", "value", "spread", "yardstick", "better", "data", "samples", "features", "judge", "seed"]
        parts.append(f"### {name}\n\n" + table(head, rows))
    for protocol in dict.fromkeys(f["protocol"] for f in checkpoint["figures"]):
        names = [f["name"] for f in checkpoint["figures"] if f["protocol"] == protocol]
        parts.append(f"- *{'; '.join(dict.fromkeys(names))}*: {protocol}\n")
    parts.append("\n")
    for picture in checkpoint["pictures"]:
        parts.append(
            f"![{picture['alt']}]({picture['file']})\n\n{picture['title']}; rows: {', '.join(picture['rows'])}.\n\n"
        )
    if checkpoint["landmarks"]:
        rows = [
            [r["name"], f"{r['error']:.2f}", "" if r["mean_pose_error"] is None else f"{r['mean_pose_error']:.2f}"]
            for r in checkpoint["landmarks"]
        ]
        unit = checkpoint["landmarks"][0]["unit"]
        parts.append(f"### Error of each landmark, {unit}\n\n" + table(["landmark", "error", "mean pose"], rows))
    return "".join(parts)
