import itertools
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autolink.generation.motion import (
    best_frame,
    carried,
    maximum_spanning_tree,
    pose_distance,
    relative,
    retarget,
    shots,
    size_ratio,
)
from autolink.video.motion import Motion, MotionError, radius, read_motion, smooth, smoothing_reach, write_motion


def rotation(angle: float) -> NDArray[np.floating]:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def best_tree_weight(weights: NDArray[np.floating], K: int) -> float:
    """By trying every set of K - 1 edges."""
    pairs = list(itertools.combinations(range(K), 2))
    best = -math.inf
    for chosen in itertools.combinations(range(len(pairs)), K - 1):
        group = list(range(K))
        for e in chosen:
            a, b = (group[k] for k in pairs[e])
            group = [b if g == a else g for g in group]
        if len(set(group)) == 1:
            best = max(best, float(weights[list(chosen)].sum()))
    return best


@pytest.mark.parametrize("K", [2, 3, 5, 6])
def test_tree_is_the_heaviest_of_all(rng: np.random.Generator, K: int) -> None:
    index = {pair: e for e, pair in enumerate(itertools.combinations(range(K), 2))}
    for _ in range(5):
        weights = rng.exponential(size=K * (K - 1) // 2)
        tree = maximum_spanning_tree(weights, K)
        assert tree.shape == (K - 1, 2)
        total = sum(weights[index[min(a, b), max(a, b)]] for a, b in tree.tolist())
        assert total == pytest.approx(best_tree_weight(weights, K))


def test_tree_starts_at_the_heaviest_keypoint_and_parents_come_first(rng: np.random.Generator) -> None:
    K = 12
    weights = rng.exponential(size=K * (K - 1) // 2)
    sums = np.zeros(K)
    for w, (i, j) in zip(weights, itertools.combinations(range(K), 2), strict=True):
        sums[i] += w
        sums[j] += w
    known = {int(sums.argmax())}
    for parent, child in maximum_spanning_tree(weights, K).tolist():
        assert parent in known and child not in known
        known.add(child)
    assert known == set(range(K))


def test_tree_without_any_weight_still_links_all() -> None:
    assert sorted(maximum_spanning_tree(np.zeros(6), 4)[:, 1].tolist()) == [1, 2, 3]


@pytest.mark.parametrize("weights", [np.ones(5), np.array([1, math.nan, 1, 1, 1, 1])])
def test_tree_refuses_other_weights(weights: NDArray[np.floating]) -> None:
    with pytest.raises(ValueError, match="4 keypoints have 6 edges"):
        maximum_spanning_tree(weights, 4)


def test_size_ratio_of_hulls(rng: np.random.Generator) -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1]], float)
    triangle = np.array([[0, 0], [3, 0], [0, 6], [1, 1], [0.5, 0.5]], float)
    assert size_ratio(square, triangle) == pytest.approx(math.sqrt(4 / 9))
    pose = rng.normal(size=(7, 2))
    assert size_ratio(pose @ rotation(1) * 3 + 500, pose) == pytest.approx(3, rel=1e-4)


def test_size_ratio_of_flat_poses_and_points() -> None:
    line = np.array([[0, 0], [1, 0], [2, 0]], float)
    assert size_ratio(line * 5, line) == pytest.approx(5)
    assert size_ratio(line, np.zeros((3, 2))) == 1 == size_ratio(np.zeros((3, 2)), line)


def test_relative_in_closed_form(rng: np.random.Generator) -> None:
    source, driver = rng.normal(size=(5, 2)), rng.normal(size=(4, 5, 2))
    moved = relative(source, driver, 2, adapt_scale=False)
    for t in range(4):
        for k in range(5):
            np.testing.assert_allclose(moved[t, k], source[k] + driver[t, k] - driver[2, k])
    np.testing.assert_allclose(moved[2], source)


def test_relative_adapts_to_a_larger_driver(rng: np.random.Generator) -> None:
    source, driver = rng.normal(size=(5, 2)), rng.normal(size=(4, 5, 2))
    adapted = relative(source, driver, 1, adapt_scale=True)
    np.testing.assert_allclose(relative(source, driver * 3 + [40, -7], 1, adapt_scale=True), adapted, rtol=1e-4)
    assert np.abs(relative(source, driver * 3, 1, adapt_scale=False) - adapted).max() > 0.1
    np.testing.assert_allclose(relative(driver[1], driver, 1, adapt_scale=True), driver)


def chain(K: int) -> NDArray[np.int64]:
    return np.array([(k, k + 1) for k in range(K - 1)])


def test_retarget_keeps_lengths_and_takes_angles(rng: np.random.Generator) -> None:
    source, driver = rng.normal(size=(6, 2)), rng.normal(size=(8, 6, 2))
    tree = maximum_spanning_tree(rng.exponential(size=15), 6)
    moved = retarget(source, driver, tree, 3, adapt_scale=False)
    for t in range(8):
        for parent, child in tree.tolist():
            own, bone = moved[t, child] - moved[t, parent], driver[t, child] - driver[t, parent]
            assert np.hypot(*own) == pytest.approx(np.hypot(*(source[child] - source[parent])))
            assert math.atan2(own[1], own[0]) == pytest.approx(math.atan2(bone[1], bone[0]))
        root = tree[0, 0]
        np.testing.assert_allclose(moved[t, root], source[root] + driver[t, root] - driver[3, root])


def arms(angles: NDArray[np.floating], lengths: list[float]) -> NDArray[np.floating]:
    """Chains of bones from the origin, (T, K, 2)."""
    bones = np.stack([np.cos(angles), np.sin(angles)], 2) * np.array(lengths)[:, None]
    return np.concatenate([np.zeros((len(angles), 1, 2)), bones.cumsum(1)], 1)


def test_retarget_forgets_the_driver_s_proportions(rng: np.random.Generator) -> None:
    angles = rng.uniform(0, 6, (5, 3))
    truth = arms(angles, [1, 1, 1])
    for lengths in ([1.0, 1.0, 1.0], [2.0, 0.5, 1.0]):
        moved = retarget(truth[0], arms(angles, lengths), chain(4), 0, adapt_scale=False)
        np.testing.assert_allclose(moved, truth, atol=1e-12)


def test_retarget_turns_with_the_driver(rng: np.random.Generator) -> None:
    source, driver, R = rng.normal(size=(4, 2)), rng.normal(size=(5, 4, 2)), rotation(0.7)
    once = retarget(source, driver, chain(4), 0, adapt_scale=True)
    turned = retarget(source, driver @ R, chain(4), 0, adapt_scale=True)
    np.testing.assert_allclose(turned - source[0], (once - source[0]) @ R, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_bones_without_length_stay_finite(rng: np.random.Generator) -> None:
    source, driver = rng.normal(size=(4, 2)), rng.normal(size=(5, 4, 2))
    driver[2, 1] = driver[2, 0]
    moved = retarget(source, driver, chain(4), 0, adapt_scale=True)
    np.testing.assert_allclose(moved[2, 1] - moved[2, 0], source[1] - source[0])
    shift = retarget(source, np.full((5, 4, 2), 3.0), chain(4), 0, adapt_scale=True)
    np.testing.assert_allclose(shift, np.broadcast_to(source, shift.shape))
    source[1] = source[0]
    still = retarget(source, driver, chain(4), 0, adapt_scale=True)
    np.testing.assert_allclose(still[:, 1], still[:, 0])


@pytest.mark.parametrize("strength", [0.5, 1, 2.5, 40])
def test_smooth_is_a_weighted_line_fit(rng: np.random.Generator, strength: float) -> None:
    track = rng.normal(size=(30, 3, 2))
    found = smooth(track, strength)
    for t in range(30):
        d = np.arange(30) - t
        weights = np.where(np.abs(d) <= math.ceil(3 * strength), np.exp(-0.5 * (d / strength) ** 2), 0)
        line = np.polyfit(d, track.reshape(30, -1), 1, w=np.sqrt(weights))
        np.testing.assert_allclose(found[t].ravel(), line[1], atol=1e-7)


@pytest.mark.parametrize("strength", [1e-9, 0.02, 0.1])
def test_hardly_any_smoothing_changes_nothing(rng: np.random.Generator, strength: float) -> None:
    track = rng.normal(size=(9, 3, 2))
    np.testing.assert_allclose(smooth(track, strength), track, atol=1e-9)


def test_smooth_is_the_gaussian_mean_inside(rng: np.random.Generator) -> None:
    values = rng.normal(size=40)
    d = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (d / 2) ** 2)
    np.testing.assert_allclose(smooth(values, 2)[6:-6], np.convolve(values, kernel / kernel.sum(), "valid"))


@pytest.mark.parametrize("frames", [1, 2, 3, 25])
def test_smooth_leaves_steady_motion_alone(frames: int) -> None:
    t = np.arange(frames)[:, None, None]
    track: NDArray[np.float64] = np.array([[3.0, -1], [0, 2]]) * t.astype(np.float64) + 7
    np.testing.assert_allclose(smooth(track, 3), track, atol=1e-9)


def test_smooth_has_no_delay_and_calms(rng: np.random.Generator) -> None:
    values = rng.normal(size=(50, 2, 2))
    np.testing.assert_allclose(smooth(values[::-1], 2), smooth(values, 2)[::-1], atol=1e-9)
    np.testing.assert_array_equal(smooth(values, 0), values)
    shake = [np.abs(np.diff(smooth(values, s), axis=0)).mean() for s in (0, 1, 3)]
    assert shake[0] > 2 * shake[1] > 4 * shake[2]


def test_smooth_sees_no_further_than_it_says(rng: np.random.Generator) -> None:
    values = rng.normal(size=(60,))
    reach = smoothing_reach(2.5)
    np.testing.assert_allclose(smooth(values[20 - reach : 30 + reach], 2.5)[reach:-reach], smooth(values, 2.5)[20:30])


@pytest.mark.parametrize("strength", [-1, math.nan, math.inf])
def test_smooth_refuses_other_strengths(strength: float) -> None:
    with pytest.raises(ValueError, match="number of frames"):
        smooth(np.zeros((3, 2)), strength)


def test_pose_distance_by_loops(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(3, 1, 5, 2)), rng.normal(size=(4, 5, 2))
    found = pose_distance(a, b)
    assert found.shape == (3, 4)
    for n, m in itertools.product(range(3), range(4)):
        p, q = a[n, 0] - a[n, 0].mean(0), b[m] - b[m].mean(0)
        p, q = (v / math.sqrt(sum(x * x + y * y for x, y in v) / 5) for v in (p, q))
        assert found[n, m] == pytest.approx(math.sqrt(sum(np.hypot(*d) ** 2 for d in p - q) / 5))


def test_pose_distance_forgets_place_and_size_but_not_rotation(rng: np.random.Generator) -> None:
    pose = rng.normal(size=(6, 2))
    assert pose_distance(pose, pose * 4 + [100, -3]) == pytest.approx(0, abs=1e-9)
    for angle in (0.3, math.pi):  # the chord of the unit circle
        assert pose_distance(pose, pose @ rotation(angle)) == pytest.approx(2 * math.sin(angle / 2))
    assert pose_distance(pose, np.ones((6, 2))) == pytest.approx(1)
    assert float(radius(pose * 4 + 9)) == pytest.approx(4 * float(radius(pose)))


def test_best_frame_is_the_one_of_the_same_shape(rng: np.random.Generator) -> None:
    driver = rng.normal(size=(9, 6, 2))
    assert best_frame(driver[5] * 0.3 + 2, driver) == 5
    assert best_frame(driver[5] + rng.normal(size=(6, 2)) * 0.05, driver) == 5


def test_of_frames_of_one_shape_the_best_is_where_the_subject_mostly_is(rng: np.random.Generator) -> None:
    pose = rng.normal(size=(6, 2))
    places = np.array([[90.0, 0], [1, 1], [-3, 2], [0, 0.5], [2, -80]])
    assert best_frame(pose, pose + places[:, None]) == 1


def test_what_is_not_chosen_is_carried_along(rng: np.random.Generator) -> None:
    pose = rng.normal(size=(7, 2))
    turn = np.array([[0.6, -1.1], [1.1, 0.6]])
    moved = np.stack([pose @ turn.T + np.array([3, -1]), pose + 0.5])
    chosen = [1, 2, 5]
    np.testing.assert_allclose(carried(pose, moved[:, chosen], chosen), moved, atol=1e-12)
    bent = moved[:, chosen] + rng.normal(size=(2, 3, 2))
    np.testing.assert_array_equal(carried(pose, bent, chosen)[:, chosen], bent)
    everything = list(range(7))
    np.testing.assert_array_equal(carried(pose, moved, everything), moved)


def motion(rng: np.random.Generator) -> Motion:
    return Motion(rng.uniform(0, 90, (7, 4, 2)), Fraction(30000, 1001), 100, 90, rng.uniform(0, 1, 6))


def test_written_and_read_again(tmp_path: Path, rng: np.random.Generator) -> None:
    first = motion(rng)
    write_motion(tmp_path / "wave.json", first, {"video": "wave.mp4"})
    again = read_motion(tmp_path / "wave.json")
    np.testing.assert_allclose(again.keypoints, first.keypoints, atol=0.000051)
    assert (again.rate, again.width, again.height) == (Fraction(30000, 1001), 100, 90)
    assert first.weights is not None and again.weights is not None
    np.testing.assert_allclose(again.weights, first.weights, rtol=1e-4)
    assert json.loads((tmp_path / "wave.json").read_text())["video"] == "wave.mp4"
    assert [p.name for p in tmp_path.iterdir()] == ["wave.json"]
    assert again.regions == () and again.beliefs is None


def test_regions_are_written_and_read_again(tmp_path: Path, rng: np.random.Generator) -> None:
    tracks = rng.uniform(-1, 1, (7, 3, 2)), rng.uniform(-1, 1, (7, 5, 2))
    first = replace(motion(rng), regions=tracks, beliefs=rng.uniform(0, 1, (7, 2)))
    write_motion(tmp_path / "talk.json", first.part(2, 6))
    again = read_motion(tmp_path / "talk.json")
    np.testing.assert_allclose(again.keypoints, first.keypoints[2:6], atol=0.000051)
    for read, written in zip((*again.regions, again.beliefs), (*tracks, first.beliefs), strict=True):
        assert read is not None and written is not None
        np.testing.assert_allclose(read, written[2:6], atol=0.000051)


def test_reads_what_detect_writes_for_a_video(tmp_path: Path, tiny_checkpoint: Path) -> None:
    from autolink.data.figures import figure_clip
    from autolink.detect import DetectConfig, run
    from autolink.video.writer import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        for frame in figure_clip(3, 1, 32)[0]:
            writer.write(frame)
    run(DetectConfig(tmp_path / "clip.mp4", tmp_path / "out", str(tiny_checkpoint), device="cpu"))
    found = read_motion(tmp_path / "out" / "keypoints.json")
    content = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    np.testing.assert_array_equal(found.keypoints, content["frames"])
    assert found.keypoints.shape == (3, 5, 2) and found.rate == 25 and (found.width, found.height) == (32, 32)
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights, [edge["weight"] for edge in content["graph"]])


GOOD = {"rate": "25", "width": 9, "height": 8, "frames": [[[0, 1], [2, 3.5]], [[1, 1], [2, 2]]]}


@pytest.mark.parametrize(
    ("rate", "value"), [("25", 25), ("30000/1001", Fraction(30000, 1001)), (12.5, Fraction(25, 2))]
)
def test_rates_that_can_be_read(tmp_path: Path, rate: object, value: Fraction) -> None:
    (tmp_path / "m.json").write_text(json.dumps(GOOD | {"rate": rate}))
    read = read_motion(tmp_path / "m.json")
    assert read.rate == value and read.weights is None and read.keypoints[0, 1].tolist() == [2, 3.5]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hello", "not JSON"), (b"\xff\xfe\x00", "not JSON"), ("[" * 100000, "not JSON"),
        ("[]", "no frames"), ("{}", "no frames"), ({"frames": []}, "no frames"),
        ({"frames": [[[0, 1], [2, 3]], [[1, 1]]]}, "frame 1 has 1 keypoints"),
        ({"frames": [[[0, 1], [2, math.nan]]]}, "frame 0 has a keypoint that is not finite"),
        ({"frames": [[[0, 1], [2, math.inf]]]}, "frame 0 has a keypoint that is not finite"),
        ({"frames": [[[0, 1], [2, None]]]}, "frame 0 is not"),
        ({"frames": [[["0", "1"], ["2", "3"]]]}, "frame 0 is not"),
        ({"frames": [[[0, 1, 2], [2, 3, 4]]]}, "frame 0 is not"), ({"frames": [[[0, 1], [2]]]}, "frame 0 is not"),
        ({"frames": [[[0, 1]]]}, "two keypoints"), ({"frames": [5]}, "frame 0 is not"),
        ({"rate": "0"}, "rate"), ({"rate": "-25"}, "rate"), ({"rate": "1/0"}, "rate"), ({"rate": None}, "rate"),
        ({"rate": "1e999999999"}, "rate"), ({"rate": "nan"}, "rate"),
        ({"width": 0}, "width"), ({"width": "9"}, "width"), ({"height": None}, "height"),
        ({"graph": [{"from": 0, "to": 5, "weight": 1}]}, "links 0 and 5"), ({"graph": 7}, "graph"),
        ({"regions": 7}, "regions"), ({"regions": [{"frames": [[[0, 0]], [[0, 0]]]}]}, "regions"),
        ({"regions": [{"frames": [[[0, 0]]], "beliefs": [1]}]}, "each of the 2 frames"),
        ({"regions": [{"frames": [[[0, 0]], [[0, 0]]], "beliefs": [1, 2]}]}, "outside of 0 to 1"),
        ({"regions": [{"frames": [[[0, 0]], [[0, math.inf]]], "beliefs": [1, 1]}]}, "not finite"),
        ({"graph": [{"from": 0}]}, "graph"), ({"graph": [{"from": 0, "to": 1, "weight": math.nan}]}, "finite"),
    ],
)  # fmt: skip
def test_faults_are_told_in_a_sentence(tmp_path: Path, text: object, fault: str) -> None:
    path = tmp_path / "m.json"
    content = text if isinstance(text, str | bytes) else json.dumps(GOOD | text)  # type: ignore[operator]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MotionError) as error:
        read_motion(path)
    said = str(error.value)
    assert fault in said and "m.json" in said and "\n" not in said and len(said) < len(str(path)) + 200


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=r"none\.json cannot be read"):
        read_motion(tmp_path / "none.json")
    with pytest.raises(MotionError, match="cannot be read"):
        read_motion(tmp_path)


def test_nothing_is_left_of_a_motion_that_cannot_be_written(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "m.json").mkdir()
    with pytest.raises(OSError):
        write_motion(tmp_path / "m.json", motion(rng))
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    with pytest.raises(ValueError, match="frame 0"):
        Motion(np.full((1, 2, 2), math.nan), Fraction(25), 9, 9)


def test_shots_begin_at_cuts() -> None:
    assert shots([False, False, True, False, True]) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert shots([True, False]) == [slice(0, 2)]
