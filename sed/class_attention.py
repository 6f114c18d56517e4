"""Linear attention over the classes of one image, at each location by itself.

Shapes: M (image, class) pairs, N classes of one image, C channels, H W cells, L locations,
K heads, E channels of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sed.chunks import chunk_length, slices

EPSILON = 1e-6


class ClassAttention(nn.Module):
    """Let the classes of an image look at each other; the only place where they meet."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, dim)

    def forward(self, x_MCHW: Tensor, counts: Sequence[int], pool: int = 1) -> Tensor:
        """Return x plus what each pair learned from the other classes of its image.

        Without pooling, and where no gradients are recorded, x itself is changed.

        Args:
            x_MCHW: Pairs, those of one image behind each other.
            counts: Pairs of each image; they sum to M.
            pool: Cells averaged along each side before the attention.
        """
        if pool == 1 and not torch.is_grad_enabled():
            self.add_in_parts(x_MCHW, counts)
            return x_MCHW
        size = x_MCHW.shape[2:]
        pooled = F.avg_pool2d(x_MCHW, pool) if pool > 1 else x_MCHW
        mixed = torch.cat([self.mix(image) for image in pooled.split(list(counts))])
        if pool > 1:
            mixed = F.interpolate(mixed, size=size, mode="bilinear", align_corners=True)
        return x_MCHW + mixed

    def add_in_parts(self, x_MCHW: Tensor, counts: Sequence[int]) -> None:
        """Add its mix to x, a few locations of an image at a time: the same in less memory."""
        for x_NCHW in x_MCHW.split(list(counts)):
            num_classes, dim, height, width = x_NCHW.shape
            length = chunk_length(16 * num_classes * dim * width, x_NCHW.device)
            for rows in slices(height, length):
                x_NCHW[:, :, rows] += self.mix(x_NCHW[:, :, rows])

    def mix(self, x_NCHW: Tensor) -> Tensor:
        """Return the classes of one image after attention and MLP, x_NCHW."""
        x_LNC = self.mix_locations(x_NCHW.flatten(2).permute(2, 0, 1))
        return x_LNC.permute(1, 2, 0).unflatten(2, x_NCHW.shape[2:])

    def mix_locations(self, x_LNC: Tensor) -> Tensor:
        """Return the classes of each location after attention and MLP, x_LNC.

        Locations do not see each other, so any part of them may be computed by itself.
        """
        x_LNC = x_LNC + self.attend(self.norm1(x_LNC))
        return x_LNC + self.project(F.relu(self.expand(self.norm2(x_LNC))))

    def attend(self, x_LNC: Tensor) -> Tensor:
        """Return linear attention over the classes, x_LNC."""
        query, key, value = (
            linear(x_LNC).unflatten(-1, (self.num_heads, -1))
            for linear in (self.query, self.key, self.value)
        )
        return linear_attention(query, key, value).flatten(-2)


def linear_attention(query_LNKE: Tensor, key_LSKE: Tensor, value_LSKE: Tensor) -> Tensor:
    """Return attention with the kernel elu + 1, out_LNKE, in time linear in the classes.

    Follows "Transformers are RNNs" (Katharopoulos et al., 2020), equation 6; sums are float32.
    """
    query = F.elu(query_LNKE.float()) + 1
    key = F.elu(key_LSKE.float()) + 1
    size = key.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        memory_LKEF = torch.einsum("lske,lskf->lkef", key, value_LSKE.float() / size)
        weight_LNK = torch.einsum("lnke,lke->lnk", query, key.sum(dim=1))
        out_LNKF = torch.einsum("lnke,lkef->lnkf", query, memory_LKEF)
        out_LNKF = out_LNKF * (size / (weight_LNK + EPSILON)).unsqueeze(-1)
    return out_LNKF.to(value_LSKE.dtype)
