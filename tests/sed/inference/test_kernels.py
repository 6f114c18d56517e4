"""The fused operators give what the public ones give, and do without oneDNN."""

import pytest
import torch
import torch.nn.functional as F

from sed.inference import kernels
from sed.inference.kernels import conv_add_, linear, linear_add

CLOSE = {"atol": 2e-6, "rtol": 0}


@pytest.fixture(params=[True, False], autouse=True)
def with_and_without_onednn(request, monkeypatch):
    if request.param and not kernels.has_onednn():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(kernels, "FUSED", request.param)
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(("then", "plain"), [("none", None), ("relu", F.relu), ("gelu", F.gelu)])
def test_a_linear_layer_with_its_activation(then, plain):
    x, weight, bias = torch.randn(3, 5, 8), torch.randn(6, 8) / 3, torch.randn(6)
    expected = F.linear(x, weight, bias)
    expected = plain(expected) if plain else expected
    torch.testing.assert_close(linear(x, weight, bias, then), expected, **CLOSE)


def test_a_linear_layer_without_bias():
    x, weight = torch.randn(5, 8), torch.randn(6, 8) / 3
    torch.testing.assert_close(linear(x, weight, None), F.linear(x, weight), **CLOSE)


def test_a_linear_layer_with_its_residual():
    x, weight, bias, residual = (torch.randn(*s) for s in ((5, 8), (6, 8), (6,), (5, 6)))
    before = residual.clone()
    expected = residual + F.linear(x, weight, bias)
    torch.testing.assert_close(linear_add(x, weight, bias, residual), expected, **CLOSE)
    assert torch.equal(residual, before)


def test_a_convolution_adds_to_what_is_there():
    layout = {"memory_format": torch.channels_last}
    out, x = torch.randn(2, 4, 6, 7).to(**layout), torch.randn(2, 3, 6, 7).to(**layout)
    weight = torch.randn(4, 3, 3, 3) / 5
    expected = out + F.conv2d(x, weight, padding=1)
    assert conv_add_(out, x, weight) is out
    torch.testing.assert_close(out, expected, **CLOSE)


def test_nothing_gives_nothing():
    assert linear(torch.empty(0, 8), torch.randn(6, 8), torch.randn(6), "gelu").shape == (0, 6)
