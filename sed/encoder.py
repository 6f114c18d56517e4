"""The image encoder: an open_clip ConvNeXt gives a pyramid of features and a dense embedding.

Shapes: B images, C channels, D embedding, H W pixels or cells.
"""

from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from timm.models import build_model_with_cfg, register_model
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sed.config import SEDConfig
from sed.features import Features

NANO = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "convnext_zepto_bn",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 256,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
"""An encoder small enough to bundle: a tiny ConvNeXt and a three-layer text transformer."""

ENCODERS: dict[str, dict[str, Any]] = {"nano": NANO}
"""Encoders of our own, in open_clip's configuration format."""


@register_model
def convnext_zepto_bn(pretrained: bool = False, **options: Any) -> ConvNeXt:  # noqa: ANN401
    """Build a ConvNeXt-Zepto that learns from nothing within an hour on two CPU cores.

    It has batch norms instead of layer norms, kernels of 3 instead of 7, a stem of overlapping
    convolutions and a layer scale that starts at 1 instead of 1e-6.
    """
    sizes: dict[str, Any] = {
        "depths": (2, 2, 4, 2),
        "dims": (32, 64, 128, 256),
        "kernel_sizes": 3,
        "stem_type": "overlap_tiered",
        "norm_layer": "batchnorm2d",
        "conv_mlp": True,
        "ls_init_value": 1.0,
    }
    name = "convnext_zepto_bn"
    sizes |= options | {"pretrained_cfg": {"architecture": name}}
    return build_model_with_cfg(ConvNeXt, name, pretrained, **sizes)


def build_towers(config: SEDConfig) -> CustomTextCLIP:
    """Return open_clip's image and text towers with fresh weights.

    Raises:
        ValueError: `config.encoder` is unknown to open_clip and to `ENCODERS`.
    """
    sizes = encoder_sizes(config.encoder)
    regularisation = {"timm_drop_path": config.drop_path, "timm_drop": config.head_dropout}
    return CustomTextCLIP(
        sizes["embed_dim"],
        vision_cfg=CLIPVisionCfg(**{**sizes["vision_cfg"], **regularisation}),
        text_cfg=CLIPTextCfg(**sizes["text_cfg"]),
    )


def encoder_sizes(name: str) -> dict[str, Any]:
    """Return the configuration of an encoder, in open_clip's format.

    Raises:
        ValueError: It is unknown to open_clip and to `ENCODERS`.
    """
    sizes = ENCODERS.get(name) or open_clip.get_model_config(name)
    if sizes is None:
        raise ValueError(f"unknown encoder {name!r}")
    return sizes


class ImageEncoder(nn.Module):
    """Run the ConvNeXt of CLIP without pooling, so that every cell gets an embedding."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.set_constants(torch.get_default_device())

    def set_constants(self, device: torch.device) -> None:
        """Fill the buffers that no checkpoint holds: CLIP's statistics, for pixels in [0, 1]."""
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        for name, values in (("mean", mean), ("std", std)):
            buffer = torch.tensor(values, device=device).view(1, 3, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, images_B3HW: Tensor) -> Features:
        """Encode images with pixels in [0, 1]; H and W are multiples of 32."""
        trunk: Any = self.visual.trunk
        x = trunk.stem((images_B3HW - self.mean) / self.std)
        levels = []
        for stage in trunk.stages:
            x = stage(x)
            levels.append(x)
        fine, middle, coarse, last = levels
        return Features((fine, middle, coarse), self.embed(last))

    def embed(self, last_BCHW: Tensor) -> Tensor:
        """Apply the CLIP head to every cell as if it were a whole image, embedding_BDHW."""
        visual: Any = self.visual
        normed_BCHW = visual.trunk.head.norm(visual.trunk.norm_pre(last_BCHW))
        return visual.head(normed_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
