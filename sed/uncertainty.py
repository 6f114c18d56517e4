"""How sure the model is of an image, beyond the probability of each pixel's class.

Shapes: K surviving classes, H W pixels at the decoder's resolution.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

CONTESTED = 0.1
"""A pixel whose two best classes are closer than this in probability could be either."""

MAX_RIVALS = 8
"""Pairs of classes that are kept of one image."""

CHUNK_ELEMENTS = 2**24
"""Scores that are looked at together: 64 MB."""


@dataclass(frozen=True)
class Rivalry:
    """Pixels that one class wins and another nearly won."""

    category_id: int
    """The class that won."""

    rival_id: int
    """The class that came second, less than `CONTESTED` behind."""

    area_fraction: float
    """Share of the image where that is so."""


@dataclass(frozen=True)
class Uncertainty:
    """Means over the pixels of an image."""

    margin: float
    """Probability of the best class less that of the second; of one class alone, its own."""

    entropy: float
    """Entropy in nats of the probabilities, scaled to sum 1: 0 where one class has all."""

    rivals: list[Rivalry]
    """The pairs that contest the largest areas, largest first."""


class Doubts(NamedTuple):
    """What `Uncertainty` is made of, on the device of the scores: nobody has waited for it."""

    margin: Tensor
    """Mean over the pixels."""

    entropy: Tensor
    """Mean over the pixels."""

    pairs_M: Tensor
    """Of each pixel the places in K of its two best classes, best * K + second; -1 where they are
    not close."""


def measure(logits_KHW: Tensor, candidates_K: Tensor) -> Uncertainty:
    """Return how uncertain an image's scores are; without a class there is no margin at all.

    Args:
        logits_KHW: Scores of the surviving classes.
        candidates_K: Their indices in the vocabulary.
    """
    return sum_up(survey(logits_KHW), candidates_K)


def survey(logits_KHW: Tensor) -> Doubts:
    """Look at every pixel of an image's scores."""
    num_classes, height, width = logits_KHW.shape
    if not num_classes:
        return Doubts(torch.zeros(()), torch.zeros(()), torch.empty(0, dtype=torch.long))
    scores_KM = logits_KHW.flatten(1)
    step = max(1, CHUNK_ELEMENTS // num_classes)
    parts = [measure_pixels(scores_KM[:, i : i + step]) for i in range(0, height * width, step)]
    margin_M, entropy_M, pairs_M = (torch.cat(part) for part in zip(*parts, strict=True))
    means = (margin_M.mean(dtype=torch.float64), entropy_M.mean(dtype=torch.float64))
    return Doubts(*means, pairs_M)


def sum_up(doubts: Doubts, candidates_K: Tensor) -> Uncertainty:
    """Return what the pixels of an image say together; this waits for them.

    Args:
        doubts: From `survey`.
        candidates_K: Indices of the surviving classes in the vocabulary.
    """
    contested = doubts.pairs_M[doubts.pairs_M >= 0]
    rivals = rivalries(contested, candidates_K, len(doubts.pairs_M))
    return Uncertainty(doubts.margin.item(), doubts.entropy.item(), rivals)


def measure_pixels(logits_KM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return margin_M, entropy_M and pairs_M, as in `Doubts`."""
    scores_KM = logits_KM.float().sigmoid()
    share_KM = scores_KM / scores_KM.sum(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
    entropy_M = torch.special.entr(share_KM).sum(dim=0)
    if len(scores_KM) == 1:
        return scores_KM[0], entropy_M, torch.full_like(entropy_M, -1, dtype=torch.long)
    best_2M, place_2M = scores_KM.topk(2, dim=0)
    margin_M = best_2M[0] - best_2M[1]
    pairs_M = place_2M[0] * len(scores_KM) + place_2M[1]
    return margin_M, entropy_M, torch.where(margin_M < CONTESTED, pairs_M, -1)


def rivalries(pairs: Tensor, candidates_K: Tensor, num_pixels: int) -> list[Rivalry]:
    """Count the contested pairs of an image; keep the largest."""
    places, counts = pairs.unique(return_counts=True)
    largest = counts.argsort(descending=True, stable=True)[:MAX_RIVALS]
    candidates, num_classes = candidates_K.tolist(), len(candidates_K)
    return [
        Rivalry(candidates[place // num_classes], candidates[place % num_classes], n / num_pixels)
        for place, n in zip(places[largest].tolist(), counts[largest].tolist(), strict=True)
    ]
