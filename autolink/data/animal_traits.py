"""What a rendered animal is made of: a species and an identity, a pose of the head, a place; each drawn at random.

They are independent, so that a generator can be asked for one animal in another's pose.
"""

from dataclasses import dataclass

import numpy as np

from autolink.data.figures import Array, Colour

SPECIES = ("cat", "dog")

COATS = (
    (222, 142, 62), (148, 146, 148), (52, 48, 50), (240, 234, 224), (122, 82, 54), (226, 196, 152), (176, 112, 70),
    (92, 98, 112),
)  # fmt: skip
"""Ginger, grey, black, white, brown, cream, fawn, blue."""

EYES = {
    "cat": ((196, 178, 60), (126, 170, 78), (104, 160, 196), (212, 140, 52)),
    "dog": ((92, 58, 34), (62, 42, 30), (120, 84, 44), (122, 158, 186)),
}


@dataclass(frozen=True)
class Animal:
    """One animal; colours in RGB, lengths in head radii."""

    species: str
    coat: Colour
    second: Colour
    """Of patches, points and stripes."""
    pale: Colour
    """Of muzzle, blaze and chest."""
    eye: Colour
    nose: Colour
    width: float
    """Of the head, in parts of its height."""
    ear: float
    eye_size: float
    eye_gap: float
    muzzle: float
    fluff: float
    """How ragged the outline is."""
    tufts: Array
    """(48,), the raggedness."""
    marking: int
    """0 plain, 1 tabby stripes, 2 a patch over one eye, 3 dark ears and muzzle, 4 two halves."""
    blaze: bool
    pale_muzzle: bool
    side: int
    """1 or -1: where the patch is."""


@dataclass(frozen=True)
class HeadPose:
    """How an animal holds its head; angles in radians, place and scale in picture sides."""

    x: float
    y: float
    scale: float
    turn: float
    nod: float
    roll: float
    ears: tuple[float, float]
    """Left and right, 0 at rest."""
    mouth: float
    """0 closed to 1 open."""
    lids: float
    """0 closed to 1 open."""
    gaze: tuple[float, float]


@dataclass(frozen=True)
class Place:
    """Background and light."""

    background: Array
    """(h, w, 3), coarse colours."""
    blobs: tuple[tuple[float, float, float, Colour], ...]
    """Discs out of focus: x, y, radius in picture sides, colour."""
    light: Array
    """(2, 2), grey levels added at the corners."""
    tint: Array
    """(3,), factor a channel."""


def sample_animal(rng: np.random.Generator, species: str) -> Animal:
    """Draw a random animal of a species."""
    first, second = rng.permutation(len(COATS))[:2]
    coat = _varied(rng, COATS[first])
    marking = int(rng.choice(5, p=[0.25, 0.35, 0.15, 0.15, 0.1] if species == "cat" else [0.35, 0.05, 0.3, 0.2, 0.1]))
    dark = mixed(coat, (24, 20, 20), 0.55)
    noses: tuple[Colour, ...] = ((218, 138, 132), (60, 44, 44)) if species == "cat" else ((36, 30, 32), (74, 50, 44))
    return Animal(
        species=species, coat=coat, second=_varied(rng, COATS[second]) if marking in (2, 4) else dark,
        pale=mixed(coat, (250, 246, 238), rng.uniform(0.55, 0.95)), eye=_varied(rng, EYES[species][rng.integers(4)]),
        nose=noses[int(rng.random() < 0.4)], width=rng.uniform(1.0, 1.18) * (1.0 if species == "cat" else 0.9),
        ear=rng.uniform(0.8, 1.15), eye_size=rng.uniform(0.85, 1.15), eye_gap=rng.uniform(0.92, 1.08),
        muzzle=rng.uniform(0.85, 1.2), fluff=rng.uniform(0.01, 0.07), tufts=rng.uniform(-1, 1, 48), marking=marking,
        blaze=rng.random() < 0.3, pale_muzzle=rng.random() < 0.75, side=int(rng.choice([-1, 1])),
    )  # fmt: skip


def sample_head_pose(rng: np.random.Generator) -> HeadPose:
    """Draw a random pose."""
    left, right = rng.uniform(-0.3, 0.3) + rng.uniform(-0.15, 0.15, 2)
    gaze_x, gaze_y = rng.uniform(-1, 1, 2)
    return HeadPose(
        x=rng.uniform(0.42, 0.58), y=rng.uniform(0.5, 0.6), scale=rng.uniform(0.23, 0.31), turn=rng.uniform(-0.6, 0.6),
        nod=rng.uniform(-0.25, 0.3), roll=rng.uniform(-0.35, 0.35), ears=(float(left), float(right)),
        mouth=float(rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[0.6, 0.4])), lids=rng.uniform(0.55, 1.0),
        gaze=(float(gaze_x), float(gaze_y)),
    )  # fmt: skip


def sample_place(rng: np.random.Generator) -> Place:
    """Draw a random background and light."""
    base = rng.uniform(40, 215, 3)
    blobs = tuple(
        (*rng.uniform(-0.1, 1.1, 2).tolist(), float(rng.uniform(0.05, 0.25)), _varied(rng, tuple(base.astype(int)), 30))
        for _ in range(int(rng.integers(0, 5)))
    )
    return Place(
        rng.uniform(-1, 1, (3, 3, 3)) * rng.uniform(8, 35) + base, blobs, rng.uniform(-22, 22, (2, 2)),
        rng.uniform(0.93, 1.07, 3),
    )  # fmt: skip


def _varied(rng: np.random.Generator, colour: Colour, spread: float = 14) -> Colour:
    r, g, b = (np.array(colour) + rng.normal(0, spread) + rng.normal(0, 5, 3)).clip(12, 250).astype(int).tolist()
    return r, g, b


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """A colour between two: the first where `share` is 0, the second where it is 1."""
    r, g, c = (round(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return r, g, c
