"""The decoder for inference: the plain one's weights, merged, and a few pairs at a time.

Everything lies channels-last, as (M, H, W, C): linear layers and convolutions then read it as it
is. A chunk of pairs goes from one class attention to the next without leaving the cache; what
guides it by the cost map is made anew from the cosines at each level, which is quicker than to
keep it.

What the host does without the device's answer it does ahead of it. A decode waits for a GPU once at
each level where something is rejected, for how many pairs stay of each image (`Pairs.select`): all
shapes follow from that, and so do the programs of `sed.inference.buckets`. Policies that are joined
and act at the same level wait once more for each image and each policy after the first
(`Rejection.keep`). Nothing else here waits: no search for places, no mask as an index, no tensor
made of numbers of the host but by way of `sed.transfers`.

Shapes: B images, M (image, class) pairs, K of them that are kept, P prompts, C channels, O channels
out, G guidance channels, H W cells.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from sed.decoder import NAMES, Decoder, DecoderBlock, Pairs, SpatialMix
from sed.inference.class_attention import FastClassAttention
from sed.inference.kernels import conv_add_, linear
from sed.inference.mlp import Perceptron, SpatialBlock
from sed.inference.parts import Part, over_parts
from sed.inference.rewrites import (
    affine,
    bias_as_channel,
    merge_up,
    scale_output,
    shift_sum,
    spread,
    taps,
)
from sed.rejection import Rejection


class FastHead(nn.Module):
    """A 3 x 3 convolution to one channel: a product with its nine taps, then their shifted sum.

    A convolution kernel for one channel out would do sixteen times the work.
    """

    taps: Tensor
    bias: Tensor

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("taps", taps(plain), persistent=False)
        self.register_buffer("bias", affine(plain)[1], persistent=False)

    def forward(self, x_MHWC: Tensor) -> Tensor:
        """Return logits_MHW."""
        maps_MTL = torch.matmul(self.taps.to(x_MHWC.dtype), x_MHWC.flatten(1, 2).transpose(1, 2))
        return shift_sum(maps_MTL.float().unflatten(2, x_MHWC.shape[1:3]), self.bias)


class FastBlock(nn.Module):
    """One level: `space`, `classes`, then `grow`, where doubling is part of the convolution."""

    merged: Tensor
    image_kernel: Tensor
    cost_kernel: Tensor

    def __init__(self, plain: DecoderBlock) -> None:
        super().__init__()
        self.space = fast_space(plain.space)
        self.classes = FastClassAttention(plain.classes)
        self.fuse = plain.fuse
        kernel = plain.fuse.conv1.weight.detach()
        grown, cost_dim = plain.up.out_channels, kernel.shape[1] - plain.up.in_channels
        by_up, by_image, by_cost = kernel.split(
            [grown, plain.up.in_channels - grown, cost_dim], dim=1
        )
        weight, bias = affine(plain.up)
        parts = {
            "merged": merge_up(weight, by_up),
            "image_kernel": torch.cat([by_image, bias_as_channel(bias, by_up)], 1),
            "cost_kernel": by_cost,
        }
        for name, tensor in parts.items():
            tensor = tensor.contiguous(memory_format=torch.channels_last)
            self.register_buffer(name, tensor, persistent=False)

    def guide(self, image_BGHW: Tensor) -> Tensor:
        """Return the image's part of the first convolution, the same for all classes, _BHWO."""
        ones_B1HW = torch.ones_like(image_BGHW[:, :1])
        guided = F.conv2d(torch.cat([image_BGHW, ones_B1HW], 1), self.image_kernel, padding=1)
        return guided.permute(0, 2, 3, 1).contiguous()

    def grow(self, x_MHWC: Tensor, image_MHWO: Tensor, cost_MHWG: Tensor) -> Tensor:
        """Double the resolution, guided by the image's features and the cost map, x_MHWO."""
        merged_MQHW = F.conv2d(x_MHWC.permute(0, 3, 1, 2), self.merged, padding=1)
        out_MHWO = merged_MQHW.new_empty(*cost_MHWG.shape[:3], len(self.cost_kernel))
        spread(merged_MQHW.permute(0, 2, 3, 1), out_MHWO, image_MHWO)
        out_MOHW = out_MHWO.permute(0, 3, 1, 2)
        conv_add_(out_MOHW, cost_MHWG.permute(0, 3, 1, 2), self.cost_kernel)
        out_MOHW = F.relu(self.fuse.norm1(out_MOHW), inplace=True)
        out_MOHW = F.relu(self.fuse.norm2(self.fuse.conv2(out_MOHW)), inplace=True)
        return out_MOHW.permute(0, 2, 3, 1)


class CostGuidance(nn.Module):
    """One doubling of what guides by the cost map: a linear layer, its four parts put in place."""

    weight: Tensor
    bias: Tensor

    def __init__(self, plain: nn.ConvTranspose2d) -> None:
        super().__init__()
        weight_CGhw, bias_G = affine(plain)
        self.register_buffer("weight", weight_CGhw.permute(2, 3, 1, 0).flatten(0, 2), False)
        self.register_buffer("bias", bias_G.repeat(4), persistent=False)

    def forward(self, cost_MHWC: Tensor) -> Tensor:
        """Return the guidance at twice the resolution, cost_MHWG."""
        cells = linear(cost_MHWC, self.weight, self.bias, "relu").unflatten(-1, (2, 2, -1))
        return cells.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)


class FastDecoder(nn.Module):
    """Three blocks from stride 32 to stride 4; the pairs are embedded on the way in."""

    def __init__(self, plain: Decoder, embed: nn.Conv2d) -> None:
        super().__init__()
        self.embed = embed
        self.image_guidance = plain.image_guidance
        doublings: Any = plain.cost_guidance
        heads: Any = plain.heads
        self.cost_guidance = nn.ModuleList(CostGuidance(up) for up in doublings)
        self.blocks = nn.ModuleList(FastBlock(plain.block(level)) for level in range(3))
        self.heads = nn.ModuleList(FastHead(head) for head in heads)

    def guide_by_image(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the projected encoder features at strides 16, 8 and 4, each image_BGHW."""
        dtype = self.embed.weight.dtype
        return [
            F.relu(project(features.to(dtype)))
            for project, features in zip(self.image_guidance, reversed(pyramid), strict=True)
        ]

    def forward(
        self, scores_MHWP: Tensor, guidance: Sequence[Tensor], pairs: Pairs, rejection: Rejection
    ) -> tuple[Tensor, Pairs]:
        """Return logits_MHW at stride 4 of the pairs that survive the rejection, and these pairs.

        Args:
            scores_MHWP: Cosines of the pairs.
            guidance: From `guide_by_image`.
            pairs: Which pairs these are: those that survived before the first block.
            rejection: What may drop pairs before the second and the third block.
        """
        scores_MHWP = scores_MHWP.to(self.embed.weight.dtype)
        with record_function(NAMES[0]):
            x = self.start(scores_MHWP, pairs)
        for level, image_BGHW in enumerate(guidance):
            rejects = level < 2 and rejection.acts_at(level + 1)
            then = self.after(level, rejects=rejects)
            with record_function(NAMES[level]):
                x, *logits = self.grow(level, x, scores_MHWP, image_BGHW, pairs, then)
            if rejects:
                with record_function("sed: rejection"):
                    split = logits[0].split(pairs.counts)
                    keeps = [rejection.keep(one, level + 1) for one in split]
                    pairs, kept_K = pairs.select(keeps)
                    scores_MHWP, x = scores_MHWP[kept_K], x[kept_K]
                if not len(x):
                    return no_logits(guidance), pairs
                with record_function(NAMES[level + 1]):
                    x = self.mix_space(level + 1, x, pairs)
        return x, pairs

    def after(self, level: int, *, rejects: bool) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """Return what becomes of a grown chunk while it is in the cache.

        After the last block the logits; before a rejection the features and the logits that it
        looks at; else the features after the spatial part of the next block.
        """
        head = self.heads[level + 1]
        if level == 2:
            return lambda x_MHWC: (head(x_MHWC),)
        if rejects:
            return lambda x_MHWC: (x_MHWC, head(x_MHWC))
        space = self.block(level + 1).space
        return lambda x_MHWC: (space(x_MHWC),)

    def mix_space(self, level: int, x_MHWC: Tensor, pairs: Pairs) -> Tensor:
        """Return x after the spatial part of a block, x_MHWC."""
        space = self.block(level).space
        (x_MHWC,) = over_parts(
            lambda part: (space(x_MHWC[part.pairs]),),
            pairs.counts,
            x_MHWC.shape[1:].numel(),
            x_MHWC.device,
        )
        return x_MHWC

    def start(self, scores_MHWP: Tensor, pairs: Pairs) -> Tensor:
        """Return the embedded cost map after the spatial part of the first block, x_MHWC."""

        def start(part: Part) -> tuple[Tensor]:
            cost_MCHW = self.embed(scores_MHWP[part.pairs].permute(0, 3, 1, 2))
            return (self.block(0).space(cost_MCHW.permute(0, 2, 3, 1)),)

        elements = self.embed.out_channels * scores_MHWP[0, ..., 0].numel()
        return over_parts(start, pairs.counts, elements, scores_MHWP.device)[0]

    def grow(
        self,
        level: int,
        x_MHWC: Tensor,
        scores_MHWP: Tensor,
        image_BGHW: Tensor,
        pairs: Pairs,
        then: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """Mix the classes, double the resolution, and do what comes next with each chunk.

        Args:
            level: Of the block.
            x_MHWC: Pairs after the spatial part of the block; its memory is used.
            scores_MHWP: Cosines of the pairs.
            image_BGHW: The image's guidance at this level.
            pairs: Which pairs these are.
            then: What a chunk goes through while it is still in the cache.
        """
        block = self.block(level)
        block.classes(x_MHWC, pairs.counts)
        image_BHWO = block.guide(image_BGHW.to(block.image_kernel.dtype))
        image_M = pairs.image_M

        def grow(part: Part) -> tuple[Tensor, ...]:
            cost = scores_MHWP[part.pairs]
            for guide in self.cost_guidance[: level + 1]:
                cost = guide(cost)
            guided = part.of_image(image_BHWO, image_M)
            return then(block.grow(x_MHWC[part.pairs], guided, cost))

        return over_parts(grow, pairs.counts, image_BHWO[0].numel(), x_MHWC.device)

    def block(self, level: int) -> FastBlock:
        """Return the block that starts at one level."""
        block = self.blocks[level]
        assert isinstance(block, FastBlock), "blocks holds nothing else"
        return block


def no_logits(guidance: Sequence[Tensor]) -> Tensor:
    """Return logits_MHW at stride 4 of no pair: nothing of a batch survived a rejection."""
    finest_BGHW = guidance[-1]
    return finest_BGHW.new_empty(0, *finest_BGHW.shape[2:])


def fast_space(plain: SpatialMix) -> SpatialBlock:
    """Return the spatial part of a block, its layer scale folded into the projection."""
    project = scale_output(affine(plain.project), plain.gamma.detach())
    perceptron = Perceptron(affine(plain.expand), project, "gelu")
    return SpatialBlock(affine(plain.depthwise), plain.norm, perceptron)
