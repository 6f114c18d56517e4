"""The attention over the classes, a block of locations over all classes at a time.

The plain form writes queries, keys, values and sums of every location to memory and reads them
again. Locations do not see each other: here a block of them goes through the whole layer while it
is in the cache, and memory does not grow with the image.

Shapes: M (image, class) pairs, N classes of one image, L locations, C channels, K heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sed.chunks import CUDA_ELEMENTS, slices
from sed.class_attention import EPSILON, ClassAttention
from sed.inference.kernels import linear
from sed.inference.mlp import Perceptron
from sed.inference.parts import bucket_size
from sed.inference.rewrites import affine, positive_features, stack, with_counters

CPU_ELEMENTS = 2**19
"""Elements of the hidden layer of a block of locations on a CPU; measured, as are its likes."""


class FastClassAttention(nn.Module):
    """Let the classes of an image look at each other, in place."""

    look: Tensor
    look_bias: Tensor
    value: Tensor
    value_bias: Tensor
    same_head: Tensor

    def __init__(self, plain: ClassAttention) -> None:
        super().__init__()
        self.norm1, self.norm2 = plain.norm1, plain.norm2
        self.num_heads = plain.num_heads
        look = stack([affine(plain.query), affine(plain.key)])
        value = with_counters(affine(plain.value), plain.num_heads)
        for name, tensor in zip(
            ("look", "look_bias", "value", "value_bias"), (*look, *value), strict=True
        ):
            self.register_buffer(name, tensor, persistent=False)
        mask_CV = head_mask(plain.query.in_features, plain.num_heads).to(value[0])
        self.register_buffer("same_head", mask_CV, persistent=False)
        self.perceptron = Perceptron(affine(plain.expand), affine(plain.project), "relu")

    def forward(self, x_MHWC: Tensor, counts: Sequence[int]) -> None:
        """Add to x what each pair learned from the other classes of its image."""
        elements = CPU_ELEMENTS if x_MHWC.device.type == "cpu" else CUDA_ELEMENTS
        for x_NLC in x_MHWC.flatten(1, 2).split(list(counts)):
            num_classes, num_locations, dim = x_NLC.shape
            if not num_classes:
                continue  # no program for an image of which nothing survived
            length = max(1, elements // (4 * bucket_size(num_classes) * dim))
            for part in slices(num_locations, length):
                x_LNC = x_NLC[:, part].transpose(0, 1).contiguous()
                x_NLC[:, part] += self.mix(x_LNC).transpose(0, 1)

    def mix(self, x_LNC: Tensor, real_N1: Tensor | None = None) -> Tensor:
        """Return the classes of each location after attention and MLP, x_LNC.

        Args:
            x_LNC: Classes of a block of locations.
            real_N1: False for a class that only fills up the shape; see `sed.inference.buckets`.
        """
        x_LNC = x_LNC + self.attend(self.norm1(x_LNC), real_N1)
        return self.perceptron(self.norm2(x_LNC), x_LNC)

    def attend(self, x_LNC: Tensor, real_N1: Tensor | None = None) -> Tensor:
        """Return linear attention over the classes, x_LNC.

        The sums of values and of weights come from one product, by columns of values that are
        always 1. Heads are not cut apart: what meets across two of them is set to zero.
        """
        dim = x_LNC.shape[-1]
        look_LND = positive_features(linear(x_LNC, self.look, self.look_bias).float())
        value_LNV = linear(x_LNC, self.value, self.value_bias).float()
        query_LNC, key_LNC = look_LND.split(dim, dim=-1)
        if real_N1 is not None:
            key_LNC = key_LNC * real_N1
        with torch.autocast(x_LNC.device.type, enabled=False):
            memory_LCV = torch.bmm(key_LNC.transpose(1, 2), value_LNV).mul_(self.same_head)
            found_LNV = torch.bmm(query_LNC, memory_LCV)
        sums_LNC, weight_LNK = found_LNV.split([dim, self.num_heads], dim=-1)
        share_LNKE = sums_LNC.unflatten(-1, (self.num_heads, -1)) / (
            weight_LNK.unsqueeze(-1) + EPSILON
        )
        return share_LNKE.flatten(-2).to(x_LNC.dtype)


def head_mask(dim: int, num_heads: int) -> Tensor:
    """Return 1 where a channel of keys belongs to the head of a value or of a counter, mask_CV."""
    head_C = torch.arange(num_heads).repeat_interleave(dim // num_heads)
    head_V = torch.cat([head_C, torch.arange(num_heads)])
    return (head_C.unsqueeze(1) == head_V).float()
