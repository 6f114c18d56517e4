"""What one policy got right and what it cost, image by image, so that images can be drawn again.

Shapes: I images, N classes that are scored, L levels, R resamples.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce

import numpy as np

CELLS = np.array([1, 4, 16])
"""Cells of a class map at each level, relative to the first: the side doubles."""

RESAMPLES = 1000
CONFIDENCE = 95
"""Percent of the resamples that lie in the interval."""


@dataclass(frozen=True)
class Tally:
    """Counts of pixels and classes, a row for each image."""

    hits_IN: np.ndarray
    """Pixels that are right."""

    truth_IN: np.ndarray
    """Pixels of each class in the mask."""

    predicted_IN: np.ndarray
    """Counted pixels that the model gave to each class."""

    kept_IL: np.ndarray
    """Classes that the decoder worked on."""

    found_IL: np.ndarray
    """Of the classes in the mask those that were still there."""

    decoder_I: np.ndarray
    """Seconds of the decoder, an image's share of its batch."""

    labels_I: np.ndarray
    """Seconds of making the label map."""

    memory_I: np.ndarray
    """Bytes that the decoder took for the image's batch at most; NaN where it is not measured."""

    def __len__(self) -> int:
        return len(self.hits_IN)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            *(
                np.concatenate([getattr(self, one.name), getattr(other, one.name)])
                for one in fields(Tally)
            )
        )

    def __getitem__(self, images: slice) -> "Tally":
        """Return the tally of some of the images."""
        return Tally(*(getattr(self, one.name)[images] for one in fields(Tally)))

    def to_bytes(self) -> bytes:
        """Return all arrays as a file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{one.name: getattr(self, one.name) for one in fields(Tally)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tally":
        """Return what `to_bytes` was given."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls(*(arrays[one.name] for one in fields(cls)))

    def mean_iou(self) -> float:
        """Return the mean IoU in percent over the classes that the masks hold."""
        return float(resampled_iou(self, np.ones((1, len(self))))[0])

    def cost(self, num_names: int) -> float:
        """Return the class-pixels that the decoder worked on, relative to keeping every name.

        It depends on the weights, the images and the policy, on no clock.
        """
        return float((self.kept_IL @ CELLS).sum() / (len(self) * num_names * CELLS.sum()))

    def kept(self) -> list[float]:
        """Return the classes of an image that the decoder worked on, for each level."""
        return self.kept_IL.mean(axis=0).tolist()

    def recall(self) -> list[float]:
        """Return the share of the classes in the masks that were still there, for each level."""
        present = max(int((self.truth_IN > 0).sum()), 1)
        return (self.found_IL.sum(axis=0) / present).tolist()

    def peak_memory_gb(self) -> float | None:
        """Return the most that the decoder took for a batch; None where it is not measured."""
        most = float(np.fmax.reduce(self.memory_I))
        return None if np.isnan(most) else most / 1e9


@dataclass(frozen=True)
class Drop:
    """Points of mIoU that a policy loses against keeping every class, on the same images."""

    points: float
    low: float
    high: float
    """Ends of the bootstrap's interval."""


def add(tallies: Sequence[Tally]) -> Tally:
    """Return the tally of all images, in this order."""
    return reduce(Tally.__add__, tallies)


def resampled_iou(tally: Tally, weights_RI: np.ndarray) -> np.ndarray:
    """Return the mean IoU in percent of each weighting of the images, iou_R."""
    hits, truth, predicted = (
        weights_RI @ counts_IN.astype(np.float64)
        for counts_IN in (tally.hits_IN, tally.truth_IN, tally.predicted_IN)
    )
    counted = truth > 0
    union = np.where(counted, truth + predicted - hits, 1)
    num_counted = counted.sum(axis=1)
    total = np.where(counted, hits / union, 0).sum(axis=1)
    return np.where(num_counted > 0, 100 * total / np.maximum(num_counted, 1), np.nan)


def drop(reference: Tally, tally: Tally, *, resamples: int = RESAMPLES) -> Drop:
    """Compare a policy with the reference on the same images.

    Both are drawn together: what is hard about an image is hard for both and cancels out. The
    draws are the same in every call.
    """
    assert len(reference) == len(tally), "they are compared on the same images"
    draws = np.random.default_rng(0)
    weights_RI = draws.multinomial(len(tally), np.full(len(tally), 1 / len(tally)), resamples)
    drops_R = resampled_iou(reference, weights_RI) - resampled_iou(tally, weights_RI)
    tail = (100 - CONFIDENCE) / 2
    low, high = np.nanpercentile(drops_R, [tail, 100 - tail]).tolist()
    return Drop(reference.mean_iou() - tally.mean_iou(), low, high)
