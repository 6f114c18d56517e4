"""The image encoder: an open_clip ConvNeXt gives a pyramid of features and a dense embedding.

Shapes: B images, C channels, D embedding, H W pixels or cells.
"""

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

from sed.config import SEDConfig

NANO = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "convnext_zepto_rms",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 256,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
"""An encoder small enough to bundle: ConvNeXt-Zepto and a three-layer text transformer."""

ENCODERS: dict[str, dict[str, Any]] = {"nano": NANO}
"""Encoders of our own, in open_clip's configuration format."""


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


def build_towers(config: SEDConfig) -> CustomTextCLIP:
    """Return open_clip's image and text towers with fresh weights.

    Raises:
        ValueError: `config.encoder` is unknown to open_clip and to `ENCODERS`.
    """
    sizes = ENCODERS.get(config.encoder) or open_clip.get_model_config(config.encoder)
    if sizes is None:
        raise ValueError(f"unknown encoder {config.encoder!r}")
    regularisation = {"timm_drop_path": config.drop_path, "timm_drop": config.head_dropout}
    return CustomTextCLIP(
        sizes["embed_dim"],
        vision_cfg=CLIPVisionCfg(**{**sizes["vision_cfg"], **regularisation}),
        text_cfg=CLIPTextCfg(**sizes["text_cfg"]),
    )


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
