import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autolink import AutoLink, ModelConfig
from autolink.config import TrainConfig
from autolink.data.images import ImageSet
from autolink.data.landmarks import Annotation
from autolink.data.regions import Region, same_region
from autolink.errors import UsageError, UserError
from autolink.nested import Child, NestedAutoLink, fingerprint
from autolink.regions import MeanLayout, moved, to_pixels
from autolink.train import run

SMALL = ModelConfig(keypoints=4, size=32, detector_channels=(8, 8), decoder_channels=(8, 8))


def parent_model() -> AutoLink:
    torch.manual_seed(0)
    return AutoLink(SMALL).eval()


def child_of(parent: AutoLink, mirrored: tuple[bool, ...] = (False,)) -> Child:
    torch.manual_seed(1)
    model = AutoLink(ModelConfig(keypoints=3, size=16, detector_channels=(8, 8), decoder_channels=(8, 8)))
    known = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(2)) * 0.2
    places = ((0.2, 0.1, 0.6), (-0.2, 0.1, 0.6))[: len(mirrored)]
    layout = MeanLayout(((-0.5, -0.4), (0.5, -0.3), (0.1, 0.6), (0.0, 0.0)), (0.25, 0.25, 0.25, 0.25))
    return Child.of(model, known, places, mirrored, layout, parent)


@pytest.fixture
def nested() -> NestedAutoLink:
    parent = parent_model()
    return NestedAutoLink(parent, {"part": child_of(parent)}).eval()


def test_all_keypoints_lie_in_the_pictures_frame_and_the_graph_has_blocks(nested: NestedAutoLink) -> None:
    images = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    keypoints = nested.detect(images)
    assert keypoints.shape == (2, 7, 2)
    torch.testing.assert_close(keypoints[:, :4], nested.parent.detect(images))
    pairs = nested.pairs
    assert pairs.shape == (2, 6 + 3) and len(nested.edge_weights) == 9
    assert ((pairs < 4).all(0) | (pairs >= 4).all(0)).all()
    torch.testing.assert_close(nested.edge_map(images), nested.draw(keypoints))


def test_the_graph_is_drawn_block_by_block(nested: NestedAutoLink) -> None:
    keypoints = torch.tensor(
        [[[-0.8, -0.8], [-0.2, -0.8], [-0.5, -0.5], [-0.8, -0.2], [0.2, 0.2], [0.8, 0.2], [0.5, 0.8]]]
    )
    drawn, own = nested.draw(keypoints, 64)[0, 0], nested.parent.draw(keypoints[:, :4], 64)[0, 0]
    torch.testing.assert_close(drawn[:26, :26], own[:26, :26])  # the parent's corner
    assert drawn[38, 45] > 1e-3 > own[38, 45]  # on the child's upper edge
    assert drawn[30, 30] < 1e-4  # between the blocks no edge


def test_a_childs_keypoints_are_where_it_sees_them(nested: NestedAutoLink) -> None:
    """They lie within the square that the parent's keypoints place, corner for corner."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    points = to_pixels(nested.parent.detect(images), 64, 64)
    maps = nested.regions(points)
    found = nested.look(images, maps)[0]
    whole = to_pixels(nested.detect(images), 64, 64)
    torch.testing.assert_close(whole[:, 4:], moved(maps[:, 0], found), atol=1e-3, rtol=0)


def test_a_mirrored_pair_shares_one_child() -> None:
    parent = parent_model()
    nested = NestedAutoLink(parent, {"pair": child_of(parent, (False, True))})
    assert nested.owners == ["pair", "pair"]
    picture = torch.rand(1, 3, 41, 41, generator=torch.Generator().manual_seed(4))
    picture = picture + picture.flip(3)
    points = torch.tensor([[[10.0, 12], [30, 12], [20, 32], [20, 20]]])
    child = nested.named()[0][1]
    symmetric = MeanLayout(((-0.5, -0.4), (0.5, -0.4), (0.0, 0.6), (0.0, 0.0)), child.config.layout_weights)
    config = {**vars(child.config), "layout_points": symmetric.points}
    nested.nested["pair"] = type(child)(type(child.config)(**config)).eval()
    one, other = nested.look(picture, nested.regions(points))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_belief_falls_with_strangeness() -> None:
    child = child_of(parent_model())
    usual = child.usual.view(1, 3, 2)
    near = usual + 0.1 * torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(5))
    assert (child.belief(near) == 1).all()
    assert child.belief(usual + 3).item() == 0
    assert child.belief(usual * torch.nan).item() == 0


def test_a_folder_holds_all_and_older_readers_find_the_parent(nested: NestedAutoLink, tmp_path: Path) -> None:
    nested.save_pretrained(tmp_path / "model", half=True)
    images = torch.rand(1, 3, 40, 40) * 2 - 1
    again = NestedAutoLink.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again.detect(images), nested.detect(images), atol=2e-2, rtol=0)
    assert again.named()[0][1].config == nested.named()[0][1].config
    assert AutoLink.from_pretrained(tmp_path / "model").config == SMALL
    assert "places" in json.loads((tmp_path / "model/children/part/config.json").read_text())


def test_a_checkpoint_without_children_is_its_parent(tmp_path: Path) -> None:
    parent = parent_model()
    parent.save_pretrained(tmp_path / "model")
    images = torch.rand(1, 3, 40, 40) * 2 - 1
    torch.testing.assert_close(NestedAutoLink.from_pretrained(tmp_path / "model").detect(images), parent.detect(images))


def test_a_child_of_another_parent_is_refused(nested: NestedAutoLink) -> None:
    torch.manual_seed(7)
    stranger = AutoLink(SMALL)
    assert fingerprint(stranger) != fingerprint(nested.parent)
    with pytest.raises(UserError, match="the child part was trained in another parent"):
        NestedAutoLink(stranger, dict(nested.named()))


@pytest.mark.parametrize("text", ["mouth", "mouth=1,2", "mouth=0,0,-1", "mouth=0,0,nan", "a b=0,0,1", "m=0,0,1,upside"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--region is NAME=x,y,side"):
        Region.parse([text])


def test_a_region_is_read() -> None:
    region = Region.parse(["eyes=-0.3,-0.4,0.5", "eyes=0.3,-0.4,0.5,mirrored"])
    assert region == Region("eyes", ((-0.3, -0.4, 0.5), (0.3, -0.4, 0.5)), (False, True))
    with pytest.raises(UsageError, match="one child is trained at a time"):
        Region.parse(["eyes=0,0,1", "mouth=0,0,1"])


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_command_trains_a_child_in_its_parent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for n in range(6):
        picture = Image.fromarray(rng.integers(0, 255, (40 + n, 48, 3), dtype=np.uint8))
        picture.save(tmp_path / "data" / f"{n}.png")
    parent_model().save_pretrained(tmp_path / "parent")
    run([
        "--nest", str(tmp_path / "parent"), "--region", "part=0,0.2,0.5", "--region", "part=0.3,0,0.5,mirrored",
        "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--keypoints", "3", "--size", "16",
        "--detector-channels", "8", "8", "--decoder-channels", "8", "8", "--steps", "2", "--batch", "4",
        "--feature-size", "16", "--threads", "1", "--precision", "no",
    ])  # fmt: skip
    nested = NestedAutoLink.from_pretrained(tmp_path / "run/nested")
    assert nested.owners == ["part", "part"]
    assert nested.keypoints(torch.rand(1, 3, 40, 50)).shape == (1, 4 + 2 * 3, 2)
    usual = nested.named()[0][1].usual
    assert usual.abs().max() > 0 and usual.isfinite().all()


def test_nest_needs_a_region() -> None:
    with pytest.raises(ValueError, match="--nest PARENT needs --region"):
        TrainConfig(nest="somewhere")


def test_without_parent_a_region_is_the_same_square_of_all_pictures() -> None:
    whole = np.zeros((2, 20, 20, 3), np.uint8)
    whole[..., 0], whole[..., 1] = np.arange(20), np.arange(20)[:, None]
    on_pixel = np.array([[[11, 5]], [[np.nan, np.nan]]], np.float32) / 9.5 - 1
    annotation = Annotation(on_pixel, np.array(["a", "b"]), np.full((2, 2), 9.5, np.float32), np.array([False, True]))
    asked = []

    def load(size: int) -> ImageSet:
        asked.append(size)
        return ImageSet(whole, ["a", "b"], annotation)

    found = same_region(Region.parse(["face=0.2,-0.1,0.8"]), 8, load)
    assert asked == [20] and found.images.shape == (2, 8, 8, 3)
    assert found.images[1][0, 0].tolist() == [8, 5, 0] and found.images[[1, 0]][1][7, 7].tolist() == [15, 12, 0]
    assert found.annotation and found.annotation.test.tolist() == [False, True]
    np.testing.assert_allclose((found.annotation.landmarks[0, 0] + 1) * 3.5, [11 - 8, 5 - 5], atol=1e-5)
    np.testing.assert_allclose(found.annotation.pixels, 3.5, atol=1e-6)


@pytest.mark.parametrize("texts", [["a=0.5,0,1.2"], ["a=0,0,1,mirrored"], ["a=0,0,1", "a=0.1,0,1"]])
def test_without_parent_a_region_is_one_square_within_the_picture(texts: list[str], tmp_path: Path) -> None:
    more = [word for text in texts for word in ("--region", text)]
    with pytest.raises(UsageError, match="one square within the picture"):
        run(["--data", str(tmp_path), *more, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
