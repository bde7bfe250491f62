"""Keypoints and graph as pictures."""

import colorsys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Still

from autolink.edge_map import edge_pairs
from autolink.files import atomic_path
from autolink.video.synthetic import png_info

FAINTEST = 0.08
"""Edges below this share of the strongest are left out of overlays."""

Image = NDArray[np.uint8]


def keypoint_colours(count: int) -> NDArray[np.uint8]:
    """One RGB colour a keypoint, (K, 3): the same for the same index always, neighbours far apart on the wheel."""
    hues = [(0.02 + n * 0.618034) % 1 for n in range(count)]
    rgb = [colorsys.hsv_to_rgb(hue, 0.72 if n % 2 else 0.9, 1.0) for n, hue in enumerate(hues)]
    return (np.array(rgb).reshape(-1, 3) * 255).astype(np.uint8)


def draw_graph(image: Image, keypoints: NDArray[np.floating], weights: NDArray[np.floating]) -> Image:
    """Lay graph and keypoints over a picture.

    Args:
        image: (H, W, 3), RGB; not changed.
        keypoints: (K, 2), (x, y) in pixels.
        weights: (E,), edge weights in the order of `edge_pairs`; a line is as wide and as opaque as its weight.

    Returns:
        (H, W, 3), RGB.
    """
    unit = max(image.shape[:2]) / 128
    colours = keypoint_colours(len(keypoints))
    points = np.nan_to_num(keypoints).clip(-1e4, 1e4)
    strength = weights / max(float(weights.max()), 1e-12)
    canvas = image.copy()
    pairs = edge_pairs(len(keypoints)).T.tolist()
    for e in np.argsort(strength):
        if strength[e] < FAINTEST:
            continue
        i, j = pairs[e]
        line = canvas.copy()
        colour = tuple(int(c) for c in colours[i] * 0.5 + colours[j] * 0.5)
        _line(line, points[i], points[j], colour, unit * (0.5 + 2.0 * strength[e]))
        opacity = 0.35 + 0.6 * float(strength[e])
        cv2.addWeighted(line, opacity, canvas, 1 - opacity, 0, dst=canvas)
    linked = {k for e in np.flatnonzero(strength >= FAINTEST) for k in pairs[e]}
    for k, (point, colour) in enumerate(zip(points, colours, strict=True)):
        radius = 1.5 if k in linked else 0.6  # a keypoint without a bone says little: a dot
        _disc(canvas, point, (radius + 0.4) * unit, (20, 20, 20))
        _disc(canvas, point, radius * unit, tuple(int(c) for c in colour))
    return canvas


def _fixed(values: NDArray[np.floating]) -> tuple[int, int]:
    """To OpenCV's fixed-point coordinates with four fractional bits."""
    x, y = np.rint(values * 16).astype(int).tolist()
    return x, y


def _line(
    canvas: Image, a: NDArray[np.floating], b: NDArray[np.floating], colour: tuple[int, ...], width: float
) -> None:
    cv2.line(canvas, _fixed(a), _fixed(b), colour, max(1, round(width)), cv2.LINE_AA, shift=4)


def _disc(canvas: Image, centre: NDArray[np.floating], radius: float, colour: tuple[int, ...]) -> None:
    cv2.circle(canvas, _fixed(centre), max(16, round(radius * 16)), colour, -1, cv2.LINE_AA, shift=4)


def to_image(values: NDArray[np.floating]) -> Image:
    """(H, W, 3) in [-1, 1] to 8 bits."""
    return ((values.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def enlarged(image: Image, factor: int) -> Image:
    """Every pixel as a square, so that small pictures can be judged."""
    return image.repeat(factor, 0).repeat(factor, 1)


def edge_map_image(edges: NDArray[np.floating]) -> Image:
    """(H, W), not negative -> (H, W, 3), the strongest white."""
    grey = (edges / max(float(edges.max()), 1e-12) * 255).round().astype(np.uint8)
    return grey[..., None].repeat(3, 2)


def write_picture(path: Path, image: Image, metadata: Mapping[str, str] | None = None) -> None:
    """Write a PNG so that it is either there whole or not at all; `metadata` as `synthetic.tags` makes it."""
    with atomic_path(path) as beside:
        Still.fromarray(image).save(beside, format="PNG", pnginfo=png_info(metadata) if metadata else None)


def grid(rows: list[list[Image]], gap: int = 2) -> Image:
    """Pictures of one size side by side, white between them."""

    def padded(image: Image) -> Image:
        return np.pad(image, ((0, gap), (0, gap), (0, 0)), constant_values=255)

    return np.concatenate([np.concatenate([padded(image) for image in row], 1) for row in rows], 0)
