"""What the model says about an image; needs none of the model's libraries.

Shapes: K classes that survived, H W pixels or cells.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sed.uncertainty import Doubts, Uncertainty, sum_up, survey
from sed.upsample import label_map


@dataclass(frozen=True)
class ClassScores:
    """What the decoder says about one image: only the classes that survived."""

    logits_KHW: Tensor
    """Logits at a quarter of `image_size`."""

    candidates_K: Tensor
    """Index of each of these classes, ascending."""

    def label_map(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return labels_HW and confidence_HW at the image's own size; see `sed.upsample`."""
        return label_map(self.logits_KHW, self.candidates_K, height=height, width=width)

    def confidence(self) -> Tensor:
        """Return the probability of the best class at the decoder's resolution, confidence_HW."""
        if not len(self.candidates_K):
            return torch.zeros(self.logits_KHW.shape[1:])
        return self.logits_KHW.amax(dim=0).float().sigmoid()

    def uncertainty(self) -> Uncertainty:
        """Return how uncertain the scores are."""
        return sum_up(self.doubts(), self.candidates_K)

    def doubts(self) -> Doubts:
        """Return what `uncertainty` is made of, without waiting for the device."""
        return survey(self.logits_KHW)


@dataclass(frozen=True)
class Segmentation:
    """A label for every pixel of a photo."""

    labels: np.ndarray
    """(H, W) int32: index into the classes."""

    confidence: np.ndarray
    """(H, W) float32 in [0, 1]: the probability of that class."""

    candidates: list[int]
    """Indices of the classes that survived the rejection, ascending."""
