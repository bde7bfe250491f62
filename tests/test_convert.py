"""The authors' checkpoints, against a restatement of their network here and against their own code where it is."""

import importlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autolink import AutoLink
from autolink.convert import ConvertConfig, authors_config, convert, run
from autolink.edge_map import edge_pairs

AUTHORS = os.environ.get("AUTOLINK_AUTHORS_CODE", "")
needs_authors = pytest.mark.skipif(not AUTHORS, reason="AUTOLINK_AUTHORS_CODE names no checkout of the authors' code")

PARAMETERS = {"n_parts": 6, "thick": 2.5e-3, "sklr": 512.0, "image_size": 128, "missing": 0.8, "block": 16}


def halve() -> nn.Module:
    return nn.Upsample(scale_factor=0.5, mode="bilinear", align_corners=False)


def double() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def conv(c_in: int, c_out: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, 3, padding=1)


class Residual(nn.Module):
    def __init__(self, c: int, d: int) -> None:
        super().__init__()
        self.conv_res = nn.Sequential(conv(c, d), halve(), nn.BatchNorm2d(d))
        first = [conv(c, d), halve(), nn.BatchNorm2d(d), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*first, conv(d, d), nn.BatchNorm2d(d))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv_res(x) + self.net(x), 0.2)


class Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


def down(c: int, d: int) -> Block:
    first = [conv(c, d), nn.BatchNorm2d(d), nn.LeakyReLU(0.2)]
    return Block(*first, conv(d, d), nn.BatchNorm2d(d), halve(), nn.LeakyReLU(0.2))


def up(c: int, d: int, convolutions: int) -> Block:
    layers = [double()]
    for n in range(convolutions):
        layers += [conv(d if n else c, d), nn.BatchNorm2d(d), nn.LeakyReLU(0.2)]
    return Block(*layers)


class Restated(nn.Module):
    """The paper's network under the authors' names of weights; keypoints are (row, column)."""

    def __init__(self, K: int) -> None:
        super().__init__()
        self.encoder: Any = nn.Module()  # what is added by name has no type
        self.decoder: Any = nn.Module()
        self.encoder.detector = nn.Module()
        widths = [3, 64, 128, 256, 512]
        self.encoder.detector.conv = nn.Sequential(
            *(Residual(c, d) for c, d in pairwise(widths)),
            up(512, 256, 1), up(256, 128, 1), conv(128, K),
        )  # fmt: skip
        self.decoder.alpha = nn.Parameter(torch.tensor(0.7))
        self.decoder.skeleton_scalar = nn.Parameter((torch.randn(K, K) - 1) / 512)
        self.decoder.down0 = nn.Sequential(conv(4, 64), nn.LeakyReLU(0.2))
        for n, (c, d) in enumerate([(64, 128), (128, 256), (256, 512), (512, 512)], 1):
            self.decoder.add_module(f"down{n}", down(c, d))
        for n, (c, d) in enumerate([(512, 512), (1024, 256), (512, 128), (256, 64)], 1):
            self.decoder.add_module(f"up{n}", up(c, d, 2))
        self.decoder.conv = conv(128, 3)

    def detect(self, images: Tensor) -> Tensor:
        heat = self.encoder.detector.conv(images)
        share = heat.flatten(2).softmax(2).view_as(heat)
        axis = torch.linspace(-1, 1, 32)
        return torch.stack([(share.sum(3) * axis).sum(2), (share.sum(2) * axis).sum(2)], 2)

    def edge_map(self, keypoints: Tensor) -> Tensor:
        axis = torch.linspace(-1, 1, 128)
        pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), 2).view(1, -1, 2)
        layers = []
        for i in range(keypoints.shape[1]):
            for j in range(i + 1, keypoints.shape[1]):
                a, b = keypoints[:, i, None], keypoints[:, j, None]
                t = (((pixels - a) * (b - a)).sum(2) / (b - a).square().sum(2)).clamp(0, 1)[..., None]
                near = (pixels - a - t * (b - a)).square().sum(2)
                weight = F.softplus(self.decoder.skeleton_scalar[i, j] * PARAMETERS["sklr"])
                layers.append(weight * torch.exp(-near / PARAMETERS["thick"]))
        return torch.stack(layers).amax(0).view(-1, 1, 128, 128)

    def decode(self, masked: Tensor, edges: Tensor) -> Tensor:
        d = dict(self.decoder.named_children())
        levels = [d["down0"](torch.cat([masked * self.decoder.alpha, edges], 1))]
        for n in range(1, 5):
            levels.append(d[f"down{n}"](levels[-1]))
        x = levels.pop()
        for n in range(1, 5):
            x = torch.cat([d[f"up{n}"](x), levels.pop()], 1)
        image: Tensor = d["conv"](x)
        return image


def disturb(network: nn.Module, last: nn.Conv2d) -> None:
    """Statistics, scales and biases as after a training: nothing at its initial value, keypoints well apart."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 1.5),
                    (module.weight, 0.7, 1.3), (module.bias, -0.2, 0.2),
                ):  # fmt: skip
                    assert tensor is not None
                    tensor.uniform_(low, high)
            elif isinstance(module, nn.Conv2d):
                assert module.bias is not None
                module.bias.uniform_(-0.2, 0.2)
                nn.init.kaiming_normal_(module.weight, a=0.2)
        last.weight.mul_(2)  # heatmaps with a peak


def save(network: nn.Module, path: Path, **changes: Any) -> Path:
    """As Lightning 1.5 writes it."""
    score = torch.tensor(-20001.0)
    callback = {"monitor": "val_loss", "best_model_score": score, "best_k_models": {"model.ckpt": score}}
    values = {
        "epoch": 7, "global_step": 20001, "pytorch-lightning_version": "1.5.10",
        "state_dict": network.state_dict() | {"vgg_loss.mean": torch.zeros(1, 3, 1, 1)},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": callback},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [], "hparams_name": "kwargs",
        "hyper_parameters": {**PARAMETERS, "dataset": "celeba_wild", "encoder": "encoder"},
    }  # fmt: skip
    torch.save(values | changes, path)
    return path


@pytest.fixture(scope="module")
def restated() -> Restated:
    torch.manual_seed(0)
    network = Restated(6).eval()
    disturb(network, network.encoder.detector.conv[6])
    return network


@torch.no_grad()
def test_keypoints_graph_and_edge_map_agree(restated: Restated, tmp_path: Path) -> None:
    run(ConvertConfig(save(restated, tmp_path / "authors.ckpt"), tmp_path / "model"))
    model = AutoLink.from_pretrained(tmp_path / "model")
    assert "authors.ckpt" in (tmp_path / "model" / "README.md").read_text()
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = restated.detect(images)
    assert expected.std() > 0.1
    keypoints = model.keypoints(images)
    torch.testing.assert_close(keypoints, expected.flip(2), atol=1e-4, rtol=0)
    edges = restated.edge_map(expected)
    torch.testing.assert_close(model.edge_map(images), edges, atol=1e-4, rtol=0)
    first, second = edge_pairs(6)
    weights = F.softplus(restated.decoder.skeleton_scalar * 512)[first, second]
    torch.testing.assert_close(model.edge_weights, weights, atol=1e-6, rtol=0)
    masked = images * (torch.rand(2, 1, 128, 128) > 0.8)
    torch.testing.assert_close(model.decoder(masked, edges), restated.decode(masked, edges), atol=1e-3, rtol=1e-3)


def test_older_lightning_names_its_callbacks_by_class(restated: Restated, tmp_path: Path) -> None:
    """Lightning before 1.5: a class as the key of the callbacks, pickled by name."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    module = type(sys)(names[-1])
    kind = type("ModelCheckpoint", (), {"__module__": names[-1]})
    module.ModelCheckpoint = kind  # type: ignore[attr-defined]
    sys.modules.update({names[0]: type(sys)(names[0]), names[1]: type(sys)(names[1]), names[2]: module})
    try:
        path = save(restated, tmp_path / "old.ckpt", callbacks={kind: {"best_model_path": "x"}})
    finally:
        for name in names:
            del sys.modules[name]
    run(ConvertConfig(path, tmp_path / "model"))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["keypoints"] == 6


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch evil",))


def test_wrong_input_is_told(
    fails: Callable[..., str], restated: Restated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "model"

    def said(code: int, path: Path, **options: Any) -> str:
        return fails(code, lambda: run(ConvertConfig(path, **({"out": out} | options))))

    good = {"state_dict": {}, "hyper_parameters": PARAMETERS}
    torch.save(good | {"extra": Evil()}, "evil.ckpt")
    assert "code in a checkpoint is never run" in said(1, tmp_path / "evil.ckpt")
    assert not (tmp_path / "evil").exists()
    assert "is no file" in said(2, tmp_path / "none.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(b"bad")
    assert "bad.ckpt is damaged" in said(1, tmp_path / "bad.ckpt")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    assert "empty.ckpt is damaged" in said(1, tmp_path / "empty.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps([1]))
    assert "plain.ckpt" in said(1, tmp_path / "plain.ckpt")
    torch.save({"state_dict": {}}, "lacks.ckpt")
    assert "lacks state_dict or hyper_parameters" in said(1, tmp_path / "lacks.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"n_parts": 4}}, "other.ckpt")
    assert "lack the number thick" in said(1, tmp_path / "other.ckpt")
    torch.save(good, "weights.ckpt")
    assert "it lacks encoder.detector" in said(1, tmp_path / "weights.ckpt")
    save(restated, tmp_path / "k.ckpt", hyper_parameters=PARAMETERS | {"n_parts": 5})
    assert "authors' architecture" in said(1, tmp_path / "k.ckpt")
    save(restated, tmp_path / "s.ckpt", hyper_parameters=PARAMETERS | {"image_size": 100})
    assert "multiple of" in said(1, tmp_path / "s.ckpt")
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "no checkpoint; choose" in said(2, tmp_path / "k.ckpt")
    (out / "config.json").write_text("{}")
    assert "--overwrite" in said(2, tmp_path / "k.ckpt")
    assert "is a file" in said(2, tmp_path / "k.ckpt", out=tmp_path / "k.ckpt")


@pytest.fixture
def authors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Imports a module of the authors' `models`; Lightning is only the base class of their training there."""
    import types

    monkeypatch.setitem(sys.modules, "pytorch_lightning", MagicMock())
    for name in ("models", "models.encoder", "models.decoder"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    package = types.ModuleType("models")
    package.__path__ = [str(Path(AUTHORS).resolve() / "models")]
    monkeypatch.setitem(sys.modules, "models", package)
    yield lambda name: importlib.import_module(f"models.{name}")
    for name in ("models.encoder", "models.decoder"):
        sys.modules.pop(name, None)


@needs_authors
@pytest.mark.parametrize("K", [4, 8, 16])
@torch.no_grad()
def test_agrees_with_the_authors_network(K: int, authors: Callable[[str], Any], tmp_path: Path) -> None:
    class Parameters(dict[str, Any]):  # theirs are read both ways
        __getattr__ = dict.__getitem__

    parameters = Parameters(PARAMETERS, n_parts=K)
    torch.manual_seed(K)
    network: Any = nn.Module()
    network.encoder = authors("encoder").Encoder(parameters)
    network.decoder = authors("decoder").Decoder(parameters)
    disturb(network, network.encoder.detector.conv[6])
    network.decoder.skeleton_scalar.copy_((torch.randn(K, K) - 1) / 512)
    network.decoder.alpha.fill_(0.7)
    network.eval()
    run(ConvertConfig(save(network, tmp_path / "a.ckpt", hyper_parameters=dict(parameters)), tmp_path / "model"))
    model = AutoLink.from_pretrained(tmp_path / "model")
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    found = network.encoder({"img": images}, need_masked_img=True)
    decoded = network.decoder(dict(found))
    assert found["keypoints"].std() > 0.1
    torch.testing.assert_close(model.keypoints(images), found["keypoints"].flip(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.edge_map(images), decoded["heatmap"], atol=1e-4, rtol=0)
    first, second = edge_pairs(K)
    matrix = network.decoder.skeleton_scalar_matrix()
    torch.testing.assert_close(model.edge_weights, matrix[first, second], atol=1e-4, rtol=0)
    again = model.decoder(found["damaged_img"], decoded["heatmap"])
    torch.testing.assert_close(again, decoded["img"], atol=1e-3, rtol=1e-3)


def test_every_weight_is_filled_from_theirs(restated: Restated) -> None:
    model = convert(restated.state_dict(), authors_config(PARAMETERS))
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in restated.parameters())
    theirs = sum(p.numel() for n, p in restated.named_parameters() if p.ndim == 4)
    assert sum(p.numel() for p in model.parameters() if p.ndim == 4) == theirs
