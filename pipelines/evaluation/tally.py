"""All that is counted about label maps, as sums of whole numbers.

Sums of whole numbers do not depend on who counted what, or in which order.

Shapes: N classes, H W pixels.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.masks import ignore_value
from sed.boundary import BoundaryCounts
from sed.components import ComponentCounts
from sed.metrics import ConfusionMatrix

IMAGE_BINS = 20
"""Of the histogram of the images' own mIoU, from 0 to 100 %."""


@dataclass(frozen=True)
class Tally:
    """What the labels of some images add up to."""

    matrix: ConfusionMatrix
    boundary: BoundaryCounts
    components: ComponentCounts
    images_N: np.ndarray
    """Images whose truth shows a class."""

    image_ious: np.ndarray
    """Number of images by their own mIoU."""

    @classmethod
    def empty(cls, num_classes: int) -> "Tally":
        """Return the sums before the first image."""
        return cls(
            ConfusionMatrix(num_classes),
            BoundaryCounts(num_classes),
            ComponentCounts(num_classes),
            np.zeros(num_classes, np.int64),
            np.zeros(IMAGE_BINS, np.int64),
        )

    def update(self, predicted_HW: np.ndarray, truth_HW: np.ndarray) -> float:
        """Add one image; return its mIoU in percent, NaN where nothing is true."""
        num_classes = self.matrix.num_classes
        ignore = ignore_value(num_classes)
        own = ConfusionMatrix(num_classes)
        own.update(predicted_HW, truth_HW, ignore=ignore)
        self.matrix.counts[...] += own.counts
        self.boundary.update(predicted_HW, truth_HW, ignore=ignore)
        self.components.update(predicted_HW, truth_HW, ignore=ignore)
        hits_N, truth_N, predicted_N = own.totals()
        there_N = truth_N > 0
        self.images_N[there_N] += 1
        if not there_N.any():
            return float("nan")
        iou = 100 * float((hits_N / np.maximum(truth_N + predicted_N - hits_N, 1))[there_N].mean())
        self.image_ious[min(int(iou * IMAGE_BINS / 100), IMAGE_BINS - 1)] += 1
        return iou

    def arrays(self) -> list[np.ndarray]:
        """Return all sums."""
        counted = (self.matrix, self.boundary, self.components)
        return [*(one.counts for one in counted), self.images_N, self.image_ious]

    def sparse(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the places and values of the sums that are not 0: few of 847 x 847 classes."""
        flat = np.concatenate([array.ravel() for array in self.arrays()])
        places = np.flatnonzero(flat)
        return places, flat[places]

    def add(self, places: np.ndarray, counts: np.ndarray) -> None:
        """Add what `sparse` returned for other images; no place occurs twice."""
        start = 0
        for array in self.arrays():
            first, last = np.searchsorted(places, [start, start + array.size])
            array.reshape(-1)[places[first:last] - start] += counts[first:last]
            start += array.size
