"""What the image encoder says about a batch of images; needs none of the encoder's libraries.

Shapes: B images, C channels, D embedding, G guidance, H W cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What the encoder says about a batch of images."""

    pyramid: tuple[Tensor, Tensor, Tensor]
    """Features at strides 4, 8 and 16: each (B, C, H, W)."""

    embedding_BDHW: Tensor
    """One CLIP embedding per cell of stride 32; not normalised."""

    def __getitem__(self, images: slice) -> "Features":
        """Return the features of some of the images."""
        fine, middle, coarse = (level[images] for level in self.pyramid)
        return Features((fine, middle, coarse), self.embedding_BDHW[images])


@dataclass(frozen=True)
class Essence:
    """All that the decoder needs of a batch of images, far less than `Features`.

    It depends on the weights and not on the classes: enough to label again with other ones.
    """

    embedding_BDHW: Tensor
    """One CLIP embedding per cell of stride 32; not normalised."""

    guidance: tuple[Tensor, Tensor, Tensor]
    """Projected features at strides 16, 8 and 4: each (B, G, H, W)."""

    @classmethod
    def stack(cls, images: Sequence[Sequence[Tensor]]) -> "Essence":
        """Return the batch of several images, given what `split` gives for each."""
        embedding_BDHW, *guidance = (torch.stack(parts) for parts in zip(*images, strict=True))
        coarse, middle, fine = guidance
        return cls(embedding_BDHW, (coarse, middle, fine))

    def split(self) -> list[tuple[Tensor, ...]]:
        """Return the tensors of each image: the embedding, then the guidance of each level."""
        return list(zip(self.embedding_BDHW, *self.guidance, strict=True))
