"""How good label maps are on small, medium and large things: scores of connected components.

A component is a connected set of pixels of one class, diagonal neighbours included. Sizes are
COCO's: small below 32 x 32 pixels, large from 96 x 96 pixels on, at the mask's own size.

A component k of the truth has as its IoU the adjusted component-wise one of SegmentMeIfYouCan
(Chan et al., NeurIPS 2021): |k and P| / |(k or P) without the other true components of the class|,
where P are the predicted components of its class that touch it. So

    IoU(k) = right pixels of k / (pixels of k + wrong pixels of P).

Shapes: N classes, S sizes, M components, T true and P predicted ones, H W pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

SIZES = {"small": 32**2, "medium": 96**2, "large": None}
"""Name of each size, and the pixels that a component of it stays under."""

FIELDS = ("components", "iou", "pixels", "hits", "predicted", "predicted_hits")

UNIT = 10**9
"""IoUs are summed as whole numbers of this part, so that no order of adding changes the sum."""


@dataclass(frozen=True, kw_only=True)
class SizeScores:
    """Scores of the components of one size, in percent; NaN without any."""

    components: int
    """How many the truth has."""

    iou: float
    """Mean over classes of the mean IoU of their components."""

    recall: float
    """Share of the pixels of the true components that is found."""

    precision: float
    """Share of the pixels of the predicted components of this size that is right."""


@dataclass(frozen=True)
class Components:
    """The connected components of a label map."""

    index_HW: np.ndarray
    """Component of each pixel."""

    label_M: np.ndarray
    """Label of each component."""

    pixels_M: np.ndarray


def find_components(labels_HW: np.ndarray) -> Components:
    """Find the connected components of all labels in one pass.

    A row is cut into runs of one label; runs of neighbouring rows that touch are joined.
    """
    height, width = labels_HW.shape
    starts_HW = np.ones((height, width), bool)
    starts_HW[:, 1:] = labels_HW[:, 1:] != labels_HW[:, :-1]
    run_HW = (np.cumsum(starts_HW, dtype=np.int32) - 1).reshape(height, width)
    num_runs = int(run_HW[-1, -1]) + 1
    pairs = np.concatenate([touching(labels_HW, run_HW, shift) for shift in (-1, 0, 1)], axis=1)
    joined = sparse.coo_array((np.ones(pairs.shape[1], bool), pairs), (num_runs, num_runs))
    _, component_of_run = csgraph.connected_components(joined, directed=False)
    index_HW = component_of_run[run_HW]
    pixels_M = np.bincount(index_HW.ravel())
    label_M = np.zeros(len(pixels_M), np.int64)
    label_M[component_of_run] = labels_HW[starts_HW]
    return Components(index_HW, label_M, pixels_M)


def touching(labels_HW: np.ndarray, run_HW: np.ndarray, shift: int) -> np.ndarray:
    """Return the pairs of runs of one label that touch in a row and, moved by `shift`, the next."""
    width = labels_HW.shape[1]
    upper = slice(max(0, -shift), width - max(0, shift))
    lower = slice(max(0, shift), width - max(0, -shift))
    same_HW = labels_HW[:-1, upper] == labels_HW[1:, lower]
    above, below = run_HW[:-1, upper][same_HW], run_HW[1:, lower][same_HW]
    new = np.ones(len(above), bool)  # neighbouring pixels mostly say the same
    new[1:] = (above[1:] != above[:-1]) | (below[1:] != below[:-1])
    return np.stack([above[new], below[new]])


def size_index(pixels_M: np.ndarray) -> np.ndarray:
    """Return the place in `SIZES` of each component."""
    limits = [limit for limit in SIZES.values() if limit is not None]
    return np.searchsorted(limits, pixels_M, side="right")


class ComponentCounts:
    """Sum what components of each size and class score; sums of several workers add up."""

    def __init__(self, num_classes: int, counts: np.ndarray | None = None) -> None:
        shape = (len(FIELDS), len(SIZES), num_classes)
        self.num_classes = num_classes
        self.counts = np.zeros(shape, np.int64) if counts is None else counts
        """For each of `FIELDS`, size and class."""
        assert self.counts.shape == shape, "counts are those of another number of classes"

    def update(self, predicted_HW: np.ndarray, truth_HW: np.ndarray, *, ignore: int) -> None:
        """Add one image; pixels that are to be ignored are cut out of both maps."""
        void = np.int32(self.num_classes)
        counted_HW = truth_HW != ignore
        truth = find_components(np.where(counted_HW, truth_HW, void))
        found = find_components(np.where(counted_HW, predicted_HW, void))
        right_HW = counted_HW & (truth_HW == predicted_HW)
        shared_TP = sparse.coo_array(
            (
                np.ones(np.count_nonzero(right_HW), np.int64),
                (truth.index_HW[right_HW], found.index_HW[right_HW]),
            ),
            (len(truth.pixels_M), len(found.pixels_M)),
        ).tocsr()
        hits_T, hits_P = shared_TP.sum(axis=1), shared_TP.sum(axis=0)
        touches_TP = shared_TP.astype(bool).astype(np.int64)
        wrong_T = touches_TP @ (found.pixels_M - hits_P)
        iou_T = hits_T * UNIT // (truth.pixels_M + wrong_T)
        self.add(truth, 0, [np.ones_like(hits_T), iou_T, truth.pixels_M, hits_T])
        self.add(found, 4, [found.pixels_M, hits_P])

    def add(self, components: Components, first: int, values: list[np.ndarray]) -> None:
        """Add numbers of each component to the fields from `first` on."""
        known = components.label_M < self.num_classes
        place = (size_index(components.pixels_M[known]), components.label_M[known])
        for field, value_M in enumerate(values, first):
            np.add.at(self.counts[field], place, value_M[known])

    def scores(self) -> dict[str, SizeScores]:
        """Return the scores of each size."""
        return {
            size: size_scores(dict(zip(FIELDS, self.counts[:, index], strict=True)))
            for index, size in enumerate(SIZES)
        }


def size_scores(sums: dict[str, np.ndarray]) -> SizeScores:
    """Return the scores of one size from the sums of each class."""
    there_N = sums["components"] > 0
    iou_N = sums["iou"][there_N] / sums["components"][there_N] / UNIT
    return SizeScores(
        components=int(sums["components"].sum()),
        iou=100 * float(iou_N.mean()) if there_N.any() else float("nan"),
        recall=percent(sums["hits"].sum(), sums["pixels"].sum()),
        precision=percent(sums["predicted_hits"].sum(), sums["predicted"].sum()),
    )


def percent(part: int, whole: int) -> float:
    """Return a share in percent, NaN of nothing."""
    return 100 * float(part) / float(whole) if whole else float("nan")
