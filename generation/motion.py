"""One pose moved as another track moves: relative, retargeted, from the best frame, in each shot by itself.

Tracks are (T, K, 2), poses (K, 2), both (x, y) in units as long across as down, as in `autolink.video.motion`.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.video.motion import edge_matrix, radius

FLAT = 1e-3
"""A pose whose hull has less than this share of its squared radius as area is a line: the hull says no size."""


def maximum_spanning_tree(weights: NDArray[np.floating], keypoints: int) -> NDArray[np.int64]:
    """The bones that link all keypoints with the greatest total weight (Prim): (K - 1, 2), (parent, child).

    The root is the keypoint whose edges sum to the most; a parent comes before its children.
    """
    matrix = edge_matrix(weights, keypoints)
    root = int(matrix.sum(1).argmax())
    strongest = matrix[root].copy()  # of each keypoint's links to the tree so far
    parent = np.full(keypoints, root)
    outside = np.arange(keypoints) != root
    bones = []
    while outside.any():
        child = int(np.where(outside, strongest, -np.inf).argmax())
        bones.append((parent[child], child))
        outside[child] = False
        closer = matrix[child] > strongest
        strongest[closer], parent[closer] = matrix[child][closer], child
    return np.array(bones, dtype=np.int64).reshape(-1, 2)


def size_ratio(source: NDArray[np.floating], driver: NDArray[np.floating]) -> float:
    """How many times larger one pose (K, 2) is than another: by the hulls' areas, or the radii where a hull is flat."""
    areas, radii = [_hull_area(source), _hull_area(driver)], [float(radius(source)), float(radius(driver))]
    if min(radii) == 0:
        return 1.0
    if any(area < FLAT * r * r for area, r in zip(areas, radii, strict=True)):
        return radii[0] / radii[1]
    return math.sqrt(areas[0] / areas[1])


def _hull_area(pose: NDArray[np.floating]) -> float:
    centred = (pose - pose.mean(0)).astype(np.float32)  # what OpenCV computes with
    return float(cv2.contourArea(cv2.convexHull(centred)))


def relative(
    source: NDArray[np.floating], driver: NDArray[np.floating], reference: int, adapt_scale: bool
) -> NDArray[np.float64]:
    """Move a pose (K, 2) as a track (T, K, 2) moves away from its frame `reference`: (T, K, 2).

    source + s (driver_t - driver_reference), s the ratio of the two poses' sizes with `adapt_scale` and 1 without;
    the rule of the First Order Motion Model.
    """
    s = size_ratio(source, driver[reference]) if adapt_scale else 1.0
    return np.asarray(source + s * (driver.astype(np.float64) - driver[reference]), np.float64)


def retarget(
    source: NDArray[np.floating],
    driver: NDArray[np.floating],
    tree: NDArray[np.int64],
    reference: int,
    adapt_scale: bool,
) -> NDArray[np.float64]:
    """Give a pose (K, 2) the bone angles of a track (T, K, 2) and keep its own bone lengths: (T, K, 2).

    Angles are the driver's as they are, so also frame `reference` takes the driver's pose; that frame only says where
    the root (the tree's first parent) moves from, as in `relative`. A bone without length in the driver has no angle
    and takes the source's.
    """
    moved = relative(source, driver, reference, adapt_scale)
    tiny = 1e-9 * max(1e-300, float(radius(driver).max()))
    for parent, child in tree.tolist():
        own = source[child] - source[parent]
        bone = driver[:, child].astype(np.float64) - driver[:, parent]
        length = np.linalg.norm(bone, axis=1, keepdims=True)
        turned = bone / np.maximum(length, tiny) * np.linalg.norm(own)
        moved[:, child] = moved[:, parent] + np.where(length > tiny, turned, own)
    return moved


def pose_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """How differently poses are shaped, wherever and however large they are: (..., K, 2) twice -> (...).

    The root mean square distance of corresponding keypoints after each pose's centroid is moved to the origin and its
    RMS radius made 1: 0 for the same shape, 2 at most (turned by half), 1 against a pose that is one point.
    """
    return np.asarray(np.sqrt(np.square(_normalised(a) - _normalised(b)).sum(-1).mean(-1)), np.float64)


def _normalised(pose: NDArray[np.floating]) -> NDArray[np.float64]:
    size = radius(pose)[..., None, None]
    return np.asarray((pose - pose.mean(-2, keepdims=True)) / np.where(size > 0, size, 1), np.float64)


def best_frame(source: NDArray[np.floating], driver: NDArray[np.floating]) -> int:
    """The frame of a track (T, K, 2) to start from: its pose is like a pose (K, 2), its place the usual one.

    Of the frames whose `pose_distance` is near the least, the one nearest to where the subject is most of the time: a
    motion that starts from an exceptional place would carry the source out of its picture.
    """
    distance = pose_distance(source, driver)
    centre = driver.mean(1)
    away = np.linalg.norm(centre - np.median(centre, 0), axis=1)
    return int(np.where(distance <= 1.15 * distance.min() + 0.03, away, np.inf).argmin())


def carried(source: NDArray[np.floating], moved: NDArray[np.floating], chosen: Sequence[int]) -> NDArray[np.float64]:
    """All keypoints of a pose (K, 2), the chosen ones at `moved` (T, n, 2), the others carried along: (T, K, 2).

    Those go where the similarity goes that fits the chosen ones best.
    """
    own = source[list(chosen)]
    s, m = own - own.mean(0), moved - moved.mean(1, keepdims=True)
    turn = (_complex(m) * _complex(s).conj()).sum(1) / max(1e-300, float(np.square(s).sum()))
    away = _complex(source - own.mean(0)) * turn[:, None]
    whole: NDArray[np.float64] = np.stack([away.real, away.imag], -1) + moved.mean(1, keepdims=True)
    whole[:, list(chosen)] = moved
    return whole


def _complex(vectors: NDArray[np.floating]) -> NDArray[np.complex128]:
    return vectors[..., 0] + 1j * vectors[..., 1].astype(np.float64)


def shots(cuts: Sequence[bool]) -> list[slice]:
    """The frames of each shot of a clip, by whether another begins at each frame."""
    starts = [0, *(n for n, cut in enumerate(cuts) if cut and n)]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(cuts)], strict=True)]
