"""Training curves and the learned graph as inline SVG, in the page's own colours."""

from html import escape
from typing import Any

from autolink.draw import FAINTEST, keypoint_colours

LEFT_OUT = frozenset({"learning_rate", "images_per_second"})
"""Scalars of a run that say nothing of the result."""

BASELINES = {
    "regression_error": "mean_pose_error",
    "moving_error": "copy_moving_error",
    "structure_error": "random_structure_error",
    "variety": "real_variety",
}
"""Curves that are drawn dashed beside another one."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 340, 190, 52, 12, 28

Curve = list[list[float]]


def charts(curves: dict[str, Curve]) -> list[str]:
    """One chart a scalar, its baseline with it."""
    dashed = {base for name, base in BASELINES.items() if name in curves}
    names = [name for name in curves if name not in LEFT_OUT | dashed]
    return [chart(name, curves[name], curves.get(BASELINES.get(name, ""), [])) for name in names]


def number(value: float) -> str:
    """Three significant digits, no exponent where it can be helped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def chart(name: str, curve: Curve, baseline: Curve) -> str:
    """A line over steps, with a dashed one beside it; axes are labelled at their ends."""
    values = [value for _, value in curve + baseline]
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    last_step = max(step for step, _ in curve + baseline) or 1

    def place(point: list[float]) -> str:
        x = LEFT + point[0] / last_step * (WIDTH - LEFT - 8)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    title = name.replace("_", " ")
    begun = f"from {number(curve[0][1])} to " if len(curve) > 1 else ""
    told = f"{title}: {begun}{number(curve[-1][1])} at step {number(curve[-1][0])}"
    if baseline:
        told += f"; dashed: {BASELINES[name].replace('_', ' ')} {number(baseline[-1][1])}"
    bottom = HEIGHT - BOTTOM
    lines = [f'<polyline class="curve" points="{" ".join(map(place, curve))}"/>']
    if len(curve) == 1:
        x, y = place(curve[0]).split(",")
        lines = [f'<circle class="dot" cx="{x}" cy="{y}" r="3"/>']
    if baseline:
        wide = baseline if len(baseline) > 1 else [[0, baseline[0][1]], [last_step, baseline[0][1]]]
        lines.append(f'<polyline class="curve dashed" points="{" ".join(map(place, wide))}"/>')
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">'
        f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - 8}"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{number(high)}</text>'
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{number(low)}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">0</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 8}" text-anchor="end">step {number(last_step)}</text>'
        f"{''.join(lines)}</svg><figcaption>{escape(told)}</figcaption></figure>"
    )


def graph(found: dict[str, Any]) -> str:
    """The graph at the mean positions of its keypoints, lines as wide as their weights."""
    positions = found["positions"]
    palette = keypoint_colours(len(positions))
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in palette.tolist()]
    tones = ["dark" if light else "light" for light in palette @ [0.299, 0.587, 0.114] > 110]
    low = [min(p[axis] for p in positions) - 0.2 for axis in (0, 1)]
    size = [max(p[axis] for p in positions) + 0.2 - low[axis] for axis in (0, 1)]
    scale = 320 / max(size)
    places = [[(p[axis] - low[axis]) * scale for axis in (0, 1)] for p in positions]
    edges = sorted((e for e in found["edges"] if e[2] >= FAINTEST), key=lambda e: e[2])
    lines = [
        f'<line x1="{places[i][0]:.1f}" y1="{places[i][1]:.1f}" x2="{places[j][0]:.1f}" y2="{places[j][1]:.1f}" '
        f'stroke-width="{1 + 6 * w:.1f}" opacity="{0.3 + 0.6 * w:.2f}"/>'
        for i, j, w in edges
    ]
    linked = {k for i, j, _ in edges for k in (i, j)}

    def disc(k: int, x: float, y: float) -> str:
        alone = "" if k in linked else f' style="stroke:{colours[k]}"'
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5" fill="{colours[k]}"{alone}/>'
        return (
            f'<g class="{"alone" if alone else "linked"}">{circle}'
            f'<text class="{tones[k]}" x="{x:.1f}" y="{y + 3.2:.1f}">{k}</text></g>'
        )

    discs = [disc(k, x, y) for k, (x, y) in enumerate(places)]
    told = f"Graph of {len(positions)} keypoints at their mean positions, {len(edges)} edges shown"
    return (
        f'<svg class="graph" viewBox="0 0 {size[0] * scale:.0f} {size[1] * scale:.0f}" role="img" '
        f'aria-label="{told}"><g class="edges">{"".join(lines)}</g>{"".join(discs)}</svg>'
    )


def chip(keypoint: int, count: int) -> str:
    """A small disc in a keypoint's colour."""
    red, green, blue = keypoint_colours(count)[keypoint].tolist()
    return f'<span class="chip" style="background:rgb({red},{green},{blue})"></span>'
