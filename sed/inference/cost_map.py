"""Cosines and the first scores, a few classes at a time.

Shapes: B images, N classes, M (image, class) pairs, P prompts, D embedding, T the nine taps of a
head, L locations, H W cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sed.decoder import Pairs
from sed.inference.kernels import linear
from sed.inference.parts import Part, over_parts
from sed.inference.rewrites import affine, compose_head, shift_sum


class FirstHead(nn.Module):
    """The first head on the embedded cost map, straight from the cosines.

    Classes that it rejects are never embedded: 14 times less work for each. That little is done in
    float32 on every device, which on a GPU is what torch makes of it: TF32 unless told otherwise.
    """

    weight: Tensor
    tap_bias: Tensor
    bias: Tensor

    def __init__(self, embed: nn.Conv2d, head: nn.Conv2d) -> None:
        super().__init__()
        weight, tap_bias = compose_head(embed, head)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("tap_bias", tap_bias, persistent=False)
        self.register_buffer("bias", affine(head)[1], persistent=False)

    def forward(self, scores_MHWP: Tensor) -> Tensor:
        """Return logits_MHW."""
        padding = self.weight.shape[-1] // 2
        scores_MPHW = scores_MHWP.permute(0, 3, 1, 2)
        with torch.autocast(scores_MPHW.device.type, enabled=False):
            maps_MTHW = F.conv2d(scores_MPHW, self.weight, self.tap_bias, padding=padding)
            return shift_sum(maps_MTHW, self.bias)


class Comparison:
    """The images and the classes whose cosines are asked for."""

    def __init__(self, embedding_BDHW: Tensor, text_NPD: Tensor, *, unit_text: bool = True) -> None:
        self.size = embedding_BDHW.shape[2:]
        unit_BDHW = F.normalize(embedding_BDHW.float(), dim=1)
        self.image_BLD = unit_BDHW.flatten(2).transpose(1, 2).contiguous()
        self.text_NPD = text_NPD.to(self.image_BLD)
        self.unit_text = unit_text

    def scores(self, pairs: Pairs) -> Tensor:
        """Return the cosines of the pairs, scores_MHWP."""
        return self.each(pairs, nn.Identity())

    def each(self, pairs: Pairs, then: nn.Module) -> Tensor:
        """Return what a module makes of the cosines of the pairs."""

        def step(part: Part) -> tuple[Tensor]:
            assert part.image is not None, "parts are not mixed here"
            scores_NHWP = self.cosines(part.image, pairs.class_M[part.pairs])
            return (then(scores_NHWP),)

        elements = self.text_NPD.shape[1] * self.image_BLD.shape[1]
        device = self.image_BLD.device
        return over_parts(step, pairs.counts, elements, device, mixed=False)[0]

    def cosines(self, image: int, class_N: Tensor) -> Tensor:
        """Return the cosines of some classes on one image, scores_NHWP."""
        with torch.autocast(self.image_BLD.device.type, enabled=False):
            text_NPD = self.text_NPD[class_N]
            if self.unit_text:
                text_NPD = F.normalize(text_NPD, dim=-1)
            scores_LS = linear(self.image_BLD[image], text_NPD.flatten(0, 1), None)
        scores_NLP = scores_LS.unflatten(1, text_NPD.shape[:2]).transpose(0, 1)
        return scores_NLP.contiguous().unflatten(1, self.size)
