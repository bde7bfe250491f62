import numpy as np
import torch

from autolink.generation.candidates import bone_distances, candidate_motions, move, whole_motion

PAIRS = torch.tensor([[0, 1, 2], [1, 3, 4]])


def poses(K: int = 5, B: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(B, K, 2) * 1.6 - 0.8, torch.rand(B, K, 2) * 1.6 - 0.8


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return np.array([[c, -s], [s, c]]), np.array(shift)


def test_each_candidate_takes_its_own_keypoints_from_driver_to_source() -> None:
    source, driving = poses()
    motions = candidate_motions(source, driving, PAIRS)
    assert motions.shape == (3, 2 + 3 + 5, 2, 3)
    torch.testing.assert_close(motions[:, 0], torch.eye(2, 3).expand(3, 2, 3))
    for e, (i, j) in enumerate(PAIRS.T.tolist()):
        middle = (driving[:, i] + driving[:, j]) / 2
        for b in range(3):
            moved = move(motions[b : b + 1, 2 + e : 3 + e], middle[b : b + 1])[0, 0, 0]
            torch.testing.assert_close(moved, ((source[:, i] + source[:, j]) / 2)[b], rtol=0, atol=1e-5)
    for k in range(5):
        for b in range(3):
            moved = move(motions[b : b + 1, 5 + k : 6 + k], driving[b, k : k + 1])[0, 0, 0]
            torch.testing.assert_close(moved, source[b, k], rtol=0, atol=1e-5)


def test_a_bone_maps_end_to_end_when_it_is_long_enough_to_tell() -> None:
    source = torch.tensor([[[-0.5, -0.4], [0.3, 0.2]]])
    driving = torch.tensor([[[0.1, -0.6], [-0.2, 0.5]]])
    motion = candidate_motions(source, driving, torch.tensor([[0], [1]]))[:, 2:3]
    torch.testing.assert_close(move(motion, driving[0])[0, 0], source[0], rtol=0, atol=2e-3)


def test_a_similarity_of_the_whole_pose_is_found_by_every_candidate_but_the_first() -> None:
    rng = np.random.default_rng(0)
    driving = rng.uniform(-0.7, 0.7, (5, 2))
    matrix, shift = similarity(0.4, 1.2, (0.1, -0.2))
    source = driving @ matrix.T + shift
    places = torch.from_numpy(rng.uniform(-1, 1, (7, 2)))
    motions = candidate_motions(torch.from_numpy(source)[None], torch.from_numpy(driving)[None], PAIRS)
    moved = move(motions[:, 1:], places)[0]
    wanted = torch.from_numpy(places.numpy() @ matrix.T + shift)
    assert (moved - wanted).abs().max() < 0.02


def test_the_whole_motion_is_the_least_squares_similarity() -> None:
    source, driving = (p.double() for p in poses())
    found = whole_motion(source, driving)
    for b in range(3):
        d, s = driving[b].numpy(), source[b].numpy()
        rows = [[d[k, 0], -d[k, 1], 1, 0] for k in range(5)] + [[d[k, 1], d[k, 0], 0, 1] for k in range(5)]
        a, c, x, y = np.linalg.lstsq(np.array(rows), np.concatenate([s[:, 0], s[:, 1]]), rcond=None)[0]
        length = np.hypot(a, c)
        a, c = np.array([a, c]) / length * np.clip(length, 1 / 3, 3)
        oracle = np.array([[a, -c], [c, a]])
        np.testing.assert_allclose(found[b, :, :2].numpy(), oracle, atol=2e-3)
        if 1 / 3 < length < 3:
            np.testing.assert_allclose(found[b, :, 2].numpy(), [x, y], atol=2e-3)


def test_keypoints_on_one_spot_give_finite_motions_of_bounded_size() -> None:
    same = torch.zeros(1, 5, 2)
    apart, _ = poses(B=1)
    for source, driving in ((same, same), (same, apart), (apart, same)):
        motions = candidate_motions(source, driving, PAIRS)
        assert motions.isfinite().all()
        scale = torch.linalg.det(motions[..., :2]).sqrt()
        assert (scale > 0.33).all() and (scale < 3.01).all()


def test_distances_against_a_loop() -> None:
    keypoints, _ = poses(B=2)
    places = torch.rand(6, 2) * 2 - 1
    found = bone_distances(keypoints, PAIRS, places)
    assert found.shape == (2, 3 + 5, 6)
    steps = torch.linspace(0, 1, 20001)[:, None]
    for b in range(2):
        for p in range(6):
            for e, (i, j) in enumerate(PAIRS.T.tolist()):
                line = keypoints[b, i] + steps * (keypoints[b, j] - keypoints[b, i])
                assert abs((line - places[p]).square().sum(1).min() - found[b, e, p]) < 1e-4
            for k in range(5):
                assert abs((keypoints[b, k] - places[p]).square().sum() - found[b, 3 + k, p]) < 1e-5
