"""Structures to generate from: keypoints of pictures, of a video, of a file, or remembered; and changes to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autolink.data.picture import from_pixels, square, squares
from autolink.data.source import Source, is_video
from autolink.edge_map import edge_pairs
from autolink.errors import UsageError, UserError
from autolink.files import parse_json
from autolink.inference import detect_all
from autolink.inputs import Picture, Pictures, read_pictures
from autolink.pictures import DAMAGE, PictureError
from autolink.video import files as video

if TYPE_CHECKING:
    from autolink.generation.gan import Gan
    from autolink.generation.generator import Generator

OUTSIDE = 1.25
"""Keypoints beyond this, in [-1, 1] units, are not in the picture."""

PLAUSIBLE = 12
"""Principal directions along which structures that were found on pictures are taken."""

NOISE = 1e-2
"""Remembered structures that together differ less along a direction are rounded there: checkpoints may hold 16 bits."""


@dataclass(frozen=True)
class Structures:
    """S structures."""

    names: list[str]
    keypoints: NDArray[np.float32]
    """(S, K, 2), (x, y) in [-1, 1]."""
    classes: NDArray[np.int64]
    """(S,), -1 where it is not known."""
    pictures: list[NDArray[np.uint8]] | None = None
    """(size, size, 3) each, where they come from pictures."""
    moving: bool = False
    """Whether they are a motion, one frame after another."""
    rate: Fraction | None = None
    """Frames a second of a motion."""

    def __len__(self) -> int:
        return len(self.keypoints)


StructuresLike: TypeAlias = "int | Structures | Picture | Sequence[Picture] | NDArray[np.floating] | Tensor"
"""A number of remembered ones; pictures; or keypoints (S, K, 2), (x, y) in [-1, 1]."""


def as_structures(gan: Gan, value: StructuresLike, directions: int = PLAUSIBLE) -> Structures:
    """The structures that Python callers mean; those of pictures and remembered ones are made `plausible`.

    Raises:
        UserError: a picture cannot be read, or the keypoints are not this checkpoint's or lie outside of the picture.
    """
    if isinstance(value, Structures):
        return value
    if isinstance(value, int):
        return read_structures(gan, (), value, directions)
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype != np.uint8):
        keypoints = np.asarray(value.cpu() if isinstance(value, Tensor) else value, np.float32)
        K = gan.config.keypoints
        if keypoints.ndim != 3 or keypoints.shape[1:] != (K, 2):
            raise UserError(f"keypoints of structures are (S, {K}, 2) for this checkpoint; got {keypoints.shape}")
        given = Structures([f"structure {n}" for n in range(len(keypoints))], keypoints, np.full(len(keypoints), -1))
        check_inside(given)
        return given
    fit, size = gan.stage_one.config.fit, gan.config.size
    pictures = read_pictures(cast("Pictures", value))
    found = _detected(gan, [f"picture {n}" for n in range(len(pictures))], list(squares(pictures, size, fit)))
    return replace(found, keypoints=plausible(gan, found.keypoints, directions))


def read_structures(gan: Gan, paths: tuple[Path, ...], most: int, directions: int = PLAUSIBLE) -> Structures:
    """The structures of pictures, folders or zips of them, videos, or keypoint files; at most `most`, evenly spread.

    Without paths, those that the checkpoint remembers from its training pictures; a video and its keypoints are taken
    whole. All are made `plausible`.

    Raises:
        UserError: a file cannot be read, or is for another stage one, or a keypoint lies outside of the picture.
    """
    whole = _read(gan, paths) if paths else _remembered(gan)
    whole = replace(whole, keypoints=plausible(gan, whole.keypoints, directions))
    return whole if whole.moving else spread(whole, most)


def plausible(gan: Gan, keypoints: NDArray[np.float32], directions: int) -> NDArray[np.float32]:
    """Structures (S, K, 2) without what lies off the first principal directions of those that the GAN remembers.

    What stage one gets wrong on a picture, such as a nose where an ear is, mostly does, and would be drawn. With 0
    directions nothing changes; a checkpoint that remembers fewer keeps what lies along those.
    """
    mean, axes = principal_directions(gan.generator)
    if not directions or not len(axes):
        return keypoints
    axes = axes[:directions]
    kept: NDArray[np.float64] = (keypoints.reshape(len(keypoints), -1) - mean) @ axes.T @ axes + mean
    return kept.reshape(keypoints.shape).astype(np.float32)


def principal_directions(generator: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (2 K,) of the structures that a GAN remembers, and principal directions (D, 2 K), the largest first."""
    known = generator.structures.double().flatten(1).cpu().numpy()
    mean = known.mean(0)
    _, lengths, axes = np.linalg.svd(known - mean, full_matrices=False)
    return mean, axes[lengths > NOISE]


def check_inside(structures: Structures) -> None:
    """Refuse keypoints that are not numbers or not in the picture.

    Raises:
        UserError: there is such a keypoint; it is named.
    """
    bad = ~(np.abs(structures.keypoints) <= OUTSIDE).all(2)
    if bad.any():
        s, k = np.argwhere(bad)[0]
        x, y = structures.keypoints[s, k]
        raise UserError(
            f"{structures.names[s]}: keypoint {k} is at ({x:.2f}, {y:.2f}), outside of the picture, which is -1 to 1"
        )


def spread(structures: Structures, most: int) -> Structures:
    """Some of them, classes in turn where they are known."""
    if len(structures) <= most:
        return structures
    order = np.argsort(structures.classes, kind="stable")
    known = np.unique(structures.classes)
    groups = [order[structures.classes[order] == c] for c in known]
    share = [most // len(groups) + (n < most % len(groups)) for n in range(len(groups))]
    rows = [g[np.linspace(0, len(g) - 1, min(n, len(g))).astype(int)] for g, n in zip(groups, share, strict=True) if n]
    mixed = [row for turn in range(most) for group in rows for row in group[turn : turn + 1]]
    return Structures(
        [structures.names[n] for n in mixed], structures.keypoints[mixed], structures.classes[mixed],
        [structures.pictures[n] for n in mixed] if structures.pictures else None,
    )  # fmt: skip


def _remembered(gan: Gan) -> Structures:
    keypoints = gan.generator.structures.float().cpu().numpy()
    classes = gan.generator.structure_classes.cpu().numpy()
    return Structures([f"remembered structure {n}" for n in range(len(keypoints))], keypoints, classes)


def _read(gan: Gan, paths: tuple[Path, ...]) -> Structures:
    """All structures of the paths, as found."""
    parts = [_one(gan, path) for path in paths]
    if any(part.moving for part in parts) and len(parts) > 1:
        raise UsageError("--structures takes one video, or any number of pictures, not both")
    pictures = None
    if all(part.pictures is not None for part in parts):
        pictures = list(chain.from_iterable(part.pictures or [] for part in parts))
    whole = Structures(
        list(chain.from_iterable(part.names for part in parts)), np.concatenate([part.keypoints for part in parts]),
        np.concatenate([part.classes for part in parts]), pictures, parts[0].moving, parts[0].rate,
    )  # fmt: skip
    check_inside(whole)
    return whole


def _one(gan: Gan, path: Path) -> Structures:
    if not path.exists():
        raise UsageError(f"--structures {path} does not exist")
    if path.suffix.lower() == ".json":
        return _from_json(gan, path)
    if path.is_file() and is_video(path):
        frames = [
            square(Image.fromarray(f), gan.config.size, gan.stage_one.config.fit) for f in video.read_frames(path)
        ]
        found = _detected(gan, [f"{path.name}, frame {n}" for n in range(len(frames))], frames)
        return replace(found, moving=True, rate=video.video_facts(path).rate)
    source = Source.of(path)
    names, pictures, first = [], [], ""
    for name in source.names:
        try:
            picture = source.picture(name)
        except PictureError as error:
            first = first or f"{name}: {error}"
            continue
        names.append(f"{path.name}/{name}" if len(source.names) > 1 else f"{path.parent.name}/{name}")
        pictures.append(square(picture, gan.config.size, gan.stage_one.config.fit))
    if not pictures:
        raise UserError(f"--structures {path}: no picture can be read; {first}")
    return _detected(gan, names, pictures)


def _detected(gan: Gan, names: list[str], pictures: list[NDArray[np.uint8]]) -> Structures:
    found = detect_all(gan.stage_one, np.stack(pictures), gan.device)
    return Structures(names, found, np.array([_class_of(gan, name) for name in names]), pictures)


def _class_of(gan: Gan, name: str) -> int:
    """The class whose name is a folder on the way to the picture; the only class there is; or -1."""
    classes = gan.config.classes
    if len(classes) == 1:
        return 0
    return next((classes.index(part) for part in reversed(name.split("/")[:-1]) if part in classes), -1)


def _from_json(gan: Gan, path: Path) -> Structures:
    """What `autolink detect` wrote, for pictures or for a video."""
    try:
        content = parse_json(path.read_text())
        if "frames" in content:
            sizes = content["width"], content["height"]
            found = [(f"{path.name}, frame {n}", *sizes, points) for n, points in enumerate(content["frames"])]
        else:
            found = [(i["image"], i["width"], i["height"], i["keypoints"]) for i in content["images"]]
        fit = gan.stage_one.config.fit
        points = [from_pixels(np.array(p, np.float64), int(w), int(h), fit) for _, w, h, p in found]
        K = gan.config.keypoints
        for (name, *_), p in zip(found, points, strict=True):
            if p.shape != (K, 2):
                raise UserError(
                    f"--structures {path}: {name} has {len(p)} keypoints, the checkpoint {K}; use its own stage one"
                )
        keypoints = np.stack(points).astype(np.float32)
        names = [name for name, *_ in found]
        moving = "frames" in content
        rate = Fraction(content["rate"]) if moving and "rate" in content else None
        if not all(isinstance(name, str) for name in names):
            raise TypeError("an image must be named by a text")
    except DAMAGE as error:
        raise UserError(
            f"--structures {path} is no keypoints file ({type(error).__name__}: {error}); give one of `autolink detect`"
        ) from None
    return Structures(names, keypoints, np.array([_class_of(gan, n) for n in names]), moving=moving, rate=rate)


def moved(structures: Structures, moves: tuple[str, ...], scale: float, shift: tuple[float, float]) -> Structures:
    """Scale about each structure's centre, shift, then move single keypoints by `3:0.1,-0.05`, in [-1, 1] units.

    Raises:
        UserError: a move cannot be read, names no keypoint, or leads out of the picture.
    """
    keypoints = structures.keypoints.copy()
    centre = keypoints.mean(1, keepdims=True)
    keypoints = (keypoints - centre) * scale + centre + np.array(shift, np.float32)
    for move in moves:
        try:
            number, offset = move.split(":")
            k, (dx, dy) = int(number), (float(v) for v in offset.split(","))
        except ValueError:
            raise UsageError(f"--move {move}: give keypoint:dx,dy, such as 3:0.1,-0.05") from None
        if not 0 <= k < keypoints.shape[1]:
            raise UsageError(f"--move {move}: keypoints are 0 to {keypoints.shape[1] - 1}")
        keypoints[:, k] += (dx, dy)
    result = replace(structures, keypoints=keypoints.astype(np.float32))
    check_inside(result)
    return result


def kept_edges(gan: Gan, dropped: Sequence[str]) -> torch.Tensor | None:
    """(E,), false for edges given as `2-5`; None where none is.

    Raises:
        UsageError: there is no such edge.
    """
    if not dropped:
        return None
    K = gan.config.keypoints
    kept = torch.ones(K * (K - 1) // 2, dtype=torch.bool, device=gan.device)
    kept[[_edge_number(edge, K) for edge in dropped]] = False
    return kept


def _edge_number(edge: str, keypoints: int) -> int:
    """The place of an edge such as 2-5 among all edges."""
    try:
        return edge_pairs(keypoints).T.tolist().index(sorted(int(v) for v in edge.split("-")))
    except ValueError:
        raise UsageError(
            f"--drop-edge {edge}: give two different keypoints of 0 to {keypoints - 1}, such as 2-5"
        ) from None
