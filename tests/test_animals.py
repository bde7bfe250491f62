import time

import numpy as np

from autolink.data import check_data, rendered_animals
from autolink.data.animal_traits import SPECIES, sample_animal, sample_head_pose, sample_place
from autolink.data.animals import LANDMARKS, animal_images, landmarks, render_animal


def test_shapes_ranges_and_seed() -> None:
    images, points = animal_images(6, seed=3, size=64)
    assert images.shape == (6, 64, 64, 3) and images.dtype == np.uint8
    assert points.shape == (6, len(LANDMARKS), 2) and np.abs(points).max() < 1.6
    again, _ = animal_images(6, seed=3, size=64)
    other, _ = animal_images(6, seed=4, size=64)
    np.testing.assert_array_equal(images, again)
    assert np.abs(images.astype(int) - other).mean() > 20


def test_any_size_shows_the_same_animal() -> None:
    small, points = animal_images(4, seed=0, size=32)
    large, same = animal_images(4, seed=0, size=96)
    pooled = large.reshape(4, 32, 3, 32, 3, 3).mean((2, 4))
    assert np.abs(pooled - small).mean() < 6
    in_sides, same_in_sides = (((p + 1) / 2 * (size - 1) + 0.5) / size for p, size in ((points, 32), (same, 96)))
    np.testing.assert_allclose(in_sides, same_in_sides, atol=1e-4)


def test_landmarks_are_where_the_features_are() -> None:
    found = 0
    for n in range(40):
        rng = np.random.default_rng(n)
        animal = sample_animal(rng, SPECIES[n % 2])
        pose, place = sample_head_pose(rng), sample_place(rng)
        face = render_animal(animal, pose, place, 96)
        x, y = np.rint((face.landmarks[LANDMARKS.index("nose")] + 1) / 2 * 95).astype(int)
        shown = face.image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3) / place.tint
        found += np.abs(shown - animal.nose).mean(1).min() < 45
    assert found >= 36


def test_turning_the_head_moves_the_nose_most() -> None:
    rng = np.random.default_rng(0)
    animal, pose = sample_animal(rng, "dog"), sample_head_pose(rng)
    ahead, turned = (landmarks(animal, type(pose)(**{**vars(pose), "turn": t}), 64) for t in (0.0, 0.5))
    moved = np.linalg.norm(turned - ahead, axis=1)
    assert moved.argmax() in (LANDMARKS.index("nose"), LANDMARKS.index("mouth"))


def test_species_differ_in_their_ears() -> None:
    _, points = animal_images(40, seed=1, size=64)
    tips = points[:, [LANDMARKS.index("left ear tip"), LANDMARKS.index("right ear tip")], 1]
    bases = points[:, [LANDMARKS.index("left ear base"), LANDMARKS.index("right ear base")], 1]
    upright = (tips < bases).mean(1)
    assert upright[0::2].mean() > 0.9 > 0.2 > upright[1::2].mean()


def test_hundreds_a_second() -> None:
    start = time.process_time()
    animal_images(60, seed=0, size=64)
    assert 60 / (time.process_time() - start) > 100


def test_the_built_in_set_has_two_classes_and_landmarks() -> None:
    data = rendered_animals(6, 2, 32)
    assert data.images.shape == (8, 32, 32, 3) and data.names[:2] == ["cat/0", "dog/1"]
    assert data.annotation is not None and data.annotation.test.sum() == 2 and data.annotation.annotated.all()
    check_data("animals")  # there is nothing that could be missing
