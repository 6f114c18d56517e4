"""Each rewrite gives what the layers it stands for give."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sed.inference.rewrites import (
    affine,
    batch_norm_scale,
    bias_as_channel,
    compose_head,
    merge_up,
    positive_features,
    scale_output,
    shift_sum,
    spread,
    stack,
    taps,
    with_counters,
)

CLOSE = {"atol": 2e-6, "rtol": 0}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def test_a_layer_scale_is_part_of_the_layer_before_it():
    layer, scale, x = nn.Linear(5, 7), torch.randn(7), torch.randn(3, 5)
    torch.testing.assert_close(
        F.linear(x, *scale_output(affine(layer), scale)), scale * layer(x), **CLOSE
    )


def test_a_batch_norm_is_part_of_the_convolution_before_it():
    conv, norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.normal_()
    norm.bias.normal_()
    weight, bias = scale_output(affine(conv), *batch_norm_scale(norm))
    x = torch.randn(2, 6, 5, 4)
    folded = F.conv2d(x, weight, bias, padding=1, groups=6)
    torch.testing.assert_close(folded, norm(conv(x)), **CLOSE)


def test_a_convolution_of_one_cell_is_a_linear_layer_and_no_bias_is_zeros():
    conv, x = nn.Conv2d(4, 3, 1, bias=False), torch.randn(2, 4, 5, 5)
    weight, bias = affine(conv)
    assert not bias.any()
    out = F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(out, conv(x), **CLOSE)


def test_stacked_layers_give_their_outputs_behind_each_other():
    first, second, x = nn.Linear(4, 3), nn.Linear(4, 5), torch.randn(2, 4)
    both = F.linear(x, *stack([affine(first), affine(second)]))
    torch.testing.assert_close(both, torch.cat([first(x), second(x)], dim=1), **CLOSE)


def test_counters_are_always_one():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    out = F.linear(x, *with_counters(affine(layer), 2))
    torch.testing.assert_close(out, torch.cat([layer(x), torch.ones(2, 2)], dim=1), **CLOSE)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_doubling_and_a_convolution_are_one_convolution_up_to_the_border(size):
    up, conv = nn.ConvTranspose2d(6, 5, 2, stride=2), nn.Conv2d(5, 4, 3, padding=1, bias=False)
    x = torch.randn(2, 6, *size)
    expected = conv(up(x))
    merged_MQHW = F.conv2d(x, merge_up(up.weight, conv.weight), padding=1)
    ones_11HW = torch.ones(1, 1, *expected.shape[2:])
    constant = F.conv2d(ones_11HW, bias_as_channel(up.bias, conv.weight), padding=1)
    out_MHWO = torch.empty_like(expected).permute(0, 2, 3, 1)
    spread(merged_MQHW.permute(0, 2, 3, 1), out_MHWO, constant.permute(0, 2, 3, 1))
    torch.testing.assert_close(out_MHWO.permute(0, 3, 1, 2), expected, **CLOSE)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 9)])
def test_a_head_is_the_shifted_sum_of_its_taps(size):
    head, x_MCHW = nn.Conv2d(6, 1, 3, padding=1), torch.randn(3, 6, *size)
    maps_MTHW = torch.einsum("tc,mchw->mthw", taps(head), x_MCHW)
    torch.testing.assert_close(shift_sum(maps_MTHW, head.bias), head(x_MCHW).squeeze(1), **CLOSE)


@pytest.mark.parametrize("size", [(2, 3), (9, 12)])
def test_a_head_on_an_embedding_is_one_convolution_and_a_shifted_sum(size):
    embed, head = nn.Conv2d(5, 8, 7, padding=3), nn.Conv2d(8, 1, 3, padding=1)
    scores = torch.randn(2, 5, *size)
    weight, bias = compose_head(embed, head)
    logits = shift_sum(F.conv2d(scores, weight, bias, padding=3), head.bias)
    torch.testing.assert_close(logits, head(embed(scores)).squeeze(1), **CLOSE)


def test_positive_features_are_elu_plus_one():
    x = torch.cat([torch.linspace(-90, 9, 500), torch.tensor([0.0, -0.0, -1e-8, 1e-8])])
    torch.testing.assert_close(positive_features(x.clone()), F.elu(x) + 1, **CLOSE)
