"""The image encoder for inference: its ConvNeXt blocks in three fused steps each.

Shapes: B images, C channels, D embedding, H W pixels or cells.
"""

from typing import Any

from torch import Tensor, nn

from sed.encoder import ImageEncoder
from sed.features import Features
from sed.inference.mlp import Perceptron, SpatialBlock
from sed.inference.rewrites import affine, batch_norm_scale, scale_output


class FastImageEncoder(nn.Module):
    """The encoder with other blocks; stem, downsampling and head are the plain ones."""

    mean: Tensor
    std: Tensor
    stem: Any
    head: Any

    def __init__(self, plain: ImageEncoder) -> None:
        super().__init__()
        trunk: Any = plain.visual.trunk
        self.stem = trunk.stem
        self.downsamples = nn.ModuleList(stage.downsample for stage in trunk.stages)
        self.stages = nn.ModuleList(
            nn.Sequential(*(fast_block(block) for block in stage.blocks)) for stage in trunk.stages
        )
        self.norm_pre, self.norm, self.head = trunk.norm_pre, trunk.head.norm, plain.visual.head
        self.register_buffer("mean", plain.mean, persistent=False)
        self.register_buffer("std", plain.std, persistent=False)

    def forward(self, images_B3HW: Tensor) -> Features:
        """Encode images with pixels in [0, 1]; H and W are multiples of 32."""
        x_BCHW = self.stem(((images_B3HW - self.mean) / self.std).to(self.stem[0].weight.dtype))
        levels = []
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x_BHWC = downsample(x_BCHW).permute(0, 2, 3, 1).contiguous()
            x_BCHW = stage(x_BHWC).permute(0, 3, 1, 2)
            levels.append(x_BCHW)
        fine, middle, coarse, last = levels
        normed_BCHW = self.norm(self.norm_pre(last))
        embedding_BHWD = self.head(normed_BCHW.permute(0, 2, 3, 1))
        return Features((fine, middle, coarse), embedding_BHWD.permute(0, 3, 1, 2))


def fast_block(plain: Any) -> SpatialBlock:  # noqa: ANN401  timm's block, of layers by its options
    """Return a block of timm's ConvNeXt with its layer scale and its batch norm folded away."""
    depthwise, norm = affine(plain.conv_dw), plain.norm
    if isinstance(norm, nn.BatchNorm2d):
        depthwise, norm = scale_output(depthwise, *batch_norm_scale(norm)), nn.Identity()
    project = affine(plain.mlp.fc2)
    if plain.gamma is not None:
        project = scale_output(project, plain.gamma.detach())
    return SpatialBlock(depthwise, norm, Perceptron(affine(plain.mlp.fc1), project, "gelu"))
