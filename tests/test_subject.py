import itertools
import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autolink.data.picture import to_pixels
from autolink.video.crop import Crop, parse_crop
from autolink.video.following import Followed, describe_absence, filled, follow
from autolink.video.layout import SMALLEST_VARIANCE, Layout, Shape
from autolink.video.motion import smooth, smoothing_reach
from autolink.video.subject import Detect, find_subject, look

SIZE = 48
COLOURS = np.array([[230, 20, 20], [20, 220, 20], [30, 30, 240], [230, 220, 20]])
SHAPE = np.array([[-1, -0.6], [0.9, -1], [0.2, 0.3], [-0.4, 1.3]])
"""Four discs, the subject; around the origin, of unit size."""
LAYOUT = Layout.measure(SHAPE[None] * 0.4 + [0.1, -0.05])


def noise(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    coarse = rng.integers(60, 190, (5, 6, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def discs(width: int, height: int, points: NDArray[np.floating], radius: float) -> NDArray[np.uint8]:
    """Coloured discs on grey; `points` (4, 2) in pixels."""
    image = np.full((height, width, 3), 120, np.uint8)
    for (x, y), colour in zip((points * 256).round().astype(int).tolist(), COLOURS.tolist(), strict=True):
        cv2.circle(image, (x, y), round(radius * 256), colour, -1, cv2.LINE_AA, shift=8)
    return image


def find_discs(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
    """The centroids of the four colours, (n, 4, 2) in [-1, 1]; a colour that is not there is found in a corner."""
    axis = np.linspace(-1, 1, crops.shape[1])
    found = np.empty((len(crops), 4, 2))
    for n, k in itertools.product(range(len(crops)), range(4)):
        away = np.abs(crops[n].astype(int) - COLOURS[k]).sum(2)
        weight = (150 - away).clip(0)
        if weight.sum() == 0:
            found[n, k] = [-0.9, -0.9]
        else:
            found[n, k] = (weight.sum(0) @ axis / weight.sum(), weight.sum(1) @ axis / weight.sum())
    return found


def test_a_crop_speaks_of_pixels_as_pictures_do() -> None:
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (9, 2))
    for width, height in ((70, 41), (40, 75), (33, 33)):
        crop = Crop.centre(width, height)
        np.testing.assert_allclose(crop.to_pixels(points), to_pixels(points, width, height, "crop"))
    crop = Crop(-3.5, 8.25, 19.75)
    np.testing.assert_allclose(crop.from_pixels(crop.to_pixels(points)), points)
    np.testing.assert_allclose(crop.to_pixels(np.array([[-1, -1], [1, 1]])), [[-3.5, 8.25], [15.25, 27]])


@pytest.mark.parametrize(("x", "y"), [(0, 0), (7, 3), (-6, -2), (30, 25)])
def test_taking_whole_pixels_copies_them(x: int, y: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), mode="edge")
    np.testing.assert_array_equal(Crop(x, y, 32).take(image, 32), padded[y + 40 : y + 72, x + 40 : x + 72])


@pytest.mark.parametrize("size", [24, 61, 150])
@pytest.mark.parametrize("crop", [Crop(20, 10, 100), Crop(33.4, 17.7, 80.3), Crop(-20.3, -8.8, 128.6)])
def test_markers_are_where_the_crop_says(crop: Crop, size: int) -> None:
    axis = np.linspace(-1, 1, size)
    y, x = np.mgrid[:120, :160].astype(float)
    for marker in crop.to_pixels(np.array([[0.0, 0.0], [0.31, 0.4], [-0.3, 0.22]])):
        blob = 255 * np.exp(-((x - marker[0]) ** 2 + (y - marker[1]) ** 2) / 32)
        patch = crop.take(blob.round().astype(np.uint8)[..., None].repeat(3, 2), size)[..., 0].astype(float)
        seen = np.array([patch.sum(0) @ axis, patch.sum(1) @ axis]) / patch.sum()
        np.testing.assert_allclose(crop.to_pixels(seen), marker, atol=0.06)


def test_shrinking_is_the_mean_over_each_sample() -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    patch = Crop(1.5, 1.5, 61).take(image, 16)  # every fourth pixel edge
    blocks = image.reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(patch, blocks, atol=0.51)
    board = np.indices((90, 90)).sum(0) % 2 * 255
    grey = Crop(3.3, 2.6, 77.7).take(board.astype(np.uint8)[..., None].repeat(3, 2), 20)
    assert np.ptp(grey) < 40 and abs(grey.mean() - 127.5) < 3


@pytest.mark.parametrize("size", [20, 64, 100, 333])
@pytest.mark.parametrize("crop", [Crop(10, 20, 64), Crop(10.4, 5.8, 50.7), Crop(-12.3, 30.5, 60.2), Crop(60.5, 60, 90)])
def test_what_is_taken_can_be_pasted_back(crop: Crop, size: int) -> None:
    y, x = np.mgrid[:90, :110]
    image = np.stack([x + y, 20 + 2 * x, 240 - y - x // 2], 2).astype(np.uint8)
    pasted = crop.paste(image, crop.take(image, size), feather=0)
    inside = np.s_[2:-2, 2:-2]  # beyond its border a picture is flat: larger samples see that
    assert np.abs(pasted.astype(int) - image)[inside].max() <= (3 if size == 20 else 2)
    if size == 64 and crop.side == 64:
        np.testing.assert_array_equal(pasted, image)


@pytest.mark.parametrize("crop", [Crop(20, 15, 40), Crop(20.4, 15.6, 40.3), Crop(-15.5, 40, 50), Crop(70, -20.2, 61)])
def test_pasting_touches_nothing_outside_and_fades_inside(crop: Crop) -> None:
    image = np.random.default_rng(3).integers(0, 100, (80, 100, 3), dtype=np.uint8)
    before = image.copy()
    pasted = crop.paste(image, np.full((32, 32, 3), 255, np.uint8), feather=0.1)
    np.testing.assert_array_equal(image, before)
    y, x = np.mgrid[:80, :100]
    depth = np.minimum.reduce([x - crop.x, y - crop.y, crop.x + crop.side - 1 - x, crop.y + crop.side - 1 - y])
    np.testing.assert_array_equal(pasted[depth < 0], image[depth < 0])
    assert (depth >= 0).any() and (pasted[depth > 0.1 * crop.side] == 255).all()
    rim = (depth >= 0) & (depth < 0.03 * crop.side)
    assert pasted[rim].mean() < 200


def test_the_border_is_soft_to_the_same_degree_on_all_sides() -> None:
    black = np.zeros((60, 60, 3), np.uint8)
    pasted = Crop(10, 10, 40).paste(black, np.full((40, 40, 3), 200, np.uint8), feather=0.2)[..., 0].astype(int)
    np.testing.assert_array_equal(pasted, pasted[::-1, ::-1])
    np.testing.assert_array_equal(pasted, pasted.T)
    profile = pasted[30, 10:20]
    t = ((np.arange(10) + 0.5) / 8).clip(0, 1)
    np.testing.assert_allclose(profile, 200 * (3 * t**2 - 2 * t**3), atol=0.51)


def test_no_fading_where_the_picture_ends() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    patch = np.full((20, 20, 3), 9, np.uint8)
    assert (Crop.centre(50, 50).paste(image, patch) == 9).all()
    assert (Crop(-8, -8, 70).paste(image, patch) == 9).all()
    for x in (-0.4, 0, 0.01):
        assert (Crop(x, 10, 30).paste(image, patch, 0.3)[25, 1:15] == 9).all()
    assert (Crop(80, 0, 20).paste(image, patch) == 0).all() and (Crop(0, -40, 20).paste(image, patch) == 0).all()


def test_the_smallest_picture_has_a_crop() -> None:
    image = np.full((1, 5, 3), 77, np.uint8)
    crop = Crop.centre(5, 1)
    assert (crop.take(image, 8) == 77).all() and (crop.paste(image, crop.take(image, 8)) == 77).all()


def test_a_crop_is_moved_and_shrunk_into_the_picture() -> None:
    assert Crop(20, 15, 40).inside(100, 80) == Crop(20, 15, 40)
    assert Crop(-10, 50, 40).inside(100, 80) == Crop(0, 40, 40)
    assert Crop(30, -20, 120).inside(100, 80) == Crop(20, 0, 80)  # about (90, 40), then to the left


def test_boxes_become_squares_about_their_centre() -> None:
    assert parse_crop("10,20,30,30") == Crop(10, 20, 30)
    assert parse_crop(" -4.5, 20,30,50") == Crop(-14.5, 20, 50)
    assert parse_crop("0,0,64,40") == Crop(0, -12, 64)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,1,50", "0,0,-5,50", "0,0,nan,9", "inf,0,9,9"]
)
def test_other_boxes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a crop ") as error:
        parse_crop(text)
    assert repr(text) in str(error.value)


def test_layout_by_loops() -> None:
    keypoints = np.random.default_rng(5).normal(size=(6, 4, 2))
    layout = Layout.measure(keypoints)
    radii = []
    for pose in keypoints:
        middle = sum(pose) / 4
        radii.append(math.sqrt(sum((p - middle) @ (p - middle) for p in pose) / 4))
    np.testing.assert_allclose(layout.centre, keypoints.reshape(-1, 2).mean(0))
    assert layout.radius == pytest.approx(sum(radii) / 6) and layout.chosen == (0, 1, 2, 3)


def test_keypoints_without_a_strong_edge_do_not_count() -> None:
    keypoints = np.random.default_rng(5).normal(size=(6, 4, 2))
    weights = np.array([0.01, 1, 0.5, 0.02, 0.07, 0.3])  # of 01 02 03 12 13 23
    layout = Layout.measure(keypoints, weights)
    assert layout.chosen == (0, 2, 3)
    assert layout == Layout.measure(keypoints, weights * 9)
    kept = Layout.measure(keypoints[:, [0, 2, 3]])
    assert layout.centre == pytest.approx(kept.centre) and layout.radius == pytest.approx(kept.radius)
    keypoints[:, 1] += 50
    assert Layout.measure(keypoints, weights) == layout


def test_keypoints_that_stray_do_not_count() -> None:
    rng = np.random.default_rng(5)
    keypoints = SHAPE[[0, 1, 2, 3, 0]] + rng.normal(scale=0.1, size=(50, 5, 2))
    assert Layout.measure(keypoints).chosen == (0, 1, 2, 3, 4)
    keypoints[:, 4] = rng.uniform(-1.5, 1.5, (50, 2))
    assert Layout.measure(keypoints).chosen == (0, 1, 2, 3)


def test_the_crop_of_a_layout_puts_the_subject_in_it() -> None:
    rng = np.random.default_rng(6)
    layout = Layout((0.2, -0.1), 0.37, (0, 1, 4))
    for _ in range(5):
        points = rng.normal(size=(5, 2)) * rng.uniform(3, 90) + rng.uniform(0, 500, 2)
        crop = layout.crop(*layout.where(points))
        seen = layout.where(crop.from_pixels(points))
        np.testing.assert_allclose(seen[0], layout.centre)
        assert seen[1] == pytest.approx(0.37)


@pytest.mark.parametrize(("width", "height"), [(320, 180), (150, 400), (200, 200)])
@pytest.mark.parametrize("scale", [14, 30])
def test_the_subject_is_found_wherever_it_is(width: int, height: int, scale: float) -> None:
    rng = np.random.default_rng(width + round(scale))
    for _ in range(3):
        points = SHAPE * scale + rng.uniform([50, 50], [width - 50, height - 50])
        subject = find_subject(discs(width, height, points, scale / 4), find_discs, LAYOUT, SIZE)
        wanted = LAYOUT.crop(*LAYOUT.where(points))
        assert subject.settled and subject.doubt < 0.1
        assert subject.crop.side == pytest.approx(wanted.side, rel=0.05)
        assert math.hypot(subject.crop.x - wanted.x, subject.crop.y - wanted.y) < 0.05 * wanted.side


def test_a_subject_in_the_middle_is_found_at_once() -> None:
    looks: list[int] = []

    def detect(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        looks.append(len(crops))
        return find_discs(crops)

    find_subject(discs(160, 120, SHAPE * 20 + [80, 60], 6), detect, LAYOUT, SIZE)
    assert max(looks[:-1]) == 1 and sum(looks) < 25


def corner(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
    return np.broadcast_to([-0.9, -0.9], (len(crops), 4, 2))


def shape_of_the_frame(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
    return np.broadcast_to(SHAPE * 0.5, (len(crops), 4, 2))


def not_finite(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
    return np.full((len(crops), 4, 2), np.nan)


def far_away(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
    return np.broadcast_to(SHAPE * 1e6, (len(crops), 4, 2))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("detect", [corner, shape_of_the_frame, not_finite])
def test_no_subject_is_told_and_the_central_square_taken(detect: Detect) -> None:
    image = noise(np.random.default_rng(7), 160, 90)
    subject = find_subject(image, detect, LAYOUT, 16)
    assert not subject.settled and subject.crop == Crop(35, 0, 90) and subject.doubt > 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("detect", [corner, not_finite, far_away])
def test_no_detector_makes_the_crop_collapse_or_explode(detect: Detect) -> None:
    image = noise(np.random.default_rng(7), 160, 90)
    assert find_subject(image, far_away, LAYOUT, 16).crop.side <= 2 * 160 + 1
    for frame in follow([image] * 20, detect, LAYOUT, Crop(35, 0, 90), 16):
        assert 16 <= frame.crop.side <= 2 * 160 + 1.01
        x, y = frame.crop.to_pixels(np.array(LAYOUT.centre))
        assert -2 < x < 161 and -2 < y < 91  # smoothing may overshoot the bounds a little


def path(frames: int) -> NDArray[np.floating]:
    """Where the discs are in a clip: they cross the picture, turn back and grow; (T, 4, 2) in pixels."""
    t = np.arange(frames)[:, None, None]
    centres = np.concatenate([160 - 100 * np.cos(t / 14), 80 + 20 * np.sin(t / 6)], 2)
    points: NDArray[np.float64] = SHAPE * (16 + 6 * np.sin(t / 9)) + centres
    return points


def clip(points: NDArray[np.floating]) -> Iterator[NDArray[np.uint8]]:
    for now in points:
        yield discs(320, 160, now, 5)


def followed(points: NDArray[np.floating], batch: int, steadiness: float = 3.0) -> list[Followed]:
    first = LAYOUT.crop(*LAYOUT.where(points[0]))
    return list(follow(clip(points), find_discs, LAYOUT, first, SIZE, steadiness, batch))


def test_the_crop_follows_and_keypoints_are_exact() -> None:
    points = path(50)
    frames = followed(points, 16)
    assert len(frames) == 50
    assert np.abs(np.stack([f.keypoints for f in frames]) - points).max() < 1
    for frame, now in zip(frames, points, strict=True):
        assert np.abs(frame.crop.from_pixels(now)).max() < 0.95
    np.testing.assert_array_equal(np.stack([f.image for f in frames]), np.stack(list(clip(points))))


def test_the_crop_s_way_is_the_smoothed_way_of_the_subject() -> None:
    points = path(50)
    found = np.array([[f.crop.x, f.crop.y, f.crop.side] for f in followed(points, 16)])
    where = [LAYOUT.where(now) for now in points]
    steady = smooth(np.array([[*c, math.log(r)] for c, r in where]), 3.0)
    wanted = [LAYOUT.crop(step[:2], math.exp(step[2])) for step in steady]
    np.testing.assert_allclose(found, [[c.x, c.y, c.side] for c in wanted], atol=1.2)


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_batches_change_nothing(batch: int) -> None:
    points = path(30)
    for one, other in zip(followed(points, batch), followed(points, 16), strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-6)
        assert one.crop.side == pytest.approx(other.crop.side)


def test_frames_are_held_only_as_long_as_needed() -> None:
    taken = 0

    def counted() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for frame in clip(path(90)):
            taken += 1
            yield frame

    held = []
    first = LAYOUT.crop(*LAYOUT.where(path(1)[0]))
    for n, _ in enumerate(follow(counted(), find_discs, LAYOUT, first, SIZE, steadiness=2.0, batch=8)):
        held.append(taken - n)
    assert len(held) == 90 and max(held) <= 2 * 8 + smoothing_reach(2.0)


def test_a_fixed_crop_stays() -> None:
    points = path(10)
    fixed = Crop(0, -80, 320)
    frames = list(follow(clip(points), find_discs, None, fixed, 160, batch=4))
    assert {f.crop for f in frames} == {fixed}
    np.testing.assert_allclose(np.stack([f.keypoints for f in frames]), points, atol=1)


def test_a_subject_that_is_gone_for_a_while_leaves_the_crop_where_it_was() -> None:
    points = np.broadcast_to(SHAPE * 20 + [100, 80], (20, 4, 2))

    def detect(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        found = find_discs(crops)
        found[(crops == 120).all((1, 2, 3))] = np.nan
        return found

    frames = [frame if n < 5 else np.full_like(frame, 120) for n, frame in enumerate(clip(points))]
    first = LAYOUT.crop(*LAYOUT.where(points[0]))
    crops = [f.crop for f in follow(frames, detect, LAYOUT, first, SIZE)]
    assert len(crops) == 20 and all(abs(c.side - first.side) < 2 and abs(c.x - first.x) < 2 for c in crops)


def test_no_frames_no_result() -> None:
    for layout in (LAYOUT, None):
        assert not list(follow([], find_discs, layout, Crop(0, 0, 9), SIZE))


def test_strangeness_is_the_mahalanobis_distance_of_the_bare_shape() -> None:
    rng = np.random.default_rng(8)
    poses = SHAPE + rng.normal(scale=0.2, size=(300, 4, 2))
    shape = Shape.measure(poses)
    bare = []
    for pose in poses:
        pose = pose - pose.mean(0)
        bare.append((pose / np.linalg.norm(pose)).ravel())
    covariance = np.cov(np.array(bare).T, bias=True) + SMALLEST_VARIANCE * np.eye(8)
    for pose, flat in zip(poses[:5], bare[:5], strict=True):
        away = flat - np.mean(bare, 0)
        wanted = away @ np.linalg.inv(covariance) @ away / 8
        assert shape.strangeness(pose) == pytest.approx(wanted)
        assert shape.strangeness(pose * 31 + [400, -20]) == pytest.approx(wanted)
    assert 0.5 < shape.strangeness(poses).mean() < 1 < shape.strangeness(poses[:, ::-1]).min() / 5
    assert shape.strangeness(np.full((4, 2), np.nan)) == np.inf


def test_a_strange_shape_is_doubted_however_steady() -> None:
    steady = Layout.measure(0.4 * SHAPE + 0.4 * np.random.default_rng(9).normal(scale=0.05, size=(100, 4, 2)))
    upside_down = discs(160, 120, SHAPE * [1, -1] * 20 + [80, 60], 6)
    assert look(upside_down, find_discs, steady, SIZE).doubt > 0.2
    assert look(discs(160, 120, SHAPE * 20 + [80, 60], 6), find_discs, steady, SIZE).doubt < 0.1


def flat_then_cut() -> tuple[list[NDArray[np.uint8]], NDArray[np.floating]]:
    """Black frames, discs on a background, then larger discs elsewhere on another."""
    one, other = noise(np.random.default_rng(1), 320, 160) // 3, noise(np.random.default_rng(2), 320, 160) // 3
    frames = [np.zeros_like(one)] * 5
    points = []
    for background, centre, scale in ((one, (80, 80), 20), (other, (230, 70), 30)):
        for n in range(8):
            now = SHAPE * scale + [centre[0] + n, centre[1]]
            drawn = discs(320, 160, now, scale / 4)
            points.append(now)
            frames.append(np.where((drawn == 120).all(2, keepdims=True), background, drawn))
    return frames, np.array(points)


def test_black_frames_and_cuts_are_told_and_the_subject_found_again() -> None:
    frames, points = flat_then_cut()
    found = list(follow(frames, find_discs, LAYOUT, Crop(60, 0, 160), SIZE, batch=4))
    assert [f.state for f in found] == ["empty"] * 5 + ["seen"] * 16
    assert [n for n, f in enumerate(found) if f.cut] == [13]
    track = np.stack([f.keypoints for f in found])
    assert np.isnan(track[:5]).all() and np.abs(track[5:] - points).max() < 2
    np.testing.assert_array_equal(filled(track)[0], track[5])
    assert describe_absence([f.state for f in found], [f.cut for f in found]) == (
        "frames 0-4 show no subject and keep the source's own pose; motion restarts at the cut at 13"
    )


def test_a_lost_subject_is_held_and_searched_for_ever_more_rarely() -> None:
    points = np.broadcast_to(SHAPE * 20 + [100, 80], (40, 4, 2))
    searches: list[int] = []

    def detect(crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        found = find_discs(crops)
        if len(crops) > 16:
            searches.append(len(crops))
        found[(crops[:, :8] == 60).any((1, 2, 3))] = np.nan
        return found

    frames = list(clip(points))
    for n in range(5, 40):
        frames[n] = frames[n].copy()
        frames[n][:] = np.where((frames[n] == 120).all(2, keepdims=True), 60, 110)
    found = list(follow(frames, detect, LAYOUT, LAYOUT.crop(*LAYOUT.where(points[0])), SIZE))
    assert {f.state for f in found[5:]} <= {"held", "empty"} and len(searches) <= 7
    np.testing.assert_array_equal(found[39].keypoints, found[4].keypoints)
