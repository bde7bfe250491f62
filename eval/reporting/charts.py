"""Where the lines and dots of training curves and of the learned graph lie; the page's template draws them."""

from typing import NamedTuple

from autolink.draw import FAINTEST, keypoint_colours
from autolink.eval.reporting.content import Curve
from autolink.eval.results import Graph

LEFT_OUT = frozenset({"learning_rate", "images_per_second"})
"""Scalars of a run that say nothing of the result."""

BASELINES = {
    "regression_error": "mean_pose_error",
    "moving_error": "copy_moving_error",
    "structure_error": "random_structure_error",
    "variety": "real_variety",
}
"""Curves that are drawn dashed beside another one."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 190, 52, 332, 12, 162
"""Size of a chart, and the edges of its axes, in SVG units."""

GRAPH_SIDE, GRAPH_MARGIN = 320, 0.2
"""Longer side of the graph in SVG units, and the margin in units of the [-1, 1] image plane."""


class Chart(NamedTuple):
    """One scalar over steps."""

    told: str
    """What the curve shows, in words."""
    low: str
    high: str
    last_step: str
    curve: str
    """Points of a polyline, or of a single dot, `x,y x,y`."""
    baseline: str
    """The same of a dashed line; empty without one."""


class Disc(NamedTuple):
    """A keypoint of the drawn graph."""

    x: float
    y: float
    colour: str
    dark_text: bool
    links: int
    """How many edges meet in it."""
    strongest: float
    """The largest weight among them."""


class Line(NamedTuple):
    """An edge of the drawn graph, its weight over the largest one."""

    x1: float
    y1: float
    x2: float
    y2: float
    weight: float


class Drawing(NamedTuple):
    """A learned graph at the mean positions of its keypoints."""

    width: float
    height: float
    lines: list[Line]
    discs: list[Disc]


def charts(curves: dict[str, Curve]) -> list[Chart]:
    """One chart a scalar, its baseline with it."""
    dashed = {base for name, base in BASELINES.items() if name in curves}
    names = [name for name in curves if name not in LEFT_OUT | dashed]
    return [chart(name, curves[name], curves.get(BASELINES.get(name, ""), ())) for name in names]


def number(value: float) -> str:
    """Three significant digits, no exponent where it can be helped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def chart(name: str, curve: Curve, baseline: Curve) -> Chart:
    """A curve, and one to be drawn dashed beside it."""
    values = [value for _, value in curve + baseline]
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    last_step = max(step for step, _ in curve + baseline) or 1

    def places(points: Curve) -> str:
        xs = (LEFT + step / last_step * (RIGHT - LEFT) for step, _ in points)
        ys = (TOP + (high - value) / (high - low) * (BOTTOM - TOP) for _, value in points)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))

    begun = f"from {number(curve[0][1])} to " if len(curve) > 1 else ""
    told = f"{name.replace('_', ' ')}: {begun}{number(curve[-1][1])} at step {number(curve[-1][0])}"
    if baseline:
        told += f"; dashed: {BASELINES[name].replace('_', ' ')} {number(baseline[-1][1])}"
    if len(baseline) == 1:
        baseline = ((0, baseline[0][1]), (last_step, baseline[0][1]))
    return Chart(told, number(low), number(high), number(last_step), places(curve), places(baseline))


def drawing(graph: Graph) -> Drawing:
    """The graph's keypoints in their colours, edges fainter than in overlays left out."""
    palette = keypoint_colours(len(graph.positions))
    low = [min(p[axis] for p in graph.positions) - GRAPH_MARGIN for axis in (0, 1)]
    size = [max(p[axis] for p in graph.positions) + GRAPH_MARGIN - low[axis] for axis in (0, 1)]
    scale = GRAPH_SIDE / max(size)
    places = [((p[0] - low[0]) * scale, (p[1] - low[1]) * scale) for p in graph.positions]
    edges = sorted((e for e in graph.edges if e[2] >= FAINTEST), key=lambda e: e[2])
    discs = []
    for k, ((x, y), colour) in enumerate(zip(places, palette, strict=True)):
        weights = [w for i, j, w in edges if k in (i, j)]
        light = bool(colour @ [0.299, 0.587, 0.114] > 110)
        hexadecimal = "#{:02x}{:02x}{:02x}".format(*colour.tolist())
        discs.append(Disc(x, y, hexadecimal, light, len(weights), max(weights, default=0.0)))
    lines = [Line(*places[i], *places[j], w) for i, j, w in edges]
    return Drawing(size[0] * scale, size[1] * scale, lines, discs)
