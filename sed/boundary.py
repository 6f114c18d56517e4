"""How good the contours of label maps are: boundary IoU (Cheng et al., CVPR 2021).

The boundary region of a class is what of it lies within `reach` pixels of its contour, or of the
image's border. Boundary IoU compares the boundary regions of prediction and truth as IoU compares
the classes: a large object with a wrong contour scores as low as a small one.

All classes at once: a pixel is in the boundary region of its own class if the square of side
2 reach + 1 around it holds another class, or leaves the image. That is the published erosion by a
3 x 3 square, `reach` times, without a pass for each class.

Shapes: N classes, H W pixels.
"""

import numpy as np
from scipy import ndimage

DILATION_RATIO = 0.02
"""Reach as a share of the image's diagonal, as published."""

FIELDS = ("both", "true", "predicted")


def boundary_reach(height: int, width: int) -> int:
    """Return how far from a contour its boundary region reaches, in pixels."""
    return max(1, round(DILATION_RATIO * float(np.hypot(height, width))))


def boundary_region(labels_HW: np.ndarray, reach: int) -> np.ndarray:
    """Return where a pixel is near another class or the image's border, boundary_HW."""
    size = 2 * reach + 1
    signed_HW = labels_HW.astype(np.int32)
    # Outside the image lies -1 for both filters: another class than any.
    least_HW = ndimage.minimum_filter(signed_HW, size, mode="constant", cval=-1)
    most_HW = ndimage.maximum_filter(signed_HW, size, mode="constant", cval=-1)
    return least_HW != most_HW


class BoundaryCounts:
    """Count pixels of boundary regions; counts of several workers add up."""

    def __init__(self, num_classes: int, counts: np.ndarray | None = None) -> None:
        shape = (len(FIELDS), num_classes)
        self.num_classes = num_classes
        self.counts = np.zeros(shape, np.int64) if counts is None else counts
        """In the boundary regions of a class: of both maps, of the truth, of the prediction."""
        assert self.counts.shape == shape, "counts are those of another number of classes"

    def update(self, predicted_HW: np.ndarray, truth_HW: np.ndarray, *, ignore: int) -> None:
        """Add one image; both maps hold classes, `truth_HW` also `ignore`.

        Pixels that are to be ignored are not counted, and taken to be what was predicted there: the
        strip around each object of PASCAL VOC hides where its contour is, and no contour in it is
        wrong.
        """
        reach = boundary_reach(*truth_HW.shape)
        counted_HW = truth_HW != ignore
        filled_HW = np.where(counted_HW, truth_HW, predicted_HW)
        true_HW = boundary_region(filled_HW, reach) & counted_HW
        near_HW = boundary_region(predicted_HW, reach) & counted_HW
        both_HW = true_HW & near_HW & (truth_HW == predicted_HW)
        for row, labels_HW, region_HW in [
            (0, truth_HW, both_HW),
            (1, truth_HW, true_HW),
            (2, predicted_HW, near_HW),
        ]:
            self.counts[row] += np.bincount(labels_HW[region_HW], minlength=self.num_classes)

    def iou(self) -> np.ndarray:
        """Return the boundary IoU of each class in percent, iou_N; NaN where none is true."""
        both_N, true_N, predicted_N = self.counts
        union_N = np.maximum(true_N + predicted_N - both_N, 1)
        return np.where(true_N > 0, 100 * both_N / union_N, np.nan)

    def mean_iou(self) -> float:
        """Return the mean over the classes that have a true boundary; NaN without any."""
        iou_N = self.iou()
        return float(iou_N[~np.isnan(iou_N)].mean()) if (~np.isnan(iou_N)).any() else float("nan")
