"""Each protocol against a restatement in naive loops, and against the authors' own functions where their code is."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from autolink.errors import UserError
from autolink.eval import protocols

AUTHORS = os.environ.get("AUTOLINK_AUTHORS_CODE", "")
needs_authors = pytest.mark.skipif(not AUTHORS, reason="AUTOLINK_AUTHORS_CODE names no checkout of the authors' code")

Data = dict[str, Any]


def data(seed: int, landmarks: int, scale: float, noise: float = 0.05, train: int = 90, test: int = 40) -> Data:
    """Landmarks that follow linearly from six keypoints, and noise; about a fifth are not visible."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(12, landmarks * 2)) * 0.3
    found: Data = {}
    for side, count in (("train", train), ("test", test)):
        keypoints = rng.uniform(-1, 1, (count, 6, 2))
        linear = (keypoints.reshape(count, 12) + 1) / 2 @ mix + 0.1 + noise * rng.normal(size=(count, landmarks * 2))
        found[f"{side}_keypoints"] = keypoints
        found[f"{side}_landmarks"] = linear.reshape(count, landmarks, 2) * scale
        found[f"{side}_visible"] = rng.random((count, landmarks)) > 0.2
    return found


def without_visible(values: Data) -> Data:
    return {name: value for name, value in values.items() if not name.endswith("visible")}


def solve(rows: list[list[float]], targets: list[float]) -> list[float]:
    """Normal equations by Gaussian elimination."""
    n = len(rows[0])
    system = [[sum(r[i] * r[j] for r in rows) for j in range(n)] for i in range(n)]
    for i in range(n):
        system[i].append(sum(r[i] * t for r, t in zip(rows, targets, strict=True)))
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(system[k][i]))
        system[i], system[pivot] = system[pivot], system[i]
        for k in range(n):
            if k != i:
                factor = system[k][i] / system[i][i]
                system[k] = [a - factor * b for a, b in zip(system[k], system[i], strict=True)]
    return [system[i][n] / system[i][i] for i in range(n)]


def rows(keypoints: np.ndarray, scale: float = 1.0, bias: bool = False) -> list[list[float]]:
    return [[(v + 1) / 2 * scale for point in k for v in point] + [1.0] * bias for k in keypoints.tolist()]


def dot(row: list[float], solution: list[float]) -> float:
    return sum(r * s for r, s in zip(row, solution, strict=True))


def prediction(train: list[list[float]], targets: np.ndarray, test: list[list[float]]) -> np.ndarray:
    """Every coordinate by itself: (N, L, 2)."""
    out = np.empty((len(test), *targets.shape[1:]))
    for i, j in np.ndindex(targets.shape[1:]):
        solution = solve(train, targets[:, i, j].tolist())
        for n, row in enumerate(test):
            out[n, i, j] = dot(row, solution)
    return out


def length(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)


def naive_celeba(d: Data) -> float:
    found = prediction(rows(d["train_keypoints"]), d["train_landmarks"], rows(d["test_keypoints"]))
    values = []
    for p, y in zip(found, d["test_landmarks"], strict=True):
        values += [length(p[i], y[i]) / length(y[0], y[1]) for i in range(len(y))]
    return sum(values) / len(values)


def naive_cub(d: Data) -> float:
    train, test = rows(d["train_keypoints"]), rows(d["test_keypoints"])
    total, count = 0.0, 0
    for i in range(d["test_landmarks"].shape[1]):
        seen = [n for n in range(len(train)) if d["train_visible"][n, i]]
        y = d["train_landmarks"][seen, i]
        x0, x1 = (solve([train[n] for n in seen], y[:, axis].tolist()) for axis in (0, 1))
        for n, row in enumerate(test):
            if d["test_visible"][n, i]:
                total += length(np.array([dot(row, x0), dot(row, x1)]), d["test_landmarks"][n, i])
                count += 1
    return total / count


def naive_taichi(d: Data) -> float:
    train, test = rows(d["train_keypoints"], 255, True), rows(d["test_keypoints"], 255, True)
    total = 0.0
    for i, j in np.ndindex(d["test_landmarks"].shape[1:]):
        seen = [n for n in range(len(train)) if d["train_visible"][n, i]]
        solution = solve([train[n] for n in seen], d["train_landmarks"][seen, i, j].tolist())
        shown = [n for n in range(len(test)) if d["test_visible"][n, i]]
        total += sum(abs(dot(test[n], solution) - d["test_landmarks"][n, i, j]) for n in shown) / len(shown)
    return total


def naive_deepfashion(d: Data) -> float:
    found = prediction(rows(d["train_keypoints"], 255), d["train_landmarks"], rows(d["test_keypoints"], 255))
    near = [length(p[i], y[i]) < 6 for p, y in zip(found, d["test_landmarks"], strict=True) for i in range(len(y))]
    return sum(near) / len(near)


def exchanged(y: np.ndarray, mended: bool) -> np.ndarray:
    source = list(range(32))
    others = [(1, 6), (2, 7), (3, 8), (4, 9), (5, 10), (17, 25), (18, 26), (19, 27), (20, 28), (22, 30), (23, 31)]
    for a, b in others:
        source[a], source[b] = b, a
    if mended:
        source[21], source[29] = 29, 21
    else:  # written last for 28 as well, so joint 20 takes 28's place and 28 takes 21's
        source[21], source[28] = 28, 21
    return np.array([y[source[i]] for i in range(32)])


def naive_human36m(d: Data, mended: bool = False) -> float:
    train, test = rows(d["train_keypoints"]), rows(d["test_keypoints"])

    def settle(landmarks: np.ndarray, predict: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, list[float]]:
        landmarks = landmarks.copy()
        while True:
            found = predict(landmarks)
            far = [np.mean([length(p[i], y[i]) for i in range(32)]) for p, y in zip(found, landmarks, strict=True)]
            swapped = [exchanged(y, mended) for y in landmarks]
            near = [np.mean([length(p[i], y[i]) for i in range(32)]) for p, y in zip(found, swapped, strict=True)]
            change = [n for n in range(len(far)) if near[n] < far[n]]
            if len(change) <= 10:
                return landmarks, [float(f) for f in far]
            for n in change:
                landmarks[n] = swapped[n]

    landmarks, far = settle(d["train_landmarks"], lambda y: prediction(train, y, train))
    mean = sum(far) / len(far)
    deviation = (sum((f - mean) ** 2 for f in far) / (len(far) - 1)) ** 0.5
    kept = [n for n in range(len(far)) if far[n] < mean + 3 * deviation]
    found = prediction([train[n] for n in kept], landmarks[kept], test)
    _, far = settle(d["test_landmarks"], lambda y: found)
    return sum(far) / len(far)


def human36m_data(seed: int) -> Data:
    """A third of the annotations left-right exchanged, and two far off."""
    d = without_visible(data(seed, 32, 1.0, 0.02, train=80, test=45))
    rng = np.random.default_rng(seed + 1)
    for side in ("train", "test"):
        y = d[f"{side}_landmarks"]
        for n in np.flatnonzero(rng.random(len(y)) < 0.35):
            y[n] = exchanged(y[n], True)
    d["train_landmarks"][:2] += 3.0
    return d


def test_celeba_equals_naive_loops() -> None:
    d = without_visible(data(0, 5, 128))
    assert protocols.celeba(**d) == pytest.approx(naive_celeba(d), rel=1e-6)
    doubled = {**d, "train_landmarks": d["train_landmarks"] * 2, "test_landmarks": d["test_landmarks"] * 2}
    assert protocols.celeba(**doubled) == pytest.approx(protocols.celeba(**d))


def test_cub_equals_naive_loops() -> None:
    d = data(1, 15, 1.0)
    d["test_landmarks"][~d["test_visible"]] = np.nan  # what is not visible must not matter
    assert protocols.cub(**d) == pytest.approx(naive_cub(d), rel=1e-6)


def test_cub_landmark_unseen_in_training_lies_at_the_origin() -> None:
    d = data(1, 2, 1.0)
    d["train_visible"][:, 1] = d["test_visible"][:, 0] = False
    expected = np.linalg.norm(d["test_landmarks"][d["test_visible"][:, 1], 1], axis=1).mean()
    assert protocols.cub(**d) == pytest.approx(expected)


@pytest.mark.parametrize("pairs", ["authors", "mended"])
def test_human36m_equals_naive_loops(pairs: protocols.Pairs) -> None:
    d = human36m_data(2)
    assert protocols.human36m(**d, pairs=pairs) == pytest.approx(naive_human36m(d, pairs == "mended"), rel=1e-6)


def test_human36m_is_blind_to_exchanged_sides_and_to_outliers() -> None:
    d = without_visible(data(3, 32, 1.0, 0.001, train=200, test=60))
    plain = protocols.human36m(**d, pairs="mended")
    for n in range(0, 60, 3):
        d["test_landmarks"][n] = exchanged(d["test_landmarks"][n], True)
    assert plain == pytest.approx(protocols.human36m(**d, pairs="mended"), rel=1e-6)
    d["train_landmarks"][0] += 5
    assert protocols.human36m(**d, pairs="mended") == pytest.approx(plain, rel=0.1)
    assert protocols.HUMAN36M_PAIRS["authors"] != protocols.HUMAN36M_PAIRS["mended"]


def test_taichi_equals_naive_loops_with_marks_or_with_visibility() -> None:
    d = data(4, 18, 255)
    expected = naive_taichi(d)
    assert protocols.taichi(**d) == pytest.approx(expected, rel=1e-6)
    for side in ("train", "test"):
        d[f"{side}_landmarks"][~d[f"{side}_visible"]] = -1
    assert protocols.taichi(**without_visible(d)) == pytest.approx(expected, rel=1e-6)


def test_deepfashion_equals_naive_loops() -> None:
    d = without_visible(data(5, 16, 255, 0.02))
    found = protocols.deepfashion(**d)
    assert found == pytest.approx(naive_deepfashion(d), rel=1e-6) and 0.1 < found < 0.9


@pytest.mark.parametrize("name", ["celeba", "cub", "human36m", "taichi", "deepfashion"])
def test_the_order_of_x_and_y_and_of_pictures_does_not_matter(name: str) -> None:
    d = human36m_data(6) if name == "human36m" else data(6, 18, 255 if name in ("taichi", "deepfashion") else 1)
    if name not in ("cub", "taichi"):
        d = without_visible(d)
    error = getattr(protocols, name)
    rows_and_columns = {k: v if k.endswith("visible") else v[..., ::-1] for k, v in d.items()}
    assert error(**rows_and_columns) == pytest.approx(error(**d), rel=1e-9)
    assert error(**{k: v[::-1] for k, v in d.items()}) == pytest.approx(error(**d), rel=1e-9)


def test_keypoints_that_coincide_still_give_a_finite_error() -> None:
    d = data(7, 5, 1.0)
    d["train_keypoints"][:] = d["train_keypoints"][:, :1]
    d["test_keypoints"][:] = d["test_keypoints"][:, :1]
    assert np.isfinite(protocols.cub(**d)) and np.isfinite(protocols.celeba(**without_visible(d)))


def test_wrong_arrays_are_told() -> None:
    d = data(8, 5, 1.0)
    plain = without_visible(d)

    def said(call: Callable[[], float]) -> str:
        with pytest.raises(UserError) as error:
            call()
        return str(error.value)

    bad = d["train_keypoints"].copy()
    bad[3, 1, 0] = np.nan
    assert "train_keypoints" in said(lambda: protocols.celeba(**{**plain, "train_keypoints": bad}))
    assert "test_landmarks" in said(
        lambda: protocols.celeba(**{**plain, "test_landmarks": np.full_like(d["test_landmarks"], np.inf)})
    )
    assert "pictures" in said(lambda: protocols.celeba(**{**plain, "test_keypoints": d["test_keypoints"][1:]}))
    assert "same number" in said(lambda: protocols.celeba(**{**plain, "test_keypoints": d["test_keypoints"][:, 1:]}))
    assert "(N, points, 2)" in said(lambda: protocols.celeba(**{**plain, "test_keypoints": np.zeros((3, 2))}))
    assert "coincide" in said(lambda: protocols.celeba(**{**plain, "test_landmarks": d["test_landmarks"] * 0}))
    assert "test_visible" in said(lambda: protocols.cub(**{**d, "test_visible": d["test_visible"][1:]}))
    assert "nothing to measure" in said(lambda: protocols.cub(**{**d, "test_visible": d["test_visible"] & False}))
    assert "32 joints" in said(lambda: protocols.human36m(**plain))
    assert "authors or mended" in said(lambda: protocols.human36m(**human36m_data(0), pairs="x"))  # type: ignore[arg-type]
    assert "or neither" in said(lambda: protocols.taichi(**{**d, "test_visible": None}))
    assert "joint 0" in said(lambda: protocols.taichi(**{**d, "test_visible": d["test_visible"] & False}))


@pytest.fixture
def authors() -> Iterator[Callable[[str], Any]]:
    """Imports a module of the authors' `datasets`, with nothing of theirs or ours left behind."""
    before = set(sys.modules)
    folder = str(Path(AUTHORS).resolve())
    sys.path.insert(0, folder)
    try:
        yield lambda name: importlib.import_module(f"datasets.{name}")
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("datasets", "models", "utils_"):
                del sys.modules[name]


AUTHORS_MODULES = {
    "celeba": "celeba_wild",
    "cub": "cub",
    "human36m": "h36m",
    "taichi": "taichi",
    "deepfashion": "deepfashion",
}


@needs_authors
@pytest.mark.parametrize("name", AUTHORS_MODULES)
@pytest.mark.parametrize("seed", [10, 11])
def test_equals_the_authors_code(
    name: str, seed: int, authors: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import torchvision.transforms  # noqa: F401  (before the stand-ins, which it would look at)

    for optional in ("h5py", "pandas", "matplotlib"):  # they read files and draw, nothing is computed with them
        monkeypatch.setitem(sys.modules, optional, MagicMock())
    module = authors(AUTHORS_MODULES[name])
    if name == "human36m":
        d = human36m_data(seed)
    else:
        d = data(seed, 5 if name == "celeba" else 18 if name == "taichi" else 15, 255 if name[0] in "td" else 1, 0.02)

    def batch(side: str) -> list[dict[str, Any]]:
        keypoints, landmarks = (torch.tensor(d[f"{side}_{n}"]).flip(2) for n in ("keypoints", "landmarks"))
        values = {"det_keypoints": keypoints, "keypoints": landmarks}
        if name == "taichi":
            landmarks[~torch.tensor(d[f"{side}_visible"])] = -1
        elif name == "cub":
            values["visibility"] = torch.tensor(d[f"{side}_visible"]).long()
        elif name == "celeba":
            values["eye_distance"] = (landmarks[:, 0] - landmarks[:, 1]).norm(dim=-1)
        half = len(landmarks) // 2
        return [{k: v[:half] for k, v in values.items()}, {k: v[half:] for k, v in values.items()}]

    expected = float(module.test_epoch_end([batch("train"), batch("test")])["val_loss"])
    found = getattr(protocols, name)(**(d if name in ("cub", "taichi") else without_visible(d)))
    assert (-found if name == "deepfashion" else found) == pytest.approx(expected, rel=1e-5)
