"""Human3.6M, Tai-Chi-HD and DeepFashion in-shop, as prepared for this line of work."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolink.data.listing import Listing, find, picture_sizes, pictures, read_mat
from autolink.data.pickled_table import read_names_and_points
from autolink.errors import UserError
from autolink.files import parse_json
from autolink.pictures import DAMAGE

SUBJECTS = {1: False, 5: False, 6: False, 7: False, 8: False, 9: False, 11: True}
"""Human3.6M: subject -> whether it is held out."""

ACTIONS = ("Directions", "Discussion", "Posing", "Waiting", "Greeting", "Walking")
"""Human3.6M: what the names of the folders that are used begin with; people stand upright in them."""

SCALE = 255.0
"""Tai-Chi and DeepFashion: annotated from 0 to this."""


def read_human36m(root: Path, masked: bool = False) -> Listing:
    """People in a room, or on grey ground if `masked`."""
    names: list[str] = []
    identity: list[str] = []
    points: list[NDArray[np.floating]] = []
    masks: dict[str, str] = {}
    for subject in SUBJECTS:
        person = f"S{subject}"
        folders = sorted(p for p in find(root, f"{person}/WithBackground").iterdir() if p.name.startswith(ACTIONS))
        if not folders:
            raise UserError(f"{root / person / 'WithBackground'} holds no folder named after {', '.join(ACTIONS)}")
        for folder in folders:
            for name in pictures(root, f"{person}/WithBackground/{folder.name}"):
                frame = Path(name).stem
                points.append(_joints(root / person / "Landmarks" / folder.name / f"{frame}.mat"))
                if masked:
                    mask = find(root, f"{person}/BackgroudMask/{folder.name}/{frame}.png")  # spelt so in the set
                    masks[name] = mask.relative_to(root).as_posix()
                names.append(name)
                identity.append(person)
    landmarks = np.stack(points)
    if landmarks.max() > 2:  # in pixels
        landmarks /= np.array(picture_sizes(root, names[:1])[0])
    test = np.array([SUBJECTS[int(person[1:])] for person in identity])
    return Listing(names, test, landmarks, identity, masks=masks)


def read_human36m_masked(root: Path) -> Listing:
    """People without the room behind them."""
    return read_human36m(root, masked=True)


def _joints(path: Path) -> NDArray[np.float64]:
    """The 32 joints of a frame: (32, 2)."""
    joints = np.asarray(read_mat(path, "keypoints_2d"), np.float64)
    if joints.shape != (32, 2) or not np.isfinite(joints).all():
        raise UserError(f"{path}: keypoints_2d must be 32 joints in two coordinates, it is {joints.shape}")
    return joints


def read_taichi(root: Path) -> Listing:
    """Frames of Tai-Chi videos: 5,000 annotated ones to fit on, 300 to test on, and all of train/ to train on."""
    sides = []
    for side in ("train", "test"):
        table = find(root, f"taichi_{side}_gt.pkl", ("landmark", "landmarks"))
        names, points = read_names_and_points(table)
        folder = find(root, f"taichi-256/{side}", ("eval_images", "")).relative_to(root).as_posix()
        sides.append(([f"{folder}/{name}" for name in names], np.where(points == -1, np.nan, points) / SCALE))
    (fitted, fitted_points), (tested, tested_points) = sides
    frames = pictures(root, "train") if (root / "train").is_dir() else []
    unknown = np.full((len(frames), *fitted_points.shape[1:]), np.nan)
    test = np.arange(len(frames) + len(fitted) + len(tested)) >= len(frames) + len(fitted)
    return Listing([*frames, *fitted, *tested], test, np.concatenate([unknown, fitted_points, tested_points]))


def read_deepfashion(root: Path) -> Listing:
    """People in clothes before a plain ground."""
    names: list[str] = []
    landmarks, test = [], []
    for side in ("train", "test"):
        path = find(root, f"data_{side}.csv")
        with path.open(newline="", errors="replace") as file:
            rows = [row for row in csv.reader(file) if row][1:]
        if not rows or any(len(row) < 2 for row in rows):
            raise UserError(f"{path} must be a header and rows whose second cell names a picture in img/")
        path = find(root, f"data_{side}.json")
        try:
            points = np.array([person["keypoints"] for person in parse_json(path.read_text())], np.float64)
        except DAMAGE:
            raise UserError(f'{path} must be a list of {{"keypoints": [[x, y], ...]}}') from None
        if points.ndim != 3 or points.shape[2] != 2 or len(points) != len(rows):
            raise UserError(f"{path} has {len(points)} people and data_{side}.csv {len(rows)}; they must agree")
        names += [f"img/{row[1].strip()}" for row in rows]
        landmarks.append(points / SCALE)
        test += [side == "test"] * len(rows)
    if len({points.shape[1] for points in landmarks}) > 1:
        raise UserError(f"{root / 'data_train.json'} and data_test.json have another number of keypoints each")
    return Listing(names, np.array(test), np.concatenate(landmarks))
