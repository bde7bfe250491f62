import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_nested import child_of, parent_model
from torch import Tensor

from autolink import generation
from autolink.errors import UsageError, UserError
from autolink.generation.nested import (
    ANSWER,
    Details,
    LocalSource,
    LocalTransfer,
    believable,
    carried,
    laid,
    like_source,
)
from autolink.generation.transfer_options import TransferOptions
from autolink.generation.transfer_video import lost_regions, transfer_video
from autolink.generation.translator import PoseTransfer, Translation, Translator
from autolink.generation.translator_config import TranslatorConfig
from autolink.nested import NestedAutoLink
from autolink.regions import composed, square
from autolink.video.clip import Clip
from autolink.video.motion import write_motion

PARENT = TranslatorConfig(keypoints=4, size=32, bones=3, channels=(8, 8), motion_size=16, motion_channels=(8, 8))
CHILD = TranslatorConfig(keypoints=3, size=16, bones=2, channels=(8, 8), motion_size=8, motion_channels=(8, 8))


@pytest.fixture
def model() -> PoseTransfer:
    parent = parent_model()
    nested = NestedAutoLink(parent, {"mouth": child_of(parent, (False, True))})
    torch.manual_seed(3)
    local = LocalTransfer(nested, {"mouth": Translator(CHILD)})
    return PoseTransfer(parent, Translator(PARENT), local).eval()


def details(keypoints: Tensor, belief: float = 1.0) -> Details:
    return Details([keypoints, keypoints], torch.full((len(keypoints), 2), belief))


def flow_of(motion: Tensor, size: int = 16) -> Translation:
    """What a parent would say that moved a whole picture of [-1, 1] by the inverse of this backward map (2, 3)."""
    axis = torch.linspace(-1, 1, size)
    grid = torch.cartesian_prod(axis, axis).flip(1)
    flow = (grid @ motion[:, :2].T + motion[:, 2]).view(1, 1, size, size, 2)
    none = torch.zeros(1, 3, 4, 4)
    return Translation(none, none, none, none, flow, torch.ones(1, 1, 1, size, size))


def test_a_region_is_carried_as_the_parent_moved_it() -> None:
    c, s = 0.9 * math.cos(0.3), 0.9 * math.sin(0.3)
    backward = torch.tensor([[c, -s, 0.1], [s, c, -0.05]])
    region = square(60, 70, 30).float()
    found = carried(flow_of(backward), region, 101)
    centre = found[0] @ torch.tensor([60.0, 70.0, 1.0])  # where the source's place is in the result
    plane = torch.tensor([60.0, 70.0]) / 50 - 1
    expected = (torch.linalg.solve(backward[:, :2], plane - backward[:, 2]) + 1) * 50
    torch.testing.assert_close(centre, expected, atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.linalg.det(found[0, :, :2]), 1 / torch.tensor(0.81), atol=1e-3, rtol=0)


def test_a_region_that_the_flow_does_not_show_stays() -> None:
    away = flow_of(torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0]]))
    torch.testing.assert_close(carried(away, square(60, 70, 30).float(), 101), torch.eye(2, 3)[None])


def test_a_patch_is_laid_softly_and_leaves_the_rest_untouched() -> None:
    pictures, patches = torch.zeros(2, 3, 40, 40), torch.ones(2, 3, 16, 16)
    maps = torch.stack([square(20, 18, 20)] * 2).float()
    result = laid(pictures, patches, maps, torch.tensor([1.0, 0.5]))
    assert result[0, :, 18, 20].eq(1).all() and result[1, :, 18, 20].eq(0.5).all()
    outside = torch.ones(40, 40, dtype=torch.bool)
    outside[8:29, 10:31] = False
    assert not result[:, :, outside].any() and not pictures.any()
    assert result[0].diff(dim=2).abs().max() < 0.5  # no seam


def test_a_patch_turned_over_is_laid_mirrored() -> None:
    patch = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    plain, mirrored = (
        laid(torch.zeros(1, 3, 41, 41), patch, square(20, 20, 20, flip)[None].float(), torch.ones(1))
        for flip in (False, True)
    )
    torch.testing.assert_close(plain, mirrored.flip(3))


def test_a_patch_beyond_the_border_changes_nothing() -> None:
    pictures = torch.rand(1, 3, 20, 20)
    torch.testing.assert_close(
        laid(pictures, torch.ones(1, 3, 8, 8), square(90, 5, 10)[None].float(), torch.ones(1)), pictures
    )


def test_the_drivers_start_is_its_expression_most_like_the_sources() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.rand(1, 3, 2, generator=generator)
    track = own + torch.rand(30, 3, 2, generator=generator)
    track[10:15] = own + 0.3  # the same, elsewhere in its square
    torch.testing.assert_close(like_source(own, track, torch.ones(30)), own[0] + 0.3)
    doubtful = torch.ones(30)
    doubtful[10:15] = 0
    assert (like_source(own, track, doubtful) - own[0] - 0.3).abs().max() > 0.01


def test_gains_scale_the_expression(model: PoseTransfer) -> None:
    assert model.local
    model.local.parts()[0]["mouth"].whitening.zero_()  # any expression is believed
    own = torch.zeros(1, 3, 2)
    track = torch.zeros(20, 3, 2)
    track[10:] = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, 0.4]])
    shown = [model.local.wanted(details(own), details(track), {"mouth": gain}).keypoints[0] for gain in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(shown[0], torch.zeros(20, 3, 2))
    torch.testing.assert_close(shown[1], ANSWER["mouth"] * track)
    torch.testing.assert_close(shown[2], 2 * ANSWER["mouth"] * track)
    absolute = model.local.wanted(details(own + 0.5), details(track), {}, relative=False).keypoints[0]
    torch.testing.assert_close(absolute, track)


def test_a_pair_goes_up_and_down_alike(model: PoseTransfer) -> None:
    assert model.local
    model.local.parts()[0]["mouth"].whitening.zero_()  # any expression is believed
    still = torch.zeros(12, 3, 2)
    moves = still.clone()
    moves[8:] = torch.tensor([0.2, 0.4])
    seen = Details([still, moves], torch.ones(12, 2))
    one, other = model.local.wanted(details(still[:1]), seen, {"mouth": 1 / ANSWER["mouth"]}).keypoints
    torch.testing.assert_close(one[8:], torch.tensor([0.0, 0.2]).expand(4, 3, 2))
    torch.testing.assert_close(other[8:], torch.tensor([0.2, 0.2]).expand(4, 3, 2))


def test_an_expression_is_driven_no_further_than_any_that_was_seen(model: PoseTransfer) -> None:
    assert model.local
    child = model.local.parts()[0]["mouth"]
    own = child.usual.view(1, 3, 2)
    change = torch.stack([torch.full((3, 2), 0.01), torch.full((3, 2), 5.0)])
    small, large = believable(child, own, change)
    torch.testing.assert_close(small, own[0] + 0.01)
    assert child.belief(large) >= 0.99 and (large - own[0]).norm() > 0.1


def test_what_is_not_believed_is_not_redrawn(model: PoseTransfer) -> None:
    assert model.local
    source = LocalSource(
        torch.rand(1, 3, 40, 40),
        torch.tensor([[[10.0, 12], [30, 12], [20, 32], [20, 20]]]),
        details(torch.rand(1, 3, 2)),
    )
    results, still = torch.rand(2, 3, 40, 40), flow_of(torch.eye(2, 3))
    still = still._replace(flow=still.flow.expand(2, -1, -1, -1, -1))
    lost, sure = (model.local.wanted(source.details, details(torch.rand(2, 3, 2), belief), {}) for belief in (0.0, 1.0))
    torch.testing.assert_close(model.local.compose(results, still, source, lost), results)
    assert (model.local.compose(results, still, source, sure) - results).abs().max() > 1e-3


def test_frames_without_a_subject_have_no_expression(model: PoseTransfer) -> None:
    assert model.local
    points = torch.tensor([[[10.0, 12], [30, 12], [20, 32], [20, 20]]]).repeat(2, 1, 1)
    points[0] = torch.nan
    seen = model.local.look(torch.rand(2, 3, 40, 40) * 2 - 1, points)
    assert seen.beliefs[0].eq(0).all() and seen.keypoints[0][0].isnan().all() and seen.keypoints[0][1].isfinite().all()
    joined = Details.joined([seen])
    assert joined and joined.keypoints[0].isfinite().all()


def test_a_transfer_with_children_is_saved_and_redraws_more(model: PoseTransfer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    again = PoseTransfer.from_pretrained(tmp_path / "model")
    assert again.local and set(again.local.parts()[1]) == {"mouth"}
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    options: dict[str, Any] = {"crop": "none", "motion": "absolute", "pose": 0.0}

    assert again.local.stage_one.named()[0][1].config.mirrored == (False, True)
    again.local.parts()[0]["mouth"].whitening.zero_()  # untrained keypoints are believed
    spread = torch.tensor([[-0.5, -0.4], [0.5, -0.3], [0.1, 0.6], [0.0, 0.0]])
    again.stage_one.keypoints = lambda images: spread.expand(len(images), 4, 2)  # type: ignore[method-assign]
    alone = PoseTransfer(again.stage_one, again.translator).eval()
    parent, whole = (np.stack(list(transfer_video(frames[0], list(frames), one, **options))) for one in (alone, again))
    assert parent.shape == whole.shape and (parent != whole).any()
    assert lost_regions(alone, None, None) == []


def test_a_motion_file_moves_the_head_alone_and_says_so(model: PoseTransfer) -> None:
    assert lost_regions(model, details(torch.rand(1, 3, 2)), None) == [
        "the driver is a motion file, which holds no lips or eyes: the head moves alone"
    ]
    told = lost_regions(model, details(torch.rand(1, 3, 2), 0.0), details(torch.rand(4, 3, 2)))
    assert told == ["mouth of the source cannot be made out and will hardly move by themselves"]


def test_a_translator_without_its_child_is_refused() -> None:
    parent = parent_model()
    with pytest.raises(UserError, match="no such child"):
        LocalTransfer(NestedAutoLink(parent, {}), {"mouth": Translator(CHILD)})


@pytest.mark.parametrize("option", ["lips", "eyes", "pose"])
def test_gains_that_cannot_be_are_refused(option: str) -> None:
    gain: dict[str, Any] = {option: -0.5}
    with pytest.raises(UsageError, match=f"--{option} is a factor from 0 to 3"):
        TransferOptions(**gain)


def test_maps_of_places_turn_over(model: PoseTransfer) -> None:
    assert model.local
    maps = model.local.stage_one.regions(torch.tensor([[[10.0, 12], [30, 12], [20, 32], [20, 20]]]))
    signs = torch.linalg.det(maps[0, :, :, :2])
    assert signs[0] > 0 > signs[1]
    assert composed(maps[0, 1], torch.eye(2, 3)).shape == (2, 3)


def test_lips_and_eyes_travel_in_a_motion_file(tmp_path: Path) -> None:
    source = Path(generation.__file__).parent / "examples" / "face.png"
    clip = Clip.of(source.with_name("face_driver.mp4")).between(0.6, 0.76)
    options: dict[str, Any] = {"model": "faces-transfer", "best_frame": "1"}
    seen = transfer_video(source, clip, **options)
    write_motion(tmp_path / "motion.json", seen.driving.template)
    told = transfer_video(source, tmp_path / "motion.json", **options)
    assert told.driving.details and seen.warnings == told.warnings == []
    shown, again = (np.stack(list(transfer)).astype(float) for transfer in (seen, told))
    still = np.stack(list(transfer_video(source, tmp_path / "motion.json", lips=0, eyes=0, **options)))
    assert np.abs(shown - again).max() <= 2 and np.abs(shown - still).max() > 20
    content = json.loads((tmp_path / "motion.json").read_text())
    content["regions"].pop()
    (tmp_path / "motion.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="holds other regions than the checkpoint's eyes, eyes, mouth"):
        transfer_video(source, tmp_path / "motion.json", **options)
