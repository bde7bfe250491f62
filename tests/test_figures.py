import numpy as np

from autolink.data.figures import (
    JOINTS,
    POSE_RANGES,
    Identity,
    Scene,
    figure_clip,
    figure_images,
    render,
    sample_identity,
    sample_motion,
    sample_pose,
    sample_scene,
    skeleton,
)  # fmt: skip


def one(seed: int, size: int = 64) -> tuple[Identity, np.ndarray, Scene, int]:
    rng = np.random.default_rng(seed)
    return sample_identity(rng), sample_pose(rng), sample_scene(rng), size


def test_images_and_joints_have_the_promised_form() -> None:
    images, joints = figure_images(20, seed=3, size=32)
    assert images.shape == (20, 32, 32, 3) and images.dtype == np.uint8
    assert joints.shape == (20, len(JOINTS), 2)
    assert (np.abs(joints) < 1).mean() > 0.95
    assert images.std(axis=(1, 2)).min() > 1  # nobody is a blank picture
    assert len({image.tobytes() for image in images}) == 20


def test_the_same_seed_draws_the_same() -> None:
    first, again = figure_images(3, 7, 32), figure_images(3, 7, 32)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (figure_images(3, 8, 32)[0] != first[0]).any()


def test_joints_point_at_what_was_drawn() -> None:
    """A picture minus the same picture with one arm moved differs around that arm's wrist, in both pictures."""
    identity, _, scene, size = one(5, size=128)
    pose = POSE_RANGES.mean(1)
    moved = pose.copy()
    moved[5] = POSE_RANGES[5, 1]  # the left arm from the side to the hip
    before, after = render(identity, pose, scene, size), render(identity, moved, scene, size)
    change = np.abs(before.image.astype(int) - after.image).sum(2) > 40
    for picture in (before, after):
        x, y = np.rint((picture.joints[JOINTS.index("left wrist")] + 1) / 2 * (size - 1)).astype(int)
        assert change[y - 2 : y + 3, x - 2 : x + 3].mean() > 0.5
    still = [JOINTS.index(name) for name in ("head", "right wrist", "left ankle", "right ankle")]
    np.testing.assert_array_equal(before.joints[still], after.joints[still])


def test_size_does_not_move_the_joints() -> None:
    identity, pose, scene, _ = one(1)
    small, large = render(identity, pose, scene, 64).joints, render(identity, pose, scene, 256).joints
    pixels_small, pixels_large = (small + 1) / 2 * 63, (large + 1) / 2 * 255
    np.testing.assert_allclose((pixels_small + 0.5) / 64, (pixels_large + 0.5) / 256, atol=1e-5)


def test_bones_keep_their_length_in_any_pose() -> None:
    identity, _, scene, _ = one(2)
    bones = [(4, 5), (3, 4), (9, 10), (10, 11), (0, 1)]
    rng = np.random.default_rng(0)
    lengths = []
    for _ in range(5):
        joints = skeleton(identity, sample_pose(rng), scene)
        lengths.append([np.linalg.norm(joints[a] - joints[b]) for a, b in bones])
    np.testing.assert_allclose(lengths, np.tile(lengths[0], (5, 1)), rtol=1e-9)


def test_motion_is_smooth_and_within_range() -> None:
    motion = sample_motion(np.random.default_rng(0), 50, rate=25)
    assert (motion >= POSE_RANGES[:, 0] - 1e-9).all() and (motion <= POSE_RANGES[:, 1] + 1e-9).all()
    span = POSE_RANGES[:, 1] - POSE_RANGES[:, 0]
    assert (np.abs(np.diff(motion, axis=0)) / span).max() < 0.1
    assert (np.ptp(motion, axis=0) / span).mean() > 0.3


def test_two_people_can_do_the_same() -> None:
    first, joints = figure_clip(4, seed=1, size=32, motion_seed=9)
    second, others = figure_clip(4, seed=2, size=32, motion_seed=9)
    assert (first != second).mean() > 0.5
    angles = [np.arctan2(*(j[:, 5] - j[:, 4]).T) for j in (joints, others)]
    turn = angles[0] - angles[1]
    np.testing.assert_allclose(turn, turn[0], atol=0.02)  # the same up to the camera's roll
