"""Animal faces drawn by the computer: cats with pointed ears and dogs with hanging ones, endless and seeded."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.data.animal_traits import (
    SPECIES,
    Animal,
    HeadPose,
    Place,
    mixed,
    sample_animal,
    sample_head_pose,
    sample_place,
)
from autolink.data.figures import SUPERSAMPLING, Array, Colour

LANDMARKS = (
    "left ear base", "left ear tip", "right ear base", "right ear tip", "left eye", "right eye", "nose", "mouth",
    "chin",
)  # fmt: skip
"""Names of the landmarks in order; left is the side of larger x."""


class Face(NamedTuple):
    """A drawn animal."""

    image: NDArray[np.uint8]
    """(size, size, 3), RGB."""
    landmarks: Array
    """(9, 2), (x, y) in [-1, 1] with pixel centres at the ends, in the order of `LANDMARKS`."""


class _Pen:
    """Draws in head coordinates: x to the right, y down, z to the viewer, the head a unit ball at the origin."""

    def __init__(self, canvas: NDArray[np.uint8], pose: HeadPose) -> None:
        self.canvas, self.scale = canvas, pose.scale * len(canvas)
        self.centre = np.array([pose.x, pose.y]) * len(canvas) - 0.5
        (ct, st), (cn, sn), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (pose.turn, pose.nod, pose.roll))
        turn = np.array([[ct, 0, st], [0, 1, 0], [-st, 0, ct]])
        nod = np.array([[1, 0, 0], [0, cn, sn], [0, -sn, cn]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.matrix = roll @ nod @ turn
        self.roll, self.narrow = float(np.degrees(pose.roll)), float(ct)

    def at(self, points: Array) -> Array:
        """(..., 3) in head coordinates -> (..., 2) in pixels."""
        pixels: Array = np.asarray(points) @ self.matrix.T[:, :2] * self.scale + self.centre
        return pixels

    def fill(self, points: Array, colour: Colour) -> None:
        """A polygon of (n, 3)."""
        cv2.fillPoly(self.canvas, [np.rint(self.at(points) * 16).astype(np.int32)], colour, cv2.LINE_8, 4)

    def disc(self, centre: Array, radius: tuple[float, float], colour: Colour, angle: float = 0.0) -> None:
        """An ellipse of two radii around a point, foreshortened as the head turns."""
        x, y = np.rint(self.at(centre)).astype(int).tolist()
        axes = tuple(max(1, round(r * self.scale)) for r in (radius[0] * (0.35 + 0.65 * self.narrow), radius[1]))
        cv2.ellipse(self.canvas, (x, y), axes, self.roll + angle, 0, 360, colour, -1)

    def line(self, points: Array, width: float, colour: Colour) -> None:
        """Through (n, 3)."""
        pixels = np.rint(self.at(points)).astype(np.int32)
        cv2.polylines(self.canvas, [pixels], False, colour, max(1, round(width * self.scale)), cv2.LINE_8)


def _sided(x: float, y: float, z: float, side: int) -> Array:
    return np.array([x * side, y, z])


def _beside(point: Array, x: float, y: float, z: float) -> Array:
    moved: Array = point + np.array([x, y, z])
    return moved


def _ear(animal: Animal, pose: HeadPose, side: int) -> Array:
    """The outline of an ear, (n, 3); its base is the first point and its tip the middle one."""
    lean = pose.ears[0 if side > 0 else 1]
    if animal.species == "cat":
        base, outer = np.array([0.22, -0.86, 0.1]), np.array([0.93, -0.36, 0.0])
        height, c, s = 0.86 * animal.ear, np.cos(lean), np.sin(lean)
        up = np.array([0.42 * c + 0.9 * s, -0.9 * c + 0.42 * s, -0.05])
        tip = (base + outer) / 2 + up * height
        middle = [_beside((base + tip) / 2, -0.05, -0.04, 0), _beside((tip + outer) / 2, 0.08, -0.02, 0)]
        outline = np.array([base, middle[0], tip, middle[1], outer])
    else:
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        length, c, s = 0.62 * animal.ear, np.cos(lean * 1.4 + 0.25), np.sin(lean * 1.4 + 0.25)
        along, across = -np.cos(angle) * length + length * 0.86, np.sin(angle) * 0.3 * (1.15 - 0.3 * np.cos(angle))
        outline = np.stack([0.72 + along * s + across * c, -0.72 + along * c - across * s, 0.15 + 0 * angle], 1)
    return outline * [animal.width * side, 1, 1]


def _head(animal: Animal) -> Array:
    """The outline of the head, (48, 3), ragged with fur and wider at a cat's cheeks."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cheek = np.exp(-(((np.sin(angle) - 0.35) / 0.35) ** 2))
    wide = 0.13 * cheek if animal.species == "cat" else -0.1 * np.exp(-(((np.sin(angle) - 0.7) / 0.4) ** 2))
    radius = 1 + wide + animal.fluff * animal.tufts
    return np.stack([np.cos(angle) * radius * animal.width, np.sin(angle) * radius * 0.95, 0 * angle], 1)


def _eyes(animal: Animal, side: int) -> Array:
    return _sided(0.4 * animal.eye_gap * animal.width, -0.08 if animal.species == "cat" else -0.2, 0.86, side)


def _nose(animal: Animal) -> Array:
    return np.array([0, 0.24, 1.02 if animal.species == "cat" else 1.0 + 0.32 * animal.muzzle])


def landmarks(animal: Animal, pose: HeadPose, size: int) -> Array:
    """Where the landmarks are: (9, 2), (x, y) in [-1, 1], in the order of `LANDMARKS`."""
    ears = [_ear(animal, pose, side) for side in (1, -1)]
    nose = _nose(animal)
    drop = 0.2 if animal.species == "cat" else 0.3
    points = [p for ear in ears for p in (ear[0], ear[len(ear) // 2])]
    points += [_eyes(animal, 1), _eyes(animal, -1), nose, _beside(nose, 0, drop, -0.05), np.array([0, 0.92, 0.4])]
    pixels = _Pen(np.empty((size, size, 3), np.uint8), pose).at(np.array(points))
    return (pixels / (size - 1) * 2 - 1).astype(np.float32)


def render_animal(animal: Animal, pose: HeadPose, place: Place, size: int) -> Face:
    """Draw an animal at `size` pixels a side."""
    N = size * SUPERSAMPLING
    canvas = _background(place, N)
    pen = _Pen(canvas, pose)
    _draw_chest(pen, animal)
    if animal.species == "cat":
        _draw_ears(pen, animal, pose)
    pen.fill(_head(animal), animal.coat)
    _draw_markings(pen, animal)
    if animal.species == "dog":
        _draw_ears(pen, animal, pose)
    _draw_muzzle(pen, animal, pose)
    for side in (1, -1):
        _draw_eye(pen, animal, pose, side)
    image: Array = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    image += _shade(pose, size)[..., None]
    light = cv2.resize(place.light.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    image = (image + light[..., None]) * place.tint
    return Face(image.clip(0, 255).astype(np.uint8), landmarks(animal, pose, size))


def _background(place: Place, N: int) -> NDArray[np.uint8]:
    """Soft colours with discs out of focus, (N, N, 3)."""
    small: Array = cv2.resize(place.background.astype(np.float32), (32, 32), interpolation=cv2.INTER_CUBIC)
    small = small.clip(0, 255).astype(np.uint8)
    for x, y, radius, colour in place.blobs:
        cv2.circle(small, (round(x * 32), round(y * 32)), max(1, round(radius * 32)), colour, -1)
    small = cv2.GaussianBlur(small, (0, 0), 1.2)
    return np.asarray(cv2.resize(small, (N, N), interpolation=cv2.INTER_LINEAR), np.uint8)


def _shade(pose: HeadPose, size: int) -> Array:
    """Light on the round head from above, (size, size) grey levels."""
    axis = np.arange(size, dtype=np.float32) / size
    x, y = (axis[None] - pose.x) / pose.scale, (axis[:, None] - pose.y) / pose.scale
    light: Array = 26 * np.exp(-((x + 0.35) ** 2) - (y + 0.55) ** 2) - 24 * np.exp(
        -(x**2) / 0.9 - (y - 1.15) ** 2 / 0.12
    )
    return light.astype(np.float32)


def _draw_chest(pen: _Pen, animal: Animal) -> None:
    x, y = pen.centre
    s = pen.scale
    body = mixed(animal.coat, (0, 0, 0), 0.12)
    for width, height, colour in ((1.15, 1.7, body), (0.55, 1.35, mixed(animal.pale, (0, 0, 0), 0.1))):
        if colour is not body and not animal.pale_muzzle:
            continue
        centre = (round(x), round(y + 2.1 * s))
        cv2.ellipse(pen.canvas, centre, (round(width * s), round(height * s)), 0, 0, 360, colour, -1)


def _draw_ears(pen: _Pen, animal: Animal, pose: HeadPose) -> None:
    cat = animal.species == "cat"
    colour = animal.second if animal.marking == 3 else mixed(animal.coat, (0, 0, 0), 0.06 if cat else 0.22)
    for side in (1, -1):
        ear = _ear(animal, pose, side)
        own = animal.second if animal.marking == 4 and side == animal.side else colour
        pen.fill(ear, own)
        if cat:
            inner = ear.mean(0) + (ear - ear.mean(0)) * 0.58
            pen.fill(inner, mixed(own, (232, 168, 158), 0.6))


def _draw_markings(pen: _Pen, animal: Animal) -> None:
    if animal.marking == 4:
        head = _head(animal)
        head[:, 0] = np.where(head[:, 0] * animal.side < 0, 0, head[:, 0])
        head[:, 2] = np.where(head[:, 0] == 0, 0.55, 0)
        pen.fill(head, animal.second)
    if animal.marking == 1:
        for x in (-0.26, 0.0, 0.26):
            pen.line(np.array([[x * 0.7, -0.38, 0.9], [x, -0.62, 0.74], [x * 1.3, -0.86, 0.4]]), 0.1, animal.second)
        for side in (1, -1):
            for y in (0.2, 0.45):
                start, end = _sided(0.72, y, 0.62, side), _sided(1.12 * animal.width, y + 0.1, 0.1, side)
                pen.line(np.array([start, end]), 0.08, animal.second)
    if animal.marking == 2:
        pen.disc(_beside(_eyes(animal, animal.side), 0.06 * animal.side, 0, 0), (0.4, 0.46), animal.second)
    if animal.blaze:
        outline = [[-0.12, 0.3, 1], [-0.09, -0.4, 0.9], [0, -0.9, 0.4], [0.09, -0.4, 0.9], [0.12, 0.3, 1]]
        pen.fill(np.array(outline), animal.pale)


def _draw_muzzle(pen: _Pen, animal: Animal, pose: HeadPose) -> None:
    cat = animal.species == "cat"
    nose = _nose(animal)
    pads = animal.pale if animal.pale_muzzle else mixed(animal.coat, (255, 255, 255), 0.15)
    pads = animal.second if animal.marking == 3 else pads
    m, drop = animal.muzzle, 0.2 if cat else 0.3
    mouth = _beside(nose, 0, drop, -0.05)
    inside = (96, 36, 44)
    if pose.mouth:
        jaw = _beside(mouth, 0, 0.12 + 0.22 * pose.mouth, -0.2)
        pen.disc(jaw, (0.26 * m, 0.2 + 0.12 * pose.mouth), pads)
        pen.disc(_beside(mouth, 0, 0.05 + 0.14 * pose.mouth, -0.12), (0.18 * m, 0.1 + 0.14 * pose.mouth), inside)
        if not cat or pose.mouth > 0.6:
            pen.disc(
                _beside(mouth, 0, 0.1 + 0.2 * pose.mouth, -0.05), (0.12 * m, 0.08 + 0.16 * pose.mouth), (226, 118, 128)
            )
    if not cat:
        pen.disc((_beside(nose, 0, 0.02, -0.25)) * [1, 1, 0.8], (0.4 * m, 0.36), pads)
    for side in (1, -1):
        pen.disc(_beside(mouth, 0.17 * m * side, -0.03, -0.02), (0.22 * m, 0.17 if cat else 0.21), pads)
    line = mixed(pads, (30, 20, 20), 0.7)
    pen.line(np.array([nose, mouth]), 0.045, line)
    for side in (1, -1):
        pen.line(
            np.array([mouth, _beside(mouth, 0.12 * side, 0.07, -0.02), _beside(mouth, 0.24 * side, 0.03, -0.1)]),
            0.045,
            line,
        )
    if cat:
        pen.fill(nose + np.array([[-0.12, -0.06, 0], [0.12, -0.06, 0], [0, 0.09, 0]]), animal.nose)
        for side in (1, -1):
            for n in (-1, 0, 1):
                start, end = (
                    _beside(mouth, 0.2 * side, -0.04 + 0.05 * n, 0),
                    _beside(mouth, 0.95 * side, -0.08 + 0.16 * n, -0.25),
                )
                pen.line(np.array([start, end]), 0.02, mixed(animal.pale, (255, 255, 255), 0.5))
    else:
        pen.disc(nose, (0.17 * m, 0.125), animal.nose)
        pen.disc(_beside(nose, -0.05, -0.05, 0.05), (0.05, 0.03), mixed(animal.nose, (255, 255, 255), 0.5))


def _draw_eye(pen: _Pen, animal: Animal, pose: HeadPose, side: int) -> None:
    centre = _eyes(animal, side)
    cat = animal.species == "cat"
    size = (0.2 if cat else 0.155) * animal.eye_size
    height = size * (0.35 + 0.6 * pose.lids)
    tilt = -14.0 * side if cat else 0.0
    look = np.array([pose.gaze[0] * 0.04, pose.gaze[1] * 0.025, 0])
    pen.disc(centre, (size * 1.22, height * 1.25), mixed(animal.coat, (16, 12, 12), 0.75), tilt)
    pen.disc(centre, (size, height), animal.eye, tilt)
    pen.disc(centre + look, (size * (0.4 if cat else 0.62), height * 0.85), (14, 12, 14), tilt)
    pen.disc(centre + _beside(look, -0.05, -0.06, 0), (size * 0.24, size * 0.24), (250, 250, 250))


def animal_images(count: int, seed: int, size: int) -> tuple[NDArray[np.uint8], Array]:
    """Draw `count` animals, cats and dogs in turn: (N, size, size, 3) RGB and landmarks (N, 9, 2) in [-1, 1]."""
    images = np.empty((count, size, size, 3), np.uint8)
    points = np.empty((count, len(LANDMARKS), 2), np.float32)
    for n in range(count):
        rng = np.random.default_rng((seed, n))
        animal = sample_animal(rng, SPECIES[n % len(SPECIES)])
        images[n], points[n] = render_animal(animal, sample_head_pose(rng), sample_place(rng), size)
    return images, points
