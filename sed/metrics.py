"""How good label maps are: a confusion matrix and the usual scores of semantic segmentation.

Shapes: N classes; the matrix is (N + 1, N + 1), rows the prediction, columns the truth, and its
last column holds the pixels whose truth is to be ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Scores in percent; a class that the truth does not contain has NaN and counts nowhere."""

    mean_iou: float
    """Mean over classes of intersection over union."""

    weighted_iou: float
    """The same, weighted by how many pixels each class has."""

    mean_accuracy: float
    """Mean over classes of the share of their pixels that is found."""

    pixel_accuracy: float
    """Share of all pixels that is right."""

    mean_iou_v06: float
    """`mean_iou` as detectron2 had it until v0.6: classes that are predicted and nowhere true count
    as 0, so it is lower."""

    iou_N: np.ndarray
    """Intersection over union of each class."""

    accuracy_N: np.ndarray
    """Share of each class' pixels that is found."""

    def named(self) -> dict[str, float]:
        """Return the four means under the names that papers print."""
        return {
            "mIoU": self.mean_iou,
            "fwIoU": self.weighted_iou,
            "mACC": self.mean_accuracy,
            "pACC": self.pixel_accuracy,
        }


class ConfusionMatrix:
    """Count (prediction, truth) pairs of pixels; counts of several workers add up."""

    def __init__(self, num_classes: int, counts: np.ndarray | None = None) -> None:
        if num_classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class, got {num_classes}")
        self.num_classes = num_classes
        shape = (num_classes + 1, num_classes + 1)
        self.counts = np.zeros(shape, np.int64) if counts is None else counts
        if self.counts.shape != shape:
            raise ValueError(f"counts must be {shape}, got {self.counts.shape}")

    def update(self, predicted: np.ndarray, truth: np.ndarray, *, ignore: int) -> None:
        """Add the pixels of one image.

        Args:
            predicted: Class of each pixel.
            truth: Its true class, same shape.
            ignore: Value of `truth` that means "do not count".

        Raises:
            ValueError: The shapes differ, or a label is neither a class nor `ignore`.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"prediction is {predicted.shape} but truth is {truth.shape}")
        counted = truth != ignore
        check_labels("prediction", predicted, self.num_classes)
        check_labels("truth", truth[counted], self.num_classes)
        width = self.num_classes + 1
        truth = np.where(counted, truth, self.num_classes).astype(np.int64)
        pairs = width * predicted.astype(np.int64) + truth
        self.counts += np.bincount(pairs.ravel(), minlength=width**2).reshape(width, width)

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        if self.num_classes != other.num_classes:
            raise ValueError(f"cannot add counts of {other.num_classes} and {self.num_classes}")
        return ConfusionMatrix(self.num_classes, self.counts + other.counts)

    def totals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each class' pixels that are right, that are true and that are predicted."""
        counts = self.counts[:-1, :-1]
        return counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)

    def collapsed(self) -> list[int]:
        """Return the classes that the truth contains and of which not one pixel is found."""
        hits_N, truth_N, _ = self.totals()
        return np.flatnonzero((truth_N > 0) & (hits_N == 0)).tolist()

    def metrics(self, classes: Sequence[int] | None = None) -> Metrics:
        """Return the scores; means are over the classes that the truth contains.

        This is how detectron2 has computed them since July 2022. Without a single counted pixel
        every score is NaN.

        Args:
            classes: Take the means over these classes only. Which pixels they win or lose is
                still counted against all classes.
        """
        hits_N, truth_N, predicted_N = self.totals()
        asked_N = np.zeros(self.num_classes, dtype=bool)
        asked_N[range(self.num_classes) if classes is None else list(classes)] = True
        chosen_N = asked_N & (truth_N > 0)
        iou_N = 100 * _divide(hits_N, truth_N + predicted_N - hits_N, chosen_N)
        accuracy_N = 100 * _divide(hits_N, truth_N, chosen_N)
        weights = truth_N[chosen_N]
        occurs_N = asked_N & (truth_N + predicted_N > 0)
        return Metrics(
            mean_iou=_mean(iou_N[chosen_N]),
            weighted_iou=_mean(iou_N[chosen_N], weights),
            mean_accuracy=_mean(accuracy_N[chosen_N]),
            pixel_accuracy=_mean(accuracy_N[chosen_N], weights),
            mean_iou_v06=_mean(np.nan_to_num(iou_N[occurs_N])),
            iou_N=iou_N,
            accuracy_N=accuracy_N,
        )


def _divide(part_N: np.ndarray, whole_N: np.ndarray, where_N: np.ndarray) -> np.ndarray:
    """Return the quotients, NaN where they are not wanted."""
    return np.divide(part_N, whole_N, out=np.full(part_N.shape, np.nan), where=where_N)


def _mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the weighted mean, NaN of nothing."""
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def check_labels(what: str, labels: np.ndarray, num_classes: int) -> None:
    """Require that every label is a class.

    Raises:
        ValueError: One is not; the message names it.
    """
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"{what} has label {wrong}, but there are {num_classes} classes")


def background_rule(predicted: np.ndarray, *, num_kept: int) -> np.ndarray:
    """Return labels where every class from `num_kept` on is one class, the background.

    The protocol of `pascal-voc-20b`: 59 classes compete, the last 39 count as background (20).
    """
    return np.minimum(predicted, num_kept)
