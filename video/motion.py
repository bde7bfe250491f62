"""Motion as keypoint tracks: smoothed, measured, kept in files.

Tracks are (T, K, 2), poses (K, 2), both (x, y) in units as long across as down: square pixels, or the [-1, 1] of one
square. Edge weights are (E,), one for each pair i < j of K keypoints, row by row, as a stage-one model gives them.
"""

import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolink.errors import UserError
from autolink.files import parse_json, write_text


class MotionError(UserError, ValueError):
    """A file that is no motion template; the message says which and why."""


def edge_matrix(weights: NDArray[np.floating], keypoints: int) -> NDArray[np.float64]:
    """Edge weights (E,) as a symmetric (K, K) with zeros on the diagonal.

    Raises:
        ValueError: not one finite weight for each pair.
    """
    K = keypoints
    if weights.shape != (K * (K - 1) // 2,) or not np.isfinite(weights).all():
        raise ValueError(f"{K} keypoints have {K * (K - 1) // 2} edges, each a finite weight; got {weights.shape}")
    matrix = np.zeros((K, K))
    matrix[np.triu_indices(K, 1)] = weights
    return matrix + matrix.T


def radius(pose: NDArray[np.floating]) -> NDArray[np.float64]:
    """Root mean square distance of the keypoints from their centroid: (..., K, 2) -> (...)."""
    squares: NDArray[np.float64] = np.square(pose - pose.mean(-2, keepdims=True)).sum(-1)
    radii: NDArray[np.float64] = np.sqrt(squares.mean(-1))
    return radii


def smooth(track: NDArray[np.floating], strength: float) -> NDArray[np.float64]:
    """Smooth over time without delay: (T, ...) -> (T, ...), `strength` the Gaussian's deviation in frames, 0 for none.

    A straight line is fitted around each frame with Gaussian weights: the plain Gaussian mean wherever both sides are
    whole, and steady motion stays what it is up to the first and the last frame.

    Raises:
        ValueError: the strength is negative or not finite.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"smoothing strength is a number of frames, 0 or more, got {strength}")
    values = track.astype(np.float64)
    T = len(values)
    if strength == 0 or T < 2:
        return values
    reach = min(smoothing_reach(strength), T - 1)
    S0, S1, S2 = np.zeros(T), np.zeros(T), np.zeros(T)
    Y0, Y1 = np.zeros_like(values), np.zeros_like(values)
    for d in range(-reach, reach + 1):
        w = math.exp(-0.5 * (d / strength) ** 2)
        here, there = slice(max(0, -d), T - max(0, d)), slice(max(0, d), T - max(0, -d))
        S0[here] += w
        S1[here] += w * d
        S2[here] += w * d * d
        Y0[here] += w * values[there]
        Y1[here] += w * d * values[there]
    columns = (T,) + (1,) * (values.ndim - 1)
    slope_free = S0 * S2 - S1 * S1
    fitted = slope_free > 1e-12 * S0 * S0  # else the neighbours weigh nothing
    a = np.where(fitted, S2 / np.where(fitted, slope_free, 1), 1 / S0).reshape(columns)
    b = np.where(fitted, S1 / np.where(fitted, slope_free, 1), 0).reshape(columns)
    return a * Y0 - b * Y1


def smoothing_reach(strength: float) -> int:
    """Half the window of `smooth`, in frames."""
    return math.ceil(3 * strength)


@dataclass(frozen=True)
class Motion:
    """The motion of a clip."""

    keypoints: NDArray[np.floating]
    """(T, K, 2), (x, y) in pixels, (0, 0) at the centre of the first one."""
    rate: Fraction
    """Frames a second."""
    width: int
    height: int
    weights: NDArray[np.floating] | None = None
    """(E,), the graph's edge weights where they are known."""
    regions: tuple[NDArray[np.floating], ...] = ()
    """(T, k, 2) for each region, such as a mouth: what its child sees, in the region's own [-1, 1] plane."""
    beliefs: NDArray[np.floating] | None = None
    """(T, regions) in [0, 1], how far that can be believed; None where there are no regions."""

    def __post_init__(self) -> None:
        shape = self.keypoints.shape
        if len(shape) != 3 or not shape[0] or shape[1] < 2 or shape[2] != 2:
            raise ValueError(f"keypoints must be (frames, keypoints, 2) with a frame and two keypoints, got {shape}")
        bad = np.flatnonzero(np.logical_not(np.isfinite(self.keypoints).all((1, 2))))
        if len(bad):
            raise ValueError(f"frame {bad[0]} has a keypoint that is not finite")
        if self.rate <= 0:
            raise ValueError(f"rate must be above zero, got {self.rate}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"width and height must be at least 1 pixel, got {self.width} x {self.height}")
        if self.weights is not None:
            edge_matrix(self.weights, shape[1])
        beliefs = np.empty((shape[0], 0)) if self.beliefs is None else self.beliefs
        if beliefs.shape != (shape[0], len(self.regions)) or any(len(track) != shape[0] for track in self.regions):
            raise ValueError(f"each region needs its keypoints and a belief for each of the {shape[0]} frames")
        if not all(np.isfinite(track).all() for track in self.regions) or not ((beliefs >= 0) & (beliefs <= 1)).all():
            raise ValueError("a region has a keypoint that is not finite or a belief outside of 0 to 1")

    def part(self, first: int, last: int | None) -> "Motion":
        """The frames from number `first` to before `last`, of which there must be one."""
        kept = slice(first, last)
        beliefs = None if self.beliefs is None else self.beliefs[kept]
        regions = tuple(track[kept] for track in self.regions)
        return replace(self, keypoints=self.keypoints[kept], regions=regions, beliefs=beliefs)


def write_motion(path: Path, motion: Motion, origin: Mapping[str, str] | None = None) -> None:
    """Write a motion as JSON, in the layout of `python -m autolink.detect` on a video, whole or not at all.

    `origin` adds what the motion came from, such as checkpoint and video.
    """
    content: dict[str, Any] = dict(origin or {})
    if motion.weights is not None:
        pairs = np.transpose(np.triu_indices(motion.keypoints.shape[1], 1)).tolist()
        edges = zip(pairs, motion.weights.tolist(), strict=True)
        content["graph"] = [{"from": i, "to": j, "weight": float(f"{w:.5g}")} for (i, j), w in edges]
    content |= {"rate": str(motion.rate), "width": motion.width, "height": motion.height}
    content["frames"] = np.round(motion.keypoints.astype(np.float64), 4).tolist()
    if motion.beliefs is not None:
        content["regions"] = [
            {"frames": np.round(track.astype(np.float64), 4).tolist(), "beliefs": np.round(belief, 4).tolist()}
            for track, belief in zip(motion.regions, motion.beliefs.astype(np.float64).T, strict=True)
        ]
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_motion(path: Path) -> Motion:
    """Read what `write_motion` or `python -m autolink.detect` wrote.

    Raises:
        MotionError: there is no such file, or it is no motion; one sentence names the file and the fault.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MotionError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise MotionError(f"{path} is not JSON; give a file that --keypoints or autolink.detect wrote") from None
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise MotionError(f"{path} holds no frames of keypoints; give a file that was written for a video")
    try:
        keypoints = _tracks(content["frames"])
        weights = _weights(content["graph"], keypoints.shape[1]) if content.get("graph") else None
        return Motion(
            keypoints, _rate(content.get("rate")), _whole(content, "width"), _whole(content, "height"), weights,
            *_regions(content["regions"]) if content.get("regions") else (),
        )  # fmt: skip
    except ValueError as error:
        raise MotionError(f"{path} is no motion: {error}") from None


def _tracks(frames: list[Any]) -> NDArray[np.float64]:
    """(T, K, 2) from nested lists."""
    if not frames:
        raise ValueError("it has no frames")
    poses: list[NDArray[np.floating]] = []
    for n, frame in enumerate(frames):
        try:
            pose = np.array(frame)
        except ValueError:  # lists of unequal length
            pose = np.array(None)
        if pose.dtype.kind not in "iuf" or pose.ndim != 2 or pose.shape[1] != 2:
            raise ValueError(f"frame {n} is not a list of [x, y] numbers")
        if poses and len(pose) != len(poses[0]):
            raise ValueError(f"frame {n} has {len(pose)} keypoints, those before have {len(poses[0])}")
        poses.append(pose.astype(np.float64))
    return np.stack(poses)


def _regions(regions: Any) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.float64]]:
    """Tracks (T, k, 2) and beliefs (T, P) from a list of {frames, beliefs}."""
    try:
        tracks = tuple(_tracks(list(region["frames"])) for region in regions)
        return tracks, np.array([region["beliefs"] for region in regions], np.float64).T
    except (TypeError, KeyError):
        raise ValueError("its regions are not a list of frames and beliefs") from None


def _weights(graph: Any, keypoints: int) -> NDArray[np.float64]:
    """(E,) from a list of {from, to, weight}; edges that are left out weigh nothing."""
    matrix = np.zeros((keypoints, keypoints))
    try:
        for edge in graph:
            i, j = sorted((operator.index(edge["from"]), operator.index(edge["to"])))
            if not 0 <= i < j < keypoints:
                raise ValueError(f"its graph links {i} and {j}, there are {keypoints} keypoints")
            matrix[i, j] = float(edge["weight"])
    except (TypeError, KeyError, OverflowError):
        raise ValueError("its graph is not a list of from, to, weight") from None
    return matrix[np.triu_indices(keypoints, 1)]


def _rate(value: Any) -> Fraction:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,20}|/0*[1-9]\d{0,8})?", str(value)):
        raise ValueError(f"rate must be a number or a fraction such as 30000/1001, got {str(value)[:40]}")
    return Fraction(str(value))


def _whole(content: dict[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of pixels, got {value}")
    return value
