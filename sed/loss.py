"""What SED learns from: binary cross-entropy of every class at every level.

Shapes: B images, N classes, M (image, class) pairs, P prompts, D embedding, H W pixels or cells.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sed.cost_map import cosine_scores

LEVEL_NAMES = ("final", "stride32", "stride16", "stride8")
"""The four outputs that are trained: the decoder's, and those of the early heads."""


def level_losses(
    levels_MHW: Sequence[Tensor], labels_BHW: Tensor, image_M: Tensor, class_M: Tensor
) -> dict[str, Tensor]:
    """Return one scalar loss per level; training minimises their sum (section 7).

    Pixels with another label, ignored ones among them, are negatives: that is how the published
    models were trained.

    Args:
        levels_MHW: Logits: final, then of strides 32, 16 and 8; each is resized to the labels
            first (bilinear).
        labels_BHW: Class index of each pixel.
        image_M: Image index of each pair.
        class_M: Class index of each pair.
    """
    targets_MHW = (labels_BHW[image_M] == class_M.view(-1, 1, 1)).float()
    size = labels_BHW.shape[1:]
    losses = {}
    for name, logits_MHW in zip(LEVEL_NAMES, levels_MHW, strict=True):
        resized = F.interpolate(
            logits_MHW.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=False
        )
        losses[name] = F.binary_cross_entropy_with_logits(resized.squeeze(1), targets_MHW)
    return losses


def alignment_loss(
    embedding_BDHW: Tensor, text_NPD: Tensor, shares_BNHW: Tensor, temperature: float
) -> Tensor:
    """Return the cross-entropy between a cell's similarity to each class and what it shows.

    A stand-in for CLIP's contrastive pre-training where the encoder starts from nothing: each
    cell of stride 32 is compared with the mean prompt of every class.

    Args:
        embedding_BDHW: The encoder's dense embedding.
        text_NPD: Unit vectors of all classes.
        shares_BNHW: Share of each cell's pixels that belong to each class; sums to 1 over N.
        temperature: Divides the cosines.
    """
    mean_N1D = text_NPD.mean(dim=1, keepdim=True)
    cosines_BNHW = cosine_scores(embedding_BDHW.float(), mean_N1D.float()).squeeze(2)
    return F.cross_entropy(cosines_BNHW / temperature, shares_BNHW)


def class_shares(labels_BHW: Tensor, num_classes: int, cell: int) -> Tensor:
    """Return the share of each class in square cells of `cell` pixels, shares_BNHW.

    Labels outside 0..num_classes-1 count for no class.
    """
    labels_BLC = F.unfold(labels_BHW.unsqueeze(1).float(), cell, stride=cell).transpose(1, 2).long()
    valid_BLC = (labels_BLC >= 0) & (labels_BLC < num_classes)
    counts_BLN = torch.zeros(*labels_BLC.shape[:2], num_classes, device=labels_BHW.device)
    counts_BLN.scatter_add_(2, labels_BLC.where(valid_BLC, 0), valid_BLC.float())
    height, width = (side // cell for side in labels_BHW.shape[1:])
    return counts_BLN.transpose(1, 2).unflatten(2, (height, width)) / cell**2
