"""The gradual fusion decoder: the cost map grows back to the image, level by level.

Section 3.3 of the SED paper. Each of three blocks mixes space, mixes classes, and doubles the
resolution with the help of the encoder's features and of the cost map.

Shapes: B images, M (image, class) pairs, K of them that are kept, C channels, G guidance channels,
P prompts, H W cells.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from sed.chunks import chunk_length, map_chunks, slices
from sed.class_attention import ClassAttention
from sed.config import SEDConfig
from sed.rejection import Rejection
from sed.transfers import upload

NAMES = tuple(f"sed: decoder to stride {stride}" for stride in (16, 8, 4))
"""Of the levels, for who profiles them."""


@dataclass(frozen=True)
class Pairs:
    """The (image, class) pairs that are still worth work, those of an image behind each other."""

    class_M: Tensor
    """Class index of each pair, ascending within an image."""

    counts: tuple[int, ...]
    """Pairs of each image."""

    @classmethod
    def all(cls, num_images: int, num_classes: int, device: torch.device) -> "Pairs":
        """Pair every image with every class."""
        class_N = torch.arange(num_classes, device=device)
        return cls(class_N.repeat(num_images), (num_classes,) * num_images)

    @property
    def image_M(self) -> Tensor:  # noqa: N802
        """Image index of each pair."""
        counts_B = upload(np.array(self.counts, dtype=np.int64), self.class_M.device)
        images_B = torch.arange(len(self.counts), device=self.class_M.device)
        return images_B.repeat_interleave(counts_B, output_size=len(self.class_M))

    def select(self, keeps: Sequence[Tensor]) -> tuple["Pairs", Tensor]:
        """Return the pairs that stay and their places, kept_K, given one mask for each image.

        How many stay of each image is waited for; with that known, which they are is not.
        """
        counts = torch.stack([keep.sum() for keep in keeps]).tolist()
        kept_K = torch.cat(list(keeps)).nonzero_static(size=sum(counts)).squeeze(1)
        return Pairs(self.class_M[kept_K], tuple(counts)), kept_K


class SpatialMix(nn.Module):
    """A ConvNeXt block with a large kernel: each class looks around in the image."""

    def __init__(self, dim: int, *, kernel_size: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x_MCHW: Tensor) -> Tensor:
        """Return x plus what its neighbourhood adds, x_MCHW."""
        x_MHWC = self.norm(self.depthwise(x_MCHW).permute(0, 2, 3, 1))
        x_MHWC = self.gamma * self.project(F.gelu(self.expand(x_MHWC)))
        return x_MCHW + x_MHWC.permute(0, 3, 1, 2)


class Fuse(nn.Module):
    """Two 3 x 3 convolutions, each normalised in groups of 16 channels."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(out_dim // 16, out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(out_dim // 16, out_dim)

    def forward(self, x_MCHW: Tensor) -> Tensor:
        """Return the fused features, x_MCHW."""
        x_MCHW = F.relu(self.norm1(self.conv1(x_MCHW)))
        return F.relu(self.norm2(self.conv2(x_MCHW)))


class DecoderBlock(nn.Module):
    """Mix space, mix classes, then grow to twice the resolution."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        image_dim: int,
        cost_dim: int,
        kernel_size: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.space = SpatialMix(in_dim, kernel_size=kernel_size)
        self.classes = ClassAttention(in_dim, num_heads=num_heads)
        self.up = nn.ConvTranspose2d(in_dim, in_dim - image_dim, kernel_size=2, stride=2)
        self.fuse = Fuse(in_dim + cost_dim, out_dim)

    def mix(self, x_MCHW: Tensor, counts: Sequence[int], pool: int = 1) -> Tensor:
        """Let each pair see its neighbourhood and the other classes of its image, x_MCHW.

        Where no gradients are recorded, `x_MCHW` itself is changed: that saves a copy.
        """
        if torch.is_grad_enabled():
            return self.classes(self.space(x_MCHW), counts, pool)
        if len(x_MCHW):
            length = chunk_length(4 * x_MCHW[0].numel(), x_MCHW.device)
            for part in slices(len(x_MCHW), length):
                x_MCHW[part] = self.space(x_MCHW[part])
        return self.classes(x_MCHW, counts, pool)

    def grow(self, x_MCHW: Tensor, image_MGHW: Tensor, cost_MGHW: Tensor) -> Tensor:
        """Double the resolution, guided by the image's features and the cost map, x_MCHW."""
        return self.fuse(torch.cat([self.up(x_MCHW), image_MGHW, cost_MGHW], dim=1))


class Decoder(nn.Module):
    """Three blocks from stride 32 to stride 4, with a head before each and one at the end."""

    def __init__(
        self, config: SEDConfig, *, num_prompts: int, encoder_dims: tuple[int, int, int]
    ) -> None:
        super().__init__()
        dims = (config.hidden_dim, *config.decoder_dims)
        cost_dims = (num_prompts, *config.cost_guidance_dims)
        self.image_guidance = nn.ModuleList(
            nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1)
            for in_dim, out_dim in zip(
                reversed(encoder_dims), config.image_guidance_dims, strict=True
            )
        )
        self.cost_guidance = nn.ModuleList(
            nn.ConvTranspose2d(cost_dims[i], cost_dims[i + 1], kernel_size=2, stride=2)
            for i in range(3)
        )
        self.blocks = nn.ModuleList(
            DecoderBlock(
                dims[i],
                dims[i + 1],
                image_dim=config.image_guidance_dims[i],
                cost_dim=config.cost_guidance_dims[i],
                kernel_size=config.kernel_size,
                num_heads=config.num_heads,
            )
            for i in range(3)
        )
        self.heads = nn.ModuleList(nn.Conv2d(dim, 1, kernel_size=3, padding=1) for dim in dims)

    def forward(
        self,
        cost_MCHW: Tensor,
        scores_MPHW: Tensor,
        guidance: Sequence[Tensor],
        pairs: Pairs,
        rejection: Rejection,
    ) -> tuple[Tensor, Pairs]:
        """Return logits_MHW at stride 4 of the pairs that survive the rejection, and these pairs.

        Args:
            cost_MCHW: Embedded cost map of the pairs; its memory is used for the result.
            scores_MPHW: Cosines of the pairs; they guide every block.
            guidance: From `guide_by_image`.
            pairs: Which pairs these are.
            rejection: What may drop pairs before each block.
        """
        x, cost = cost_MCHW, scores_MPHW
        for level, image_BGHW in enumerate(guidance):
            if rejection.acts_at(level):
                with record_function("sed: rejection"), in_float32(x.device, level == 0):
                    logits_MHW = self.head(level, x)
                    keeps = [rejection.keep(one, level) for one in logits_MHW.split(pairs.counts)]
                    pairs, kept_K = pairs.select(keeps)
                    x, cost = x[kept_K], cost[kept_K]
            with record_function(NAMES[level]):
                x = self.block(level).mix(x, pairs.counts)
                x, cost = self.grow(level, x, cost, image_BGHW, pairs.image_M)
        return x.squeeze(1), pairs

    def levels(
        self,
        cost_MCHW: Tensor,
        scores_MPHW: Tensor,
        pyramid: Sequence[Tensor],
        pairs: Pairs,
        pool: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the logits_MHW that the losses need: final, then strides 32, 16 and 8.

        The encoder's features come detached, and the three early heads read detached features:
        they learn to reject without changing what they look at (section 3.4). Where no gradients
        are recorded, the memory of `cost_MCHW` is used for the result.
        """
        x, cost, early = cost_MCHW, scores_MPHW, []
        guidance = self.guide_by_image([features.detach() for features in pyramid])
        for level, image_BGHW in enumerate(guidance):
            early.append(self.head(level, x.detach()))
            block = self.block(level)
            cost = F.relu(self.cost_guidance[level](cost))
            x = block.grow(block.mix(x, pairs.counts, pool), image_BGHW[pairs.image_M], cost)
        return self.head(3, x), early[0], early[1], early[2]

    def guide_by_image(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the projected encoder features at strides 16, 8 and 4, each image_BGHW."""
        return [
            F.relu(project(features))
            for project, features in zip(self.image_guidance, reversed(pyramid), strict=True)
        ]

    def block(self, level: int) -> DecoderBlock:
        """Return the block that starts at one level."""
        block = self.blocks[level]
        assert isinstance(block, DecoderBlock), "blocks holds nothing else"
        return block

    def head(self, level: int, x_MCHW: Tensor) -> Tensor:
        """Return the logits of one level, logits_MHW."""
        return self.heads[level](x_MCHW).squeeze(1)

    def grow(
        self, level: int, x_MCHW: Tensor, cost_MPHW: Tensor, image_BGHW: Tensor, image_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the growing part of a block on a few pairs at a time.

        Returns:
            The grown features and the cost map's guidance for the next block; after the last
            block the logits, and nothing to guide by.
        """
        block = self.block(level)

        def part_of(part: slice) -> tuple[Tensor, Tensor]:
            cost = F.relu(self.cost_guidance[level](cost_MPHW[part]))
            x = block.grow(x_MCHW[part], image_BGHW[image_M[part]], cost)
            return (self.heads[3](x), cost[:, :0]) if level == 2 else (x, cost)

        widest = block.fuse.conv1.in_channels
        cells = 4 * x_MCHW.shape[-1] * x_MCHW.shape[-2]
        grown, guide = map_chunks(part_of, len(x_MCHW), chunk_length(widest * cells, x_MCHW.device))
        return grown, guide


def in_float32(device: torch.device, wanted: bool) -> AbstractContextManager[object]:
    """Turn autocast off where wanted: for the first rejection, which drops the most."""
    return torch.autocast(device.type, enabled=False) if wanted else nullcontext()
