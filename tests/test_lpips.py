import json
import random
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import figures_in
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from autolink.data.figures import figure_images
from autolink.data.source import Source
from autolink.eval import lpips
from autolink.eval.lpips import LpipsConfig, load_lpips, psnr
from autolink.eval.metrics import l1
from autolink.eval.pairing import matched, pairs_of
from autolink.eval.results import Figure

CPU = torch.device("cpu")

ALEXNET = ((0, 3, 64, 11, 4, 2), (3, 64, 192, 5, 1, 2), (6, 192, 384, 3, 1, 1), (8, 384, 256, 3, 1, 1),
           (10, 256, 256, 3, 1, 1))  # fmt: skip
"""Place, channels in and out, kernel, stride and padding of its convolutions; the pools follow the first two."""


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Tensor]:
    """Weights under torchvision's names; what follows the convolutions is not needed."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for place, width, out, kernel, *_ in ALEXNET:
        convolution = nn.Conv2d(width, out, kernel)
        state |= {f"features.{place}.{name}": value for name, value in convolution.state_dict().items()}
    return state


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command without a real network."""
    monkeypatch.setattr(lpips, "load_distance", lambda *_: l1)


def write(folder: Path, seed: int, count: int = 3, ending: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for n, image in enumerate(figure_images(count, seed, 32)[0]):
        Image.fromarray(image).save(folder / f"{n}{ending}")
    return folder


def results(**options: Any) -> dict[str, Figure]:
    config = LpipsConfig(**options)
    lpips.run(config)
    assert config.json
    return figures_in(config.json)


def naive_lpips(state: dict[str, Tensor], a: Tensor, b: Tensor) -> float:
    """Zhang et al. 2018 written out: unit vectors of each layer, weighted squares, mean over places, sum."""
    import lpips as package

    heads = torch.load(Path(package.__file__).parent / "weights" / "v0.1" / "alex.pth", "cpu", weights_only=True)
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ([-0.03, -0.088, -0.188], [0.458, 0.448, 0.45]))
    maps = []
    for x in (a, b):
        x, found = (x - shift) / scale, []
        for n, (place, *_, stride, padding) in enumerate(ALEXNET):
            if n in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], stride, padding))
            found.append(x)
        maps.append(found)
    total = 0.0
    for n, (f, g) in enumerate(zip(*maps, strict=True)):
        f, g = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (f, g))
        total += ((f - g).square() * heads[f"lin{n}.model.1.weight"]).sum(1).mean().item()
    return total


def test_lpips_equals_a_naive_one(alexnet: dict[str, Tensor], tmp_path: Path) -> None:
    a, b = torch.rand(2, 1, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.save(alexnet, tmp_path / "alex.pth")
    save_file(alexnet, tmp_path / "alex.safetensors")
    for name in ("alex.pth", "alex.safetensors"):
        distance = load_lpips("alex", tmp_path / name, CPU)
        assert distance(a, b).item() == pytest.approx(naive_lpips(alexnet, a, b), rel=1e-4)
    assert distance(a, a).item() == 0
    assert distance(a, b).item() == pytest.approx(distance(b, a).item())
    smallest = lpips.TRUNKS["alex"][2]
    assert torch.isfinite(distance(a[..., :smallest, :smallest], b[..., :smallest, :smallest]))
    with pytest.raises(RuntimeError):
        distance(a[..., : smallest - 1, : smallest - 1], b[..., : smallest - 1, : smallest - 1])


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(2, 3, 4, 4)
    assert psnr(a, a + 0.2).tolist() == pytest.approx([20, 20], abs=1e-4)  # 0.1 of the [0, 1] range
    assert psnr(a, a).isinf().all()


def test_all_pairs_or_some_of_them_without_repetition() -> None:
    names = [f"{n}" for n in range(9)]
    assert len(list(pairs_of(names, 36, 0))) == 36
    some = list(pairs_of(names, 20, 0))
    assert len(set(some)) == 20 and all(a < b for a, b in some)
    assert some == list(pairs_of(names, 20, 0)) != list(pairs_of(names, 20, 1))
    every = {pair for seed in range(40) for pair in pairs_of(names, 20, seed)}
    assert every == set(pairs_of(names, 36, 0))
    assert len(list(pairs_of([f"{n:06}" for n in range(100_000)], 3, 0))) == 3


def test_the_command_reports_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real network; the endings may differ."""
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 2, ending=".webp")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["eval/lpips.py", "--real", "a", "--fake", "b", "--json", "x.json"])
    lpips.main()
    assert "feature distance[efficientnet-lite0]" in capsys.readouterr().out
    found, figures = json.loads((tmp_path / "x.json").read_text()), figures_in(tmp_path / "x.json")
    assert list(figures) == ["feature distance[efficientnet-lite0]", "SSIM", "PSNR"]
    assert all(figure.count == 3 for figure in figures.values()) and not found["notes"]
    assert "no LPIPS" in figures["feature distance[efficientnet-lite0]"].protocol
    assert {"lpips", "torch"} <= found["versions"].keys() and found["real"] == "a"


def test_means_over_pairs(plain: None, tmp_path: Path) -> None:
    for n, (left, right) in enumerate(((0, 51), (0, 102), (0, 0))):
        for side, value in (("a", left), ("b", right)):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.new("L", (16, 12), value).save(tmp_path / side / f"{n}.png")
    found = results(real=tmp_path / "a", fake=tmp_path / "b", json=tmp_path / "x.json")
    distance = found["feature distance[efficientnet-lite0]"]
    assert distance.value == pytest.approx(0.2, abs=1e-6) and distance.spread == pytest.approx(np.std([0.2, 0.4, 0]))
    assert found["PSNR"].value == pytest.approx(-10 * np.log10(0.2 * 0.4), abs=1e-4)
    assert (distance.count, found["PSNR"].count) == (3, 2)
    same = results(real=tmp_path / "a", fake=tmp_path / "a", json=tmp_path / "y.json")
    assert [figure.value for figure in same.values()] == [0, 1, None] and same["PSNR"].shown_value == ""


def test_two_files_and_odd_modes(plain: None, tmp_path: Path) -> None:
    """Grey, with alpha, and 16 bits deep: equal to the plain picture."""
    grey = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    rgb = np.repeat(grey[..., None], 3, 2)
    Image.fromarray(rgb).save(tmp_path / "plain.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([rgb, np.full_like(grey, 255)])).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), rgb.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "deep_grey.png"), grey.astype(np.uint16) * 257)
    for name in ("grey", "alpha", "deep", "deep_grey"):
        given = {"real": tmp_path / "plain.png", "fake": tmp_path / f"{name}.png", "json": tmp_path / f"{name}.json"}
        found = results(**given)["SSIM"]
        assert found.count == 1 and found.value == pytest.approx(1, abs=1e-3), name


def test_diversity_is_the_mean_over_structures(plain: None, tmp_path: Path) -> None:
    for folder, values in (("one", (0, 51, 102)), ("two", (0, 51)), ("two/nested", (7, 7))):
        (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
        for n, value in enumerate(values):
            Image.new("L", (8, 8), value).save(tmp_path / "d" / folder / f"{n}.png")
    found = results(fake=tmp_path / "d", diversity=True, json=tmp_path / "x.json")
    means = [(0.2 + 0.2 + 0.4) / 3, 0.2, 0]
    (figure,) = found.values()
    assert figure.value == pytest.approx(np.mean(means)) and figure.spread == pytest.approx(np.std(means))
    assert (figure.count, figure.samples) == (5, "pairs of 7 pictures in 3 structures")
    assert figure.name == "diversity by feature distance[efficientnet-lite0]"


def test_partners_are_found_whatever_the_order(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x", 1)
    write(tmp_path / "b" / "x", 2, ending=".jpg")
    pairs = matched(Source.find(tmp_path / "a"), Source.find(tmp_path / "b"))
    assert pairs == [(f"x/{n}.png", f"x/{n}.jpg") for n in range(3)]


def test_wrong_input_is_told(plain: None, fails: Callable[..., str], tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 1), write(tmp_path / "b", 2)

    def said(code: int, **options: object) -> str:
        given = {"real": a, "fake": b, "json": tmp_path / "out.json", **options}
        told = fails(code, lambda: lpips.run(LpipsConfig(**given)))  # type: ignore[arg-type]
        assert not (tmp_path / "out.json").exists()
        return told

    assert "--diversity" in said(2, real=None)
    assert "--diversity" in said(2, diversity=True)
    assert "--pairs" in said(2, pairs=0)
    assert "--seed" in said(2, seed=-1)
    assert "--features alex or vgg" in said(2, download=True)
    assert "does not exist" in said(2, fake=tmp_path / "none")
    assert "both be pictures" in said(2, real=a / "0.png")
    (tmp_path / "t.txt").write_text("no")
    assert "no picture" in said(2, fake=tmp_path / "t.txt")
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in said(1, fake=tmp_path / "empty")
    fewer = write(tmp_path / "fewer", 3, 2)
    assert "1 of 3 pictures" in said(1, fake=fewer) and "first: 2.png" in said(1, fake=fewer)
    (fewer / "other.png").write_bytes((fewer / "0.png").read_bytes())
    assert "(first: 2.png) and 1 of 3" in said(1, fake=fewer)
    twice = write(tmp_path / "twice", 3)
    (twice / "0.jpg").write_bytes((twice / "0.png").read_bytes())
    assert "several endings" in said(1, fake=twice)
    Image.new("RGB", (32, 40)).save(b / "1.png")
    assert "a/1.png is 32x32 and" in said(1) and "b/1.png is 32x40" in said(1)
    assert "bring both to one size" in said(1, real=None, fake=b, diversity=True)
    (b / "1.png").write_bytes(b"no picture")
    assert "b/1.png cannot be read" in said(1)
    single = tmp_path / "single"
    write(single / "x", 1, 1)
    assert "x holds one picture" in said(1, real=None, fake=single, diversity=True)
    Image.new("RGB", (10, 30)).save(tmp_path / "tiny.png")
    assert "at least 11 px" in said(1, real=tmp_path / "tiny.png", fake=tmp_path / "tiny.png")
    (tmp_path / "mine.json").write_text("mine")
    assert "--overwrite" in said(2, json=tmp_path / "mine.json")


def test_wrong_weights_are_told(
    alexnet: dict[str, Tensor], fails: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_: object) -> None:
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)

    def said(code: int, **options: Any) -> str:
        config = LpipsConfig(fake=tmp_path, real=tmp_path, features="alex", **options)
        return fails(code, lambda: lpips.load_distance(config, CPU))

    missing = said(2)
    for part in ("alexnet-owt-7be5be79.pth", str(tmp_path), "--trunk-weights", "--download", "efficientnet-lite0"):
        assert part in missing
    assert "could not be downloaded" in said(1, download=True)
    path = tmp_path / "w.pth"
    assert "does not exist" in said(2, trunk_weights=path)
    path.write_bytes(b"no weights")
    assert "cannot be read" in said(1, trunk_weights=path)
    torch.save(random.Random(0), path)
    assert "more than tensors" in said(1, trunk_weights=path)
    torch.save({**alexnet, "features.0.weight": torch.zeros(1)}, path)
    assert "does not hold torchvision's AlexNet" in said(1, trunk_weights=path)
    torch.save([1], path)
    assert "does not hold torchvision's AlexNet" in said(1, trunk_weights=path)
