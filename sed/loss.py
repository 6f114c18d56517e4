"""What SED learns from: binary cross-entropy of every class at every level.

Shapes: B images, N classes, H W cells.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LEVEL_NAMES = ("final", "stride32", "stride16", "stride8")


def one_hot_targets(labels_BHW: Tensor, num_classes: int) -> Tensor:
    """Return targets_BNHW; pixels outside 0..num_classes-1 (ignored ones) are negative for all.

    That ignored pixels count as negatives is how the published models were trained.
    """
    classes_N11 = torch.arange(num_classes, device=labels_BHW.device).view(-1, 1, 1)
    return (labels_BHW.unsqueeze(1) == classes_N11).float()


def level_losses(levels_BNHW: Sequence[Tensor], labels_BHW: Tensor) -> dict[str, Tensor]:
    """Return one scalar loss per level; training minimises their sum.

    Args:
        levels_BNHW: Logits: final, then of strides 32, 16 and 8, as `SED.levels` gives them. Each
            is resized to the labels first (bilinear).
        labels_BHW: Class index of each pixel; anything else is ignored, i.e. negative.
    """
    targets_BNHW = one_hot_targets(labels_BHW, levels_BNHW[0].shape[1])
    size = labels_BHW.shape[1:]
    losses = {}
    for name, logits in zip(LEVEL_NAMES, levels_BNHW, strict=True):
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        losses[name] = F.binary_cross_entropy_with_logits(resized, targets_BNHW)
    return losses
