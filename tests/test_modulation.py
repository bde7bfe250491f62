"""Adaptive instance normalisation in one function: values and gradients of the formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autolink.generation.modulation import modulated


def formula(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    gain, bias = gain[:, :, None, None], bias[:, :, None, None]
    return F.leaky_relu(F.instance_norm(x) * (1 + gain) + bias, 0.2)


def some(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 6, 7, generator=dice) * 3 + 10  # a mean well away from zero
    gain, bias = torch.randn(2, 2, 5, generator=dice)
    return x.to(dtype), gain.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_formula(layout: torch.memory_format) -> None:
    x, gain, bias = some(torch.float32)
    x = x.contiguous(memory_format=layout)
    torch.testing.assert_close(modulated(x, gain, bias), formula(x, gain, bias), atol=1e-5, rtol=1e-5)


def test_gradients() -> None:
    assert torch.autograd.gradcheck(modulated, tuple(t.requires_grad_() for t in some(torch.float64)))


def test_gradients_where_only_the_style_learns() -> None:
    x, gain, bias = some(torch.float64)
    gain.requires_grad_()
    modulated(x, gain, bias).square().sum().backward()
    other = gain.detach().clone().requires_grad_()
    formula(x, other, bias).square().sum().backward()
    torch.testing.assert_close(gain.grad, other.grad)


def test_half_precision_keeps_its_own_type_and_loses_no_more_than_rounding() -> None:
    exact = [t.requires_grad_() for t in some(torch.float32)]
    half = [t.detach().to(torch.bfloat16).requires_grad_() for t in exact]
    wanted, got = formula(*exact), modulated(*half)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, atol=0.08, rtol=0.02)  # bfloat16 of 10 is off by up to 0.03
    weights = torch.linspace(-1, 1, got.numel()).view_as(got)
    (wanted * weights).sum().backward()
    (got * weights.bfloat16()).sum().backward()
    for a, b in zip(half, exact, strict=True):
        assert a.grad is not None and b.grad is not None and a.grad.dtype == torch.bfloat16
        assert (a.grad.float() - b.grad).norm() < 0.05 * b.grad.norm()


def test_under_autocast_no_part_of_it_is_cast() -> None:
    x, gain, bias = some(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(modulated(x, gain, bias), modulated(*some(torch.bfloat16)))
