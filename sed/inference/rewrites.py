"""The algebra of the fast form: weights that do in one step what the plain model does in two.

Each rewrite is exact: it changes the order of additions, never what is added. They are computed in
float64, because sums of products of weights would otherwise be rounded twice.

Shapes: C channels in, O channels out, U channels after `up`, P prompts, T the nine taps of a 3 x 3
kernel, M (image, class) pairs, H W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Affine = tuple[Tensor, Tensor]
"""Weight and bias of a layer."""


def affine(layer: nn.Module) -> Affine:
    """Return the weight and bias of a linear layer or a convolution; no bias is zeros.

    The 1 x 1 kernel of a convolution that is a linear layer is taken off.
    """
    weight = layer.get_parameter("weight").detach()
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        weight = weight.flatten(1)
    bias = getattr(layer, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach()


def scale_output(layer: Affine, scale_O: Tensor, shift_O: Tensor | None = None) -> Affine:
    """Fold `scale * layer(x) + shift` into the layer: a layer scale, or a batch norm after it."""
    weight, bias = (part.double() for part in layer)
    scale = scale_O.double()
    bias = scale * bias + (0 if shift_O is None else shift_O.double())
    return (scale.view(-1, *[1] * (weight.ndim - 1)) * weight).float(), bias.float()


def batch_norm_scale(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies by and adds while it learns nothing, both per channel."""
    assert norm.running_var is not None, "the norm counts its statistics"
    assert norm.running_mean is not None, "the norm counts its statistics"
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def stack(layers: Sequence[Affine]) -> Affine:
    """Return one layer whose output is that of several, behind each other."""
    weights, biases = zip(*layers, strict=True)
    return torch.cat(weights), torch.cat(biases)


def with_counters(layer: Affine, num_counters: int) -> Affine:
    """Return the layer with outputs that are always 1: what is summed with them is counted."""
    weight, bias = layer
    nothing = weight.new_zeros(num_counters, weight.shape[1])
    return torch.cat([weight, nothing]), torch.cat([bias, bias.new_ones(num_counters)])


def merge_up(up_CUhw: Tensor, conv_OUhw: Tensor) -> Tensor:
    """Return the 2 x 2 convolution that a 3 x 3 convolution after doubling by `up` amounts to.

    There is no activation between the two, so on the coarse grid they are one linear map: each of
    the four fine cells under a coarse one sees 2 x 2 coarse cells. The result has the four cells as
    groups of output channels, ordered for `spread`.

    Args:
        up_CUhw: Weight of a transposed convolution with kernel 2 and stride 2.
        conv_OUhw: Weight of a 3 x 3 convolution with padding 1 after it.

    Returns:
        merged (4 O, C, 2, 2), to be used with padding 1.
    """
    up, conv = up_CUhw.double(), conv_OUhw.double()
    merged = up.new_zeros(2, 2, len(conv), len(up), 2, 2)
    axis = [(fine, tap, *divmod(fine + tap - 1, 2)) for fine in range(2) for tap in range(3)]
    for fine_y, tap_y, coarse_y, half_y in axis:
        for fine_x, tap_x, coarse_x, half_x in axis:
            merged[1 - fine_y, 1 - fine_x, :, :, coarse_y - fine_y + 1, coarse_x - fine_x + 1] += (
                conv[:, :, tap_y, tap_x] @ up[:, :, half_y, half_x].T
            )
    return merged.flatten(0, 2).float()


def spread(merged_MHWQ: Tensor, out_MHWO: Tensor, add_MHWO: Tensor) -> Tensor:
    """Place the four fine cells of each coarse one and add a map; return out_MHWO.

    Args:
        merged_MHWQ: From the convolution of `merge_up`: one row and column more than the coarse
            grid, four groups of channels.
        out_MHWO: Where to, at twice the coarse grid.
        add_MHWO: What to add; may be one map for all.
    """
    height, width = out_MHWO.shape[1] // 2, out_MHWO.shape[2] // 2
    cells = merged_MHWQ.unflatten(-1, (2, 2, -1))
    for y in range(2):
        for x in range(2):
            cell = cells[:, y : y + height, x : x + width, 1 - y, 1 - x]
            if torch.compiler.is_compiling():  # a compiler knows no `out` that is part of another
                out_MHWO[:, y::2, x::2] = cell + add_MHWO[:, y::2, x::2]
            else:
                torch.add(cell, add_MHWO[:, y::2, x::2], out=out_MHWO[:, y::2, x::2])
    return out_MHWO


def bias_as_channel(up_bias_U: Tensor, conv_OUhw: Tensor) -> Tensor:
    """Return the kernel (O, 1, 3, 3) that, on a map of ones, adds what the bias of `up` adds.

    At the border the 3 x 3 convolution sees fewer cells that have the bias; the padding of the map
    of ones says so.
    """
    kernel = torch.einsum("u,ouyx->oyx", up_bias_U.double(), conv_OUhw.double())
    return kernel.unsqueeze(1).float()


def taps(head: nn.Conv2d) -> Tensor:
    """Return a 3 x 3 head with one output as taps_TC, for `shift_sum`."""
    return head.weight.detach()[0].flatten(1).T.contiguous()


def compose_head(embed: nn.Conv2d, head: nn.Conv2d) -> Affine:
    """Return one convolution from the cosines to the taps of a head on their embedding.

    The weight is (T, P, 7, 7). The sum over the taps comes after it (`shift_sum`) and not into
    the kernel: the head pads the embedding with zeros, not with what the convolution would find
    outside.
    """
    taps_TC = taps(head).double()
    assert embed.bias is not None, "the embedding has a bias"
    weight = torch.einsum("tc,cpyx->tpyx", taps_TC, embed.weight.detach().double())
    return weight.float(), (taps_TC @ embed.bias.detach().double()).float()


def shift_sum(maps_MTHW: Tensor, bias: Tensor) -> Tensor:
    """Return the sum of the nine taps, each taken where it belongs, logits_MHW."""
    height, width = maps_MTHW.shape[2:]
    out_MHW = maps_MTHW[:, 4] + bias
    for tap in (0, 1, 2, 3, 5, 6, 7, 8):
        to_y, from_y = overlap(tap // 3 - 1, height)
        to_x, from_x = overlap(tap % 3 - 1, width)
        out_MHW[:, to_y, to_x] += maps_MTHW[:, tap, from_y, from_x]
    return out_MHW


def overlap(offset: int, size: int) -> tuple[slice, slice]:
    """Return where a shifted axis lands, and from where it comes."""
    return slice(max(0, -offset), size - max(0, offset)), slice(
        max(0, offset), size + min(0, offset)
    )


def positive_features(x: Tensor) -> Tensor:
    """Return elu(x) + 1, computed in the memory of x.

    Written as exp(min(x, 0)) + max(x, 0): on a CPU torch's elu takes 12 times as long.
    """
    below = x.clamp(max=0).exp_()
    return x.clamp_(min=0).add_(below)
