"""A report as one HTML file that needs nothing else, light and dark, narrow and wide."""

import base64
from collections.abc import Iterable
from html import escape
from itertools import groupby
from typing import Any

import imageio.v3 as imageio

from autolink.draw import Image
from autolink.eval.reporting import charts
from autolink.eval.reporting.content import shown_spread, shown_value
from autolink.eval.reporting.style import STYLE

MANY = 20
"""Longer tables of landmarks are folded away."""

CONDITIONS = ("data", "samples", "features", "judge", "seed")

Row = list[str]
"""Cells, HTML already."""


def document(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def table(caption: str, head: list[str], rows: Iterable[Row], numbers: frozenset[int] = frozenset()) -> str:
    """A table that scrolls by itself where it is too wide; columns of numbers are set right."""

    def cells(row: Row, tag: str) -> str:
        classes = ['class="number"' if n in numbers else "" for n in range(len(row))]
        return "".join(
            f"<{tag} {c}>".replace(" >", ">") + f"{cell}</{tag}>" for cell, c in zip(row, classes, strict=True)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{cells(head, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>\n"
    )


def html(report: dict[str, Any], pictures: dict[str, Image]) -> str:
    """The page of a report; its pictures by file name, embedded."""
    checkpoints = report["checkpoints"]
    links = "".join(f'<li><a href="#{_anchor(c["name"])}">{escape(c["name"])}</a></li>' for c in checkpoints)
    facts = [
        f"{report['created']}", f"commit {report['versions'].get('commit', 'unknown')}", f"seed {report['seed']}",
        f"measured in {report['seconds']:.0f} s",
    ]  # fmt: skip
    body = [
        f"<header><h1>{escape(report['title'])}</h1><p class='facts'>{escape(' · '.join(facts))}</p>"
        f"<nav aria-label='Parts'><ul>{links}<li><a href='#made'>how it was made</a></li></ul></nav></header><main>",
        cards(checkpoints), over_seeds(report["over_seeds"]), *(section(c, pictures) for c in checkpoints),
        published(report["published"]), made(report), "</main>",
    ]  # fmt: skip
    return document(report["title"], "\n".join(body))


def _anchor(name: str) -> str:
    return "c-" + "".join(c if c.isalnum() else "-" for c in name)


def cards(checkpoints: list[dict[str, Any]]) -> str:
    """The headline figures, large."""
    shown = []
    for checkpoint in checkpoints:
        for figure in checkpoint["figures"]:
            if not figure["headline"]:
                continue
            unit = f"<small> {escape(figure['unit'])}</small>" if figure["unit"] else ""
            beside = [shown_spread(figure)]
            if figure["yardstick"] is not None:
                beside.append(f"{figure['yardstick_name']}: {shown_value(figure, 'yardstick')}")
            shown.append(
                f"<li><p class='value'>{shown_value(figure)}{unit}</p><p>{escape(figure['name'])}"
                f"{_better(figure)}</p><p class='facts'>{escape(checkpoint['name'])}: {escape(figure['group'])}"
                f"{''.join(f'<br>{escape(text)}' for text in beside if text)}</p></li>"
            )
    return f"<ul class='cards'>{''.join(shown)}</ul>" if shown else ""


def _better(figure: dict[str, Any]) -> str:
    return f" <span class='better'>{figure['better']} is better</span>" if figure["better"] else ""


def section(checkpoint: dict[str, Any], pictures: dict[str, Image]) -> str:
    """Everything about one checkpoint."""
    training = checkpoint["training"]
    parts = [
        f"<section id='{_anchor(checkpoint['name'])}'><h2>{escape(checkpoint['name'])}</h2>"
        f"<p class='facts'>{escape(checkpoint['kind_name'])} · {checkpoint['parameters'] / 1e6:.2f} M parameters · "
        f"weights <code>{checkpoint['weights_sha256'][:12]}</code> · measured in {checkpoint['seconds']:.0f} s</p>",
        "".join(f"<p class='note'>{escape(note)}</p>" for note in checkpoint["notes"]),
        *(figure_table(name, list(group)) for name, group in groupby(checkpoint["figures"], lambda f: f["group"])),
        conditions(checkpoint["figures"]),
        *(sheet(picture, pictures[picture["file"]]) for picture in checkpoint["pictures"]),
        landmarks(checkpoint["landmarks"]),
        graph(checkpoint),
        curves(training),
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def figure_table(name: str, figures: list[dict[str, Any]]) -> str:
    """The figures of one group."""
    rows = [
        [
            escape(f["name"]) + (f" <small>{escape(f['unit'])}</small>" if f["unit"] else ""), shown_value(f),
            escape(shown_spread(f)), shown_value(f, "yardstick"),
            escape(f["yardstick_name"]).replace(" ", "&nbsp;"), escape(f["better"]),
        ]
        for f in figures
    ]  # fmt: skip
    head = ["figure", "value", "spread", "yardstick", "which is", "better"]
    yardsticks = {row[4] for row in rows if row[4]}
    if len(yardsticks) == 1:  # one heading says it
        head[3] = next(iter(yardsticks))
        rows = [[*row[:4], "", row[5]] for row in rows]
    kept = [n for n in range(len(head)) if any(row[n] for row in rows)]
    numbers = frozenset(place for place, n in enumerate(kept) if n in (1, 2, 3))
    return table(name, [head[n] for n in kept], [[row[n] for n in kept] for row in rows], numbers)


def conditions(figures: list[dict[str, Any]]) -> str:
    """How each figure was measured, folded away."""
    if not figures:
        return ""
    rows = [
        [escape(f"{f['group']}: {f['name']}"), *(escape(str(f[c])) for c in CONDITIONS),
         f"<div class='protocol'>{escape(f['protocol'])}</div>"]
        for f in figures
    ]  # fmt: skip
    head = ["figure", "data", "samples", "feature network", "judge", "seed", "protocol"]
    return f"<details><summary>How these figures were measured</summary>{table('Conditions', head, rows)}</details>"


def sheet(picture: dict[str, Any], image: Image) -> str:
    """A sheet of pictures with the names of its rows beside it."""
    encoded = base64.b64encode(imageio.imwrite("<bytes>", image, extension=".png")).decode()
    rows = "".join(f"<span>{escape(row)}</span>" for row in picture["rows"])
    return (
        f"<figure><figcaption>{escape(picture['title'])}</figcaption>"
        f"<div class='scroll' role='region' tabindex='0' aria-label='{escape(picture['title'])}'>"
        f"<div class='sheet' style='--width:{picture['width']}px'>"
        f"<div class='rows' style='grid-template-rows:repeat({len(picture['rows'])},1fr)'>{rows}</div>"
        f"<img alt='{escape(picture['alt'])}' width='{picture['width']}' height='{picture['height']}' "
        f"src='data:image/png;base64,{encoded}'></div></div></figure>"
    )


def landmarks(rows: list[dict[str, Any]]) -> str:
    """The error of each landmark as bars, the mean pose's as a thin line."""
    if not rows:
        return ""
    longest = max(max(row["error"], row["mean_pose_error"] or 0) for row in rows) or 1

    def bar(row: dict[str, Any]) -> str:
        width, line = row["error"] / longest * 100, row["mean_pose_error"]
        mark = f"<i style='left:{line / longest * 100:.1f}%'></i>" if line is not None else ""
        return f"<div class='bar' aria-hidden='true'><b style='width:{width:.1f}%'></b>{mark}</div>"

    shown = [
        [
            escape(r["name"]),
            f"{r['error']:.2f}",
            "" if r["mean_pose_error"] is None else f"{r['mean_pose_error']:.2f}",
            bar(r),
        ]
        for r in rows
    ]
    caption = f"Error of each landmark, {rows[0]['unit']}"
    whole = table(caption, ["landmark", "error", "mean pose", "bar: error, line: mean pose"], shown, frozenset({1, 2}))
    return (
        whole if len(rows) <= MANY else f"<details><summary>{escape(caption)} ({len(rows)})</summary>{whole}</details>"
    )


def graph(checkpoint: dict[str, Any]) -> str:
    """The learned graph, and what each keypoint has found."""
    if not checkpoint["graph"]:
        return ""
    count = len(checkpoint["keypoints"])
    rows = [
        [
            charts.chip(row["keypoint"], count) + str(row["keypoint"]), str(row["links"]),
            f"{row['strongest_link']:.2f}" if row["links"] else "",
            *([escape(row["name"]), f"{row['error']:.2f}", f"{row['mean_pose_error']:.2f}"] if "name" in row else []),
        ]
        for row in checkpoint["keypoints"]
    ]  # fmt: skip
    told = "name" in checkpoint["keypoints"][0]
    head = ["keypoint", "links", "strongest link"] + (["tells most about", "its error", "mean pose"] if told else [])
    caption = "Each keypoint by itself" + (f": {checkpoint['keypoints'][0]['unit']}" if told else "")
    return (
        f"<div class='beside'><figure><figcaption>Learned graph, keypoints at their mean positions</figcaption>"
        f"{charts.graph(checkpoint['graph'])}</figure>{table(caption, head, rows, frozenset({1, 2, 4, 5}))}</div>"
    )


def curves(training: dict[str, Any] | None) -> str:
    """Training curves and the configuration of the run."""
    if not training:
        return ""
    drawn = "".join(charts.charts(training["curves"]))
    config = {name: value for name, value in training["config"].items() if not isinstance(value, dict)}
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in config.items())
    commit = training["versions"].get("commit", "unknown")
    return (
        f"<h3>Training</h3><div class='charts'>{drawn}</div><details><summary>Configuration of the run, commit "
        f"{escape(commit)}</summary><dl>{listed}</dl></details>"
    )


def over_seeds(rows: list[dict[str, Any]]) -> str:
    """Mean and spread of runs that differ in their seed only."""
    if not rows:
        return ""
    shown = [
        [
            escape(", ".join(row["runs"])), escape(f"{row['group']}: {row['name']}"),
            f"{row['mean']:.{row['digits']}f}", f"± {row['spread']:.{row['digits']}f}",
            ", ".join(map(str, row["seeds"])),
        ]
        for row in rows
    ]  # fmt: skip
    head = ["runs", "figure", "mean", "standard deviation", "seeds"]
    whole = table("Mean and standard deviation over training seeds", head, shown, frozenset({2, 3}))
    return f"<section><h2>Over seeds</h2>{whole}</section>"


def published(rows: list[dict[str, Any]]) -> str:
    """Published figures beside ours."""
    if not rows:
        return (
            "<section><h2>Beside published figures</h2><p class='note'>None: nobody else has measured on these data. "
            "Published figures stand beside ours where a published set is measured by its own protocol, as with "
            "<code>--data celeba-wild --root FOLDER</code>.</p></section>"
        )
    shown = [
        [escape(r["data"]), escape(r["method"]), str(r["keypoints"] or "not known"), published_value(r)] for r in rows
    ]
    head = ["data and protocol", "method", "keypoints", "figure"]
    whole = table("By the protocol of each set", head, shown, frozenset({2, 3}))
    return f"<section><h2>Beside published figures</h2>{whole}</section>"


def published_value(row: dict[str, Any]) -> str:
    """A figure, or the range that a paper gives."""
    return f"{row['value']:.2f}" + (f" to {row['highest']:.2f}" if row["highest"] is not None else "")


def made(report: dict[str, Any]) -> str:
    """Command, options and versions."""
    listed = report["options"] | report["versions"]
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in listed.items())
    return (
        f"<section id='made'><h2>How it was made</h2><pre class='scroll'><code>{escape(report['command'])}</code></pre>"
        f"<dl>{pairs}</dl></section>"
    )
