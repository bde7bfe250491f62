import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autolink import AutoLink, ModelConfig
from autolink.config import PRESETS
from autolink.edge_map import edge_map
from autolink.errors import UserError
from autolink.layers import PooledConv, folded

SMALL = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))


@pytest.fixture
def model() -> AutoLink:
    torch.manual_seed(0)
    return AutoLink(SMALL).eval()


def test_shapes_and_ranges(model: AutoLink) -> None:
    images = torch.rand(2, 3, 50, 40) * 2 - 1
    keypoints = model.keypoints(images)
    assert keypoints.shape == (2, 5, 2) and keypoints.abs().max() <= 1
    assert model.edge_weights.shape == (10,) and (model.edge_weights > 0).all()
    edges = model.edge_map(images)
    torch.testing.assert_close(edges, edge_map(keypoints, model.edge_weights, 32, SMALL.thickness))
    assert model.reconstruct(images, torch.ones(2, 1, 8, 8)).shape == (2, 3, 32, 32)


def test_hidden_blocks_do_not_reach_the_decoder_but_the_edge_map_does(model: AutoLink) -> None:
    images, others = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    hidden = torch.zeros(1, 1, 4, 4)
    keypoints = model.keypoints(images)
    with_same_graph = [
        model.decoder(x * F.interpolate(hidden, size=32), model.draw(keypoints)) for x in (images, others)
    ]
    torch.testing.assert_close(*with_same_graph)
    moved = model.decoder(images * 0, model.draw(keypoints * 0.5 + 0.3))
    assert (moved - with_same_graph[0]).abs().max() > 1e-4


def test_everything_receives_gradient() -> None:
    torch.manual_seed(0)
    model = AutoLink(SMALL)
    output = model(torch.rand(4, 3, 32, 32) * 2 - 1, (torch.rand(4, 1, 8, 8) > 0.5).float(), spread=1.0)
    output.reconstruction.square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_x_comes_first_and_follows_the_picture() -> None:
    """A detector whose heatmap is the picture's brightness finds a bright spot at its (x, y)."""
    detector = AutoLink(replace(SMALL, keypoints=3)).detector
    detector.network = nn.Sequential(nn.AvgPool2d(2))
    images = torch.full((1, 3, 32, 32), -50.0)
    images[:, :, 4:6, 24:26] = 50.0  # near the top, to the right
    x, y = detector(images)[0, 0].tolist()
    assert (x, y) == pytest.approx((12 / 15 * 2 - 1, 2 / 15 * 2 - 1), abs=1e-3)


def test_the_prior_spreads_the_keypoints() -> None:
    torch.manual_seed(0)
    detector = AutoLink(ModelConfig()).detector.eval()
    images = torch.rand(2, 3, 64, 64)
    spread, gathered = detector(images, spread=20.0), detector(images)
    assert spread.std(1).mean() > 1.2 * gathered.std(1).mean()
    assert torch.pdist(spread[0]).min() > 0.1


def test_pooled_convolution_equals_convolution_then_mean() -> None:
    layer = PooledConv(3, 5)
    x = torch.rand(2, 3, 12, 10)
    plain = F.avg_pool2d(F.conv2d(x, layer.weight, padding=1), 2)
    torch.testing.assert_close(layer(x), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_build_and_fit_together(preset: str) -> None:
    config = PRESETS[preset].model
    model = AutoLink(config).eval()
    image = torch.zeros(1, 3, config.size, config.size)
    with torch.no_grad():
        output = model(image, torch.ones(1, 1, 16, 16))
    assert output.reconstruction.shape == image.shape and output.keypoints.shape == (1, config.keypoints, 2)
    assert config.heatmap_size in (32, config.size // 2)


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_is_the_same(model: AutoLink, tmp_path: Path, half: bool) -> None:
    model.save_pretrained(tmp_path / "deep" / "model", half=half)
    assert {p.name for p in (tmp_path / "deep" / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    again = AutoLink.from_pretrained(tmp_path / "deep" / "model")
    assert again.config == SMALL and not again.training
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again.keypoints(images), model.keypoints(images), rtol=0, atol=2e-3 if half else 0)


def test_a_card_is_kept(model: AutoLink, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model", card="mine")
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "mine"


def test_wrong_checkpoints_are_told(model: AutoLink, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint .*nowhere"):
        AutoLink.from_pretrained(tmp_path / "nowhere" / "deep")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        AutoLink.from_pretrained(tmp_path / "empty")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    config, weights = (folder / "config.json").read_text(), (folder / "model.safetensors").read_bytes()

    for change, said in (
        ({"model_type": "translator"}, "where a stage one .* is wanted"),
        ({"keypoints": 1}, "at least 2"),
        ({"keypoints": 6}, "does not fit"),
        ({"colour": 1}, "unknown entries colour"),
    ):
        (folder / "config.json").write_text(json.dumps(json.loads(config) | change))
        with pytest.raises(UserError, match=said):
            AutoLink.from_pretrained(folder)
    (folder / "config.json").write_text("{ no json")
    with pytest.raises(UserError, match="cannot be read"):
        AutoLink.from_pretrained(folder)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="damaged"):
        AutoLink.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="missing"):
        AutoLink.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints": 1}, "--keypoints"),
        ({"thickness": 0.0}, "--thickness"),
        ({"size": 60}, "--size"),
        ({"detector_channels": (8,)}, "--detector-channels"),
        ({"decoder_channels": (8, 0)}, "--de"),
        ({"fit": "pad"}, "--fit"),
    ],
)
def test_impossible_models_are_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig(**change)


def test_folded_networks_compute_the_same_and_the_model_stays() -> None:
    model = AutoLink.from_pretrained("faces")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(3, 3, model.config.size, model.config.size) * 2 - 1
    mask = torch.ones(3, 1, 4, 4)
    fast = folded(model)
    assert not any(isinstance(part, (torch.nn.BatchNorm2d, PooledConv)) for part in fast.detector.modules())
    with torch.no_grad():
        torch.testing.assert_close(fast.keypoints(images), model.keypoints(images), rtol=0, atol=1e-4)
        torch.testing.assert_close(fast.reconstruct(images, mask), model.reconstruct(images, mask), rtol=0, atol=1e-3)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
