import json
from pathlib import Path
from typing import Any

import pytest
import torch

from autolink import AutoLink, ModelConfig
from autolink.edge_map import edge_pairs
from autolink.errors import UserError
from autolink.generation.translator import PoseTransfer, Translator, in_front
from autolink.generation.translator_config import TranslatorConfig
from autolink.video.layout import Layout

SMALL = TranslatorConfig(keypoints=5, size=32, bones=4, channels=(4, 8, 8), motion_size=16, motion_channels=(8, 8))


def transfer_model(config: TranslatorConfig = SMALL) -> PoseTransfer:
    torch.manual_seed(0)
    stage_one = AutoLink(ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8)))
    translator = Translator(config)
    translator.choose_bones(stage_one.edge_weights.detach())
    translator.remember_layout(Layout((0.1, -0.2), 0.4, (0, 2, 3)))
    return PoseTransfer(stage_one, translator).eval()


def test_shapes_layers_and_paint() -> None:
    model = transfer_model()
    sources, keypoints, driving = torch.rand(2, 3, 3, 32, 32), torch.rand(2, 3, 5, 2), torch.rand(2, 5, 2)
    result = model(sources, keypoints, driving)
    assert result.image.shape == result.moved.shape == result.painted.shape == (2, 3, 32, 32)
    assert result.flow.shape == (2, 3, 16, 16, 2)
    torch.testing.assert_close(result.layers.sum(1), torch.ones(2, 32, 32))
    torch.testing.assert_close(result.weight.sum(1), torch.ones(2, 1, 16, 16))
    mixed = result.layers[:, :1] * result.moved + result.layers[:, 1:2] * sources[:, 0]
    torch.testing.assert_close(result.image, mixed + result.layers[:, 2:] * result.painted)


def test_a_subject_given_once_is_redrawn_as_if_given_for_every_pose() -> None:
    model = transfer_model()
    sources, keypoints, driving = torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 5, 2), torch.rand(4, 5, 2)
    once = model(sources, keypoints, driving)
    each = model(sources.expand(4, -1, -1, -1, -1), keypoints.expand(4, -1, -1, -1), driving)
    torch.testing.assert_close(tuple(once), tuple(each))
    large = torch.rand(1, 2, 3, 48, 48)
    torch.testing.assert_close(once.on(large), each.on(large.expand(4, -1, -1, -1, -1)))


def test_untrained_and_undriven_the_moved_source_is_the_source() -> None:
    model = transfer_model()
    sources, keypoints = torch.rand(2, 1, 3, 32, 32), torch.rand(2, 1, 5, 2) - 0.5
    result = model(sources, keypoints, keypoints[:, 0])
    coarse = torch.nn.functional.interpolate(result.moved, size=(32, 32))
    assert (coarse - sources[:, 0]).abs().max() < 1e-3


def test_the_first_source_hides_the_others_where_it_shows_a_place() -> None:
    """As layers of glass are laid over each other, one by one."""
    visible = torch.rand(2, 3, 1, 4, 4) * 0.98 + 0.01
    left, wanted = torch.ones(2, 1, 4, 4), []
    for n in range(3):
        wanted.append(left * visible[:, n])
        left = left * (1 - visible[:, n])
    weight = in_front(visible)
    torch.testing.assert_close(weight, torch.stack(wanted, 1) / (1 - left)[:, None])
    torch.testing.assert_close(in_front(visible[:, :1]), torch.ones(2, 1, 1, 4, 4))
    torch.testing.assert_close(in_front(torch.zeros(1, 2, 1, 1, 1)).sum(), torch.tensor(1.0))  # seen by none
    sure = torch.tensor([0.999, 0.9, 0.9]).view(1, 3, 1, 1, 1)
    assert in_front(sure)[0, 0].item() > 0.99 and in_front(sure.flip(1))[0, 0].item() < 0.91


def test_one_source_twice_is_that_source() -> None:
    model = transfer_model()
    source, keypoints, driving = torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 5, 2), torch.rand(1, 5, 2)
    once = model(source, keypoints, driving)
    twice = model(source.expand(1, 2, 3, 32, 32), keypoints.expand(1, 2, 5, 2), driving)
    torch.testing.assert_close(once.moved, twice.moved)


def test_the_same_size_gives_the_same_and_larger_copies_a_larger_result() -> None:
    model = transfer_model()
    sources, keypoints, driving = torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 5, 2), torch.rand(1, 5, 2)
    result = model(sources, keypoints, driving)
    torch.testing.assert_close(result.on(sources), result.image)
    smooth = torch.nn.functional.interpolate(sources[0], (96, 96), mode="bilinear", align_corners=True)[None]
    small = torch.nn.functional.interpolate(result.on(smooth), (32, 32), mode="bilinear", align_corners=True)
    assert (small - result.image).abs().mean() < 0.03


def test_every_part_learns() -> None:
    model = transfer_model().train()
    model.translator.mixer.last.weight.data.normal_(std=0.01)
    result = model(torch.rand(2, 1, 3, 32, 32), torch.rand(2, 1, 5, 2), torch.rand(2, 5, 2))
    (result.image - torch.rand(2, 3, 32, 32)).square().mean().backward()
    for name, parameter in model.translator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in model.stage_one.parameters())


def test_bones_are_the_strongest_edges() -> None:
    translator = Translator(SMALL)
    weights = torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.05, 0.6, 0.0, 0.15])
    translator.choose_bones(weights)
    assert translator.pairs.T.tolist() == edge_pairs(5)[:, [1, 3, 5, 7]].T.tolist()


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_gives_the_same(tmp_path: Path, half: bool) -> None:
    model = transfer_model()
    model.save_pretrained(tmp_path / "model", half=half)
    loaded = PoseTransfer.from_pretrained(tmp_path / "model")
    sources, driving = torch.rand(2, 1, 3, 40, 40) * 2 - 1, torch.rand(2, 5, 2)
    difference = (loaded.transfer(sources, driving) - model.transfer(sources, driving)).abs()
    assert difference.max() < 0.2 and difference.mean() < 5e-3 if half else difference.max() == 0
    assert loaded.layout.chosen == (0, 2, 3) and loaded.layout.radius == pytest.approx(0.4, abs=1e-3)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    model = transfer_model()
    model.save_pretrained(tmp_path / "model")
    AutoLink(
        ModelConfig(keypoints=6, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    ).save_pretrained(tmp_path / "model" / "stage_one")
    with pytest.raises(UserError, match="trained for 5 keypoints"):
        PoseTransfer.from_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"holds a stage one .* where a pose transfer is wanted"):
        PoseTransfer.from_pretrained(tmp_path / "model" / "stage_one")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"bones": 0}, "--bones"), ({"bones": 11}, "--bones"), ({"size": 30}, "--size"),
     ({"motion_size": 15}, "motion-size"),
     ({"motion_size": 24}, "divide"), ({"reach": 0.0}, "--reach"), ({"channels": (4,)}, "--channels")],
)  # fmt: skip
def test_configurations_that_cannot_be(change: dict[str, Any], said: str) -> None:
    values = json.loads(json.dumps(SMALL.__dict__)) | change
    with pytest.raises(ValueError, match=said):
        TranslatorConfig(**values)
