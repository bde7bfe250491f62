from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from autolink.data import clips
from autolink.data.figures import figure_clip
from autolink.errors import UserError
from autolink.generation import pairs
from autolink.video.writer import VideoWriter


def views() -> pairs.Views:
    """Two clips of three and four frames and three single pictures; every pixel of picture n is n."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    return pairs.Views(
        images, np.array([0, 3, 7, 8, 9]), np.array([3, 4, 1, 1, 1]), np.array([False, True, False, False, True]), {}
    )


def write_clip(path: Path, frames: int, seed: int = 1) -> Path:
    with VideoWriter(path, Fraction(25)) as writer:
        for frame in figure_clip(frames, seed, 48)[0]:
            writer.write(frame)
    return path


def test_pairs_stay_within_their_group_and_out_of_the_held_out() -> None:
    known = views()
    groups = np.flatnonzero(~known.test)
    seen: set[tuple[int, int]] = set()
    bent = 0
    for step in range(100):
        drawn = pairs.draw_pairs(known, groups, 8, True, np.random.default_rng(step))
        seen |= set(zip(drawn.sources[:, 0, 0, 0].tolist(), drawn.targets[:, 0, 0, 0].tolist(), strict=True))
        bent += int(drawn.bend.sum())
    moving = {(a, b) for a, b in seen if a < 3}
    assert moving == {(a, b) for a in range(3) for b in range(3)}
    assert seen - moving == {(7, 7), (8, 8)}
    assert bent / 800 == pytest.approx(2 / 5, abs=0.06)  # every picture counts alike


def test_the_same_pose_is_shown_now_and_then() -> None:
    known = views()
    drawn = [pairs.draw_pairs(known, np.array([0]), 16, False, np.random.default_rng(n)) for n in range(200)]
    same = torch.cat([(d.sources == d.targets).flatten(1).all(1) for d in drawn]).float().mean()
    assert same.item() == pytest.approx(pairs.STILL, abs=0.02)


def test_bending_is_smooth_and_nothing_without_noise() -> None:
    axis = torch.linspace(-1, 1, 33)
    picture = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flip(0)[None]  # its own coordinates
    torch.testing.assert_close(pairs.bent(picture, torch.zeros(1, 54)), picture, rtol=0, atol=1e-5)
    noise = torch.zeros(1, 54)
    noise[0, 2] = 1.0  # shift along x
    moved = pairs.bent(picture, noise)[0, :, 16, 4:28]
    torch.testing.assert_close(moved[0], axis[4:28] + 0.15, rtol=0, atol=1e-4)
    torch.manual_seed(0)
    flow = pairs.bent(picture, torch.rand(1, 54) * 2 - 1)[0, :, 8:24, 8:24]
    assert flow.diff(dim=1).abs().max() < 0.2 and flow.diff(dim=2).abs().max() < 0.2  # 0.0625 unbent


def test_single_pictures_are_bent_in_two_ways_and_clips_are_not() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 255, (3, 16, 16, 3), dtype=torch.uint8)
    drawn = pairs.Pairs(images, images.clone(), torch.tensor([True, True, False]), torch.tensor([False, True, False]))
    sources, targets = pairs.to_views(drawn, torch.device("cpu"), np.random.default_rng(0))
    plain = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    assert (sources[0] - targets[0]).abs().mean() > 0.1 and (sources[0] - plain[0]).abs().mean() > 0.1
    torch.testing.assert_close(sources[1], targets[1])
    torch.testing.assert_close(sources[2], plain[2])


def test_a_folder_of_videos_and_pictures(tmp_path: Path, pictures: Path) -> None:
    for n in range(5):
        write_clip(tmp_path / f"{n}.mp4", 6, n)
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    found = pairs.load_views(str(tmp_path), 32)
    assert found.lengths.tolist() == [6] * 5 and found.test.tolist() == [False, False, False, True, False]
    assert set(found.skipped) == {"broken.mp4"} and found.images.shape == (30, 32, 32, 3)
    (tmp_path / "faces").symlink_to(pictures / "images")
    both = pairs.load_views(str(tmp_path), 32)
    assert len(both) == 5 + 24 and (both.lengths[5:] == 1).all()
    alone = pairs.load_views(str(pictures), 32)
    assert alone.lengths.sum() == 24 and alone.lengths[alone.test].sum() == 8  # the annotation's test people


def test_pictures_of_one_person_in_one_place_are_one_scene() -> None:
    """As a naive chain of neighbours finds them; who is unknown stands alone."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 255, (3, 1, 24, 24, 3)).repeat(4, 1)
    images = np.clip(places + rng.integers(-20, 20, places.shape), 0, 255).reshape(12, 24, 24, 3).astype(np.uint8)
    identity = np.array(["a", "a", "a", "", "a", "a", "b", "b", "b", "b", "b", "b"])
    found = [scene.tolist() for scene in pairs.scenes(images, identity)]
    assert found == [[0, 1, 2], [3], [4, 5], [6, 7], [8, 9, 10, 11]]


def test_long_clips_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.arange(100, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    monkeypatch.setattr(clips, "read_frames", lambda path: iter(frames))
    kept = clips.read_clip(tmp_path / "any.mp4", 16, 8)[:, 0, 0, 0].astype(int)
    assert len(kept) == 8 and kept[0] == 0 and kept[-1] >= 80
    assert np.diff(kept).min() >= 8


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        pairs.check_views(str(tmp_path / "no"))
    with pytest.raises(UserError, match="holds no pictures"):
        pairs.check_views(str(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"none of the videos.*broken\.mp4"):
        pairs.load_views(str(tmp_path), 32)


def test_rendered_people_keep_clothes_and_place() -> None:
    found = pairs.rendered_views(3, 1, 32)
    assert found.test.tolist() == [False, False, False, True] and found.images.shape == (16, 32, 32, 3)
    people = found.images.reshape(4, 4, 32, 32, 3).astype(float)
    corners = people[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean(2)  # background
    assert np.abs(corners - corners[:, :1]).mean() < 0.3 * np.abs(corners - corners[:1]).mean()
