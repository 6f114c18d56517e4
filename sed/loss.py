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
    resized, targets_MHW = at_label_size(levels_MHW, labels_BHW, image_M, class_M)
    losses = [F.binary_cross_entropy_with_logits(logits, targets_MHW) for logits in resized]
    return dict(zip(LEVEL_NAMES, losses, strict=True))


def overlap_losses(
    levels_MHW: Sequence[Tensor], labels_BHW: Tensor, image_M: Tensor, class_M: Tensor
) -> list[Tensor]:
    """Return one Dice loss per level, over the pairs whose class the image shows.

    Not part of the paper: it counts every object alike, so that a small one is not outweighed.
    Arguments as for `level_losses`.
    """
    resized, targets_MHW = at_label_size(levels_MHW, labels_BHW, image_M, class_M)
    area_M = targets_MHW.sum(dim=(1, 2))
    losses = []
    for logits_MHW in resized:
        scores_MHW = logits_MHW.sigmoid()
        common_M = (scores_MHW * targets_MHW).sum(dim=(1, 2))
        dice_M = 2 * common_M / (scores_MHW.sum(dim=(1, 2)) + area_M).clamp(min=1)
        losses.append((1 - dice_M)[area_M > 0].mean())
    return losses


def at_label_size(
    levels_MHW: Sequence[Tensor], labels_BHW: Tensor, image_M: Tensor, class_M: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return the logits of every level, resized to the labels, and where each class is."""
    targets_MHW = (labels_BHW[image_M] == class_M.view(-1, 1, 1)).float()
    resized = [
        F.interpolate(
            logits_MHW.unsqueeze(1).float(),
            size=labels_BHW.shape[1:],
            mode="bilinear",
            align_corners=False,
        ).squeeze(1)
        for logits_MHW in levels_MHW
    ]
    return resized, targets_MHW


def alignment_loss(
    embedding_BDHW: Tensor,
    text_NPD: Tensor,
    shares_BNHW: Tensor,
    temperature: float,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy between a cell's similarity to each class and what it shows.

    A stand-in for CLIP's contrastive pre-training where the encoder starts from nothing: each
    cell of stride 32 is compared with the mean prompt of every class.

    Args:
        embedding_BDHW: The encoder's dense embedding.
        text_NPD: Unit vectors of all classes.
        shares_BNHW: Share of each cell's pixels that belong to each class; sums to 1 over N.
        temperature: Divides the cosines.
        weights_N: Weight of each class; None weighs all alike.
    """
    mean_N1D = text_NPD.mean(dim=1, keepdim=True)
    cosines_BNHW = cosine_scores(embedding_BDHW.float(), mean_N1D.float()).squeeze(2)
    return F.cross_entropy(cosines_BNHW / temperature, shares_BNHW, weights_N)


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
