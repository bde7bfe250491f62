"""Articulated figures drawn by the computer: endless pictures and clips with exact joints.

A figure is an identity (body and clothes), a pose (joint angles) and a scene (background, camera, light). The three
are independent, so the same identity can be drawn in anyone's pose: a ground truth that no photograph has.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Colour = tuple[int, int, int]

JOINTS = (
    "pelvis", "neck", "head",
    "left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist",
    "left hip", "left knee", "left ankle", "right hip", "right knee", "right ankle",
)  # fmt: skip
"""Names of the joints in order; left is the side of larger x."""

SUPERSAMPLING = 4
"""Figures are drawn this many times larger and averaged down: soft edges, and joints exact to a fraction of a pixel."""

POSE_RANGES = np.array(
    [(-0.3, 0.3), (-0.35, 0.35), (-0.10, 0.10), (-0.07, 0.07), (0.75, 1.0)]  # lean, head, root x and y, turn
    + 2 * [(0.3, 2.9), (-0.2, 1.6)]  # shoulder and elbow
    + 2 * [(-0.1, 0.8), (-0.1, 0.7)]  # hip and knee
)
"""Lowest and highest value of each pose parameter: (13, 2), angles in radians, root in image sides."""


@dataclass(frozen=True)
class Identity:
    """One person: body proportions in units of the torso scale, colours in RGB, cut of the clothes."""

    height: float
    arm: float
    leg: float
    shoulders: float
    hips: float
    girth: float
    head: float
    skin: Colour
    shirt: Colour
    stripe: Colour
    trousers: Colour
    hair: Colour
    shoes: Colour
    striped: bool
    sleeve: int
    """0 none, 1 to the elbow, 2 to the wrist."""
    leg_cut: int
    """0 shorts, 1 trousers, 2 skirt."""
    hair_style: int
    """0 short, 1 long, 2 bald, 3 cap."""


@dataclass(frozen=True)
class Scene:
    """Where a figure stands: background (h, w, 3), clutter, camera and light."""

    background: Array
    shapes: tuple[tuple[int, Array, Colour], ...]
    """Kind (0 rectangle, 1 disc, 2 bar), five numbers in [0, 1], colour."""
    zoom: float
    roll: float
    light: Array
    """Brightness added at the four corners in grey levels: (2, 2)."""
    contrast: float
    tint: Array
    """Factor per colour channel: (3,)."""


class Picture(NamedTuple):
    """A drawn figure."""

    image: NDArray[np.uint8]
    """(size, size, 3), RGB."""
    joints: Array
    """(15, 2), (x, y) in [-1, 1] with pixel centres at the ends, in the order of `JOINTS`."""


def _colour(rng: np.random.Generator, low: float, high: float) -> Colour:
    r, g, b = rng.uniform(low, high, 3).astype(int).tolist()
    return r, g, b


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a random person."""
    r, g, b = (np.array([224, 180, 150]) * rng.uniform(0.4, 1.08)).astype(int).tolist()
    return Identity(
        height=rng.uniform(0.19, 0.23), arm=rng.uniform(0.92, 1.1), leg=rng.uniform(0.9, 1.08),
        shoulders=rng.uniform(0.38, 0.48), hips=rng.uniform(0.22, 0.29), girth=rng.uniform(0.85, 1.2),
        head=rng.uniform(0.28, 0.35), skin=(r, g, b), shirt=_colour(rng, 20, 235), stripe=_colour(rng, 20, 235),
        trousers=_colour(rng, 20, 210), hair=_colour(rng, 10, 140), shoes=_colour(rng, 10, 110),
        striped=rng.random() < 0.25, sleeve=int(rng.integers(3)), leg_cut=int(rng.choice(3, p=[0.25, 0.6, 0.15])),
        hair_style=int(rng.choice(4, p=[0.45, 0.25, 0.1, 0.2])),
    )  # fmt: skip


def sample_pose(rng: np.random.Generator) -> Array:
    """Draw a random pose: (13,), parameters as in `POSE_RANGES`."""
    pose: Array = rng.uniform(POSE_RANGES[:, 0], POSE_RANGES[:, 1])
    return pose


def sample_motion(rng: np.random.Generator, frames: int, rate: float = 25.0) -> Array:
    """Draw a smooth motion: (frames, 13) poses, `rate` of them a second; every parameter sways within its range."""
    seconds = np.arange(frames)[:, None, None] / rate
    frequency = rng.uniform(0.15, 0.6, (1, len(POSE_RANGES), 2))
    phase = rng.uniform(0, 2 * np.pi, (1, len(POSE_RANGES), 2))
    share = np.array([0.7, 0.3])
    sway = (np.sin(2 * np.pi * frequency * seconds + phase) * share).sum(2) * 0.5 + 0.5
    poses: Array = POSE_RANGES[:, 0] + sway * (POSE_RANGES[:, 1] - POSE_RANGES[:, 0])
    return poses


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a random place, camera and light."""
    cells = int(rng.integers(3, 6))
    shapes = tuple((int(rng.integers(3)), rng.random(5), _colour(rng, 20, 235)) for _ in range(int(rng.integers(0, 3))))
    return Scene(
        background=rng.uniform(-1, 1, (cells, cells, 3)) * rng.uniform(5, 40) + rng.uniform(30, 225, 3),
        shapes=shapes, zoom=rng.uniform(0.93, 1.07), roll=rng.uniform(-0.08, 0.08),
        light=rng.uniform(-18, 18, (2, 2)), contrast=rng.uniform(0.85, 1.1), tint=rng.uniform(0.92, 1.08, 3),
    )  # fmt: skip


def skeleton(identity: Identity, pose: Array, scene: Scene) -> Array:
    """Where the joints are: (15, 2), (x, y) in image sides, [0, 1] inside the image."""
    lean, head, x, y, turn, *limbs = pose.tolist()
    s = identity.height

    def towards(angle: float) -> Array:
        return np.array([np.sin(angle), -np.cos(angle)])

    joints = np.zeros((15, 2))
    side = np.array([np.cos(lean), np.sin(lean)]) * turn
    joints[0] = 0.5 + x, 0.53 + y
    joints[1] = joints[0] + towards(lean) * s * 1.35
    joints[2] = joints[1] + towards(lean + head) * s * 0.55
    for n, sign in ((0, 1), (1, -1)):
        shoulder, elbow, hip, knee = limbs[2 * n], limbs[2 * n + 1], limbs[4 + 2 * n], limbs[5 + 2 * n]
        j = 3 + 3 * n
        joints[j] = joints[1] + sign * side * s * identity.shoulders - towards(lean) * s * 0.1
        angle = lean + sign * shoulder
        joints[j + 1] = joints[j] + towards(angle) * s * 0.7 * identity.arm
        joints[j + 2] = joints[j + 1] + towards(angle - sign * elbow) * s * 0.65 * identity.arm
        j = 9 + 3 * n
        joints[j] = joints[0] + sign * side * s * identity.hips
        angle = lean + np.pi - sign * hip
        joints[j + 1] = joints[j] + towards(angle) * s * 0.9 * identity.leg
        joints[j + 2] = joints[j + 1] + towards(angle + sign * knee) * s * 0.85 * identity.leg
    c, r = np.cos(scene.roll), np.sin(scene.roll)
    seen: Array = (joints - 0.5) @ np.array([[c, r], [-r, c]]) * scene.zoom + 0.5
    return seen


def render(identity: Identity, pose: Array, scene: Scene, size: int) -> Picture:
    """Draw a person in a pose and a scene at `size` pixels a side; the pose is (13,) as in `POSE_RANGES`."""
    N = size * SUPERSAMPLING
    relative = skeleton(identity, pose, scene)
    joints = relative * N - 0.5  # continuous image coordinates to pixel centres
    canvas = _background(scene, N)
    _draw_body(canvas, joints, identity, identity.height * scene.zoom * N)
    image: Array = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = cv2.resize(scene.light.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    image = ((image - 128) * scene.contrast + 128 + light[..., None]) * scene.tint
    normalised = (relative * size - 0.5) / (size - 1) * 2 - 1
    return Picture(image.clip(0, 255).astype(np.uint8), normalised.astype(np.float32))


def _background(scene: Scene, N: int) -> NDArray[np.uint8]:
    """The empty place, (N, N, 3)."""
    small = cv2.resize(scene.background.astype(np.float32), (N // 4, N // 4), interpolation=cv2.INTER_CUBIC)
    canvas: Array = cv2.resize(small.clip(0, 255).astype(np.uint8), (N, N), interpolation=cv2.INTER_LINEAR)
    for kind, where, colour in scene.shapes:
        x, y = (where[:2] * N).astype(int).tolist()
        w, h = ((0.04 + 0.16 * where[2:4]) * N).astype(int).tolist()
        if kind == 0:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, -1)
        elif kind == 1:
            cv2.circle(canvas, (x, y), w // 2, colour, -1)
        else:
            angle = where[4] * np.pi
            end = (int(x + 3 * w * np.cos(angle)), int(y + 3 * w * np.sin(angle)))
            cv2.line(canvas, (x, y), end, colour, max(1, h // 4))
    return canvas


def _draw_body(canvas: NDArray[np.uint8], joints: Array, person: Identity, s: float) -> None:
    """Draw a person with torso scale `s` pixels onto the canvas; `joints` (15, 2) in pixels."""
    points = [(int(x), int(y)) for x, y in np.rint(joints)]
    girth = person.girth

    def limb(a: int, b: int, width: float, colour: Colour) -> None:
        cv2.line(canvas, points[a], points[b], colour, max(1, int(width * girth * s)))

    def disc(centre: int, radius: float, colour: Colour) -> None:
        cv2.circle(canvas, points[centre], max(1, int(radius * s)), colour, -1)

    up = (joints[1] - joints[0]) / max(1e-6, float(np.linalg.norm(joints[1] - joints[0])))
    if person.hair_style == 1:
        _draw_long_hair(canvas, joints[2], up, person, person.head * s)
    lower = person.skin if person.leg_cut == 0 else person.trousers
    for hip, knee, ankle in ((9, 10, 11), (12, 13, 14)):
        bare = person.leg_cut == 2
        limb(hip, knee, 0.36, person.skin if bare else person.trousers)
        limb(knee, ankle, 0.28, person.skin if bare else lower)
        disc(ankle, 0.17, person.shoes)
    if person.leg_cut == 2:
        hem = [joints[9] * 0.45 + joints[10] * 0.55, joints[12] * 0.45 + joints[13] * 0.55]
        outward = (joints[9] - joints[12]) * 0.4
        corners = [joints[9], hem[0] + outward, hem[1] - outward, joints[12]]
        cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], person.trousers)
    cv2.fillPoly(canvas, [np.rint(joints[[3, 6, 12, 9]]).astype(np.int32)], person.shirt)
    limb(3, 6, 0.3, person.shirt)
    limb(9, 12, 0.34, person.trousers)
    limb(1, 0, 0.5, person.shirt)
    if person.striped:
        for share in (0.25, 0.5, 0.75):
            left, right = (joints[a] * (1 - share) + joints[b] * share for a, b in ((3, 9), (6, 12)))
            cv2.line(canvas, _point(left), _point(right), person.stripe, max(1, int(0.09 * s)))
    for shoulder, elbow, wrist in ((3, 4, 5), (6, 7, 8)):
        limb(shoulder, elbow, 0.26, person.shirt if person.sleeve > 0 else person.skin)
        limb(elbow, wrist, 0.2, person.shirt if person.sleeve > 1 else person.skin)
        disc(wrist, 0.13, person.skin)
    limb(1, 2, 0.2, person.skin)
    disc(2, person.head, person.skin)
    _draw_face(canvas, joints[2], up, person, person.head * s)


def _tilt(up: Array) -> float:
    """Of the head, in degrees."""
    return float(np.degrees(np.arctan2(up[0], -up[1])))


def _draw_long_hair(canvas: NDArray[np.uint8], head: Array, up: Array, person: Identity, radius: float) -> None:
    back = _point(head - up * radius * 0.4)
    cv2.ellipse(canvas, back, (int(radius * 1.1), int(radius * 1.5)), _tilt(up), 0, 360, person.hair, -1)


def _draw_face(canvas: NDArray[np.uint8], head: Array, up: Array, person: Identity, radius: float) -> None:
    """Eyes, and hair or cap above them; the head's centre and `radius` in pixels, `up` a unit vector."""
    across = np.array([-up[1], up[0]]) * radius * 0.4
    for eye in (head + across, head - across):
        cv2.circle(canvas, _point(eye), max(1, int(radius * 0.14)), (25, 20, 20), -1)
    if person.hair_style == 2:
        return
    cap = person.hair_style == 3
    crown = _point(head + up * radius * 0.25)
    cv2.ellipse(
        canvas, crown, (int(radius * 1.06), int(radius * (0.75 if cap else 0.95))), _tilt(up), 180, 360, person.hair, -1
    )
    if cap:
        cv2.ellipse(canvas, crown, (int(radius * 1.3), int(radius * 0.2)), _tilt(up), 0, 360, person.hair, -1)


def _point(xy: Array) -> tuple[int, int]:
    """(x, y) rounded to whole pixels, as OpenCV wants it."""
    return round(float(xy[0])), round(float(xy[1]))


def figure_images(count: int, seed: int, size: int) -> tuple[NDArray[np.uint8], Array]:
    """Draw `count` pictures, each of another person: (N, size, size, 3) RGB and joints (N, 15, 2) in [-1, 1]."""
    images = np.empty((count, size, size, 3), np.uint8)
    joints = np.empty((count, len(JOINTS), 2), np.float32)
    for n in range(count):
        rng = np.random.default_rng((seed, n))
        images[n], joints[n] = render(sample_identity(rng), sample_pose(rng), sample_scene(rng), size)
    return images, joints


def figure_clip(frames: int, seed: int, size: int, motion_seed: int | None = None) -> tuple[NDArray[np.uint8], Array]:
    """Draw a clip of one person: (frames, size, size, 3) RGB and joints (frames, 15, 2) in [-1, 1].

    `seed` fixes person and scene, `motion_seed` (by default the same) the motion: two clips with the same
    `motion_seed` show two people doing the same.
    """
    rng = np.random.default_rng((seed, 0))
    identity, scene = sample_identity(rng), sample_scene(rng)
    motion = sample_motion(np.random.default_rng((seed if motion_seed is None else motion_seed, 1)), frames)
    pictures = [render(identity, pose, scene, size) for pose in motion]
    return np.stack([p.image for p in pictures]), np.stack([p.joints for p in pictures])
