"""What an evaluation found: scores of one dataset under one rejection, as JSON and metrics.

Shapes: N classes.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.datasets import Labelled
from pipelines.evaluation.confusion import confusions
from pipelines.evaluation.counting import Shown, Worst
from pipelines.evaluation.tally import Tally
from sed.metrics import ConfusionMatrix

MAX_CONFUSIONS = 100
"""Pairs of classes that evaluation.json lists."""


@dataclass(kw_only=True)
class Result:
    """What a model got right on one dataset under one rejection."""

    data: Labelled
    rejection: str
    tally: Tally
    images: int = 0
    candidates: int = 0
    """Surviving classes, summed over the images."""

    errors: list[dict[str, str]] = field(default_factory=list)
    """Images that could not be evaluated: image_id, error_type, message."""

    worst: Worst = field(default_factory=Worst)

    @classmethod
    def empty(cls, data: Labelled, rejection: str) -> "Result":
        """Return the result before the first image."""
        return cls(data=data, rejection=rejection, tally=Tally.empty(len(data.classes)))

    @property
    def matrix(self) -> ConfusionMatrix:
        """Pairs of prediction and truth."""
        return self.tally.matrix

    @property
    def mean_candidates(self) -> float:
        """Mean number of classes that survived the rejection."""
        return self.candidates / max(self.images, 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of `COUNTS`."""
        places, counts = (np.frombuffer(row[name], np.int64) for name in ("places", "counts"))
        self.tally.add(places, counts)
        self.images += row["images"]
        self.candidates += row["candidates"]
        self.errors += row["errors"]
        for shown in row["worst"]:
            self.worst.add(Shown(**shown))

    def finish(self) -> None:
        """Bring into order what came in any order, once all is counted."""
        total = self.images + len(self.errors)
        assert total == self.data.num_images, (
            f"{self.data.name} has {self.data.num_images} images, but {total} rows came"
        )
        self.errors.sort(key=lambda error: (error["image_id"], error["message"]))

    def collapsed(self) -> list[str]:
        """Return the classes of which the truth has pixels and the labels not one right one."""
        return [self.data.classes[index] for index in self.matrix.collapsed()]

    def summary(self) -> dict[str, Any]:
        """Return the scores in percent; where nothing was counted they are None."""
        metrics = self.matrix.metrics()
        scores = metrics.named()
        if self.data.name.endswith("-unseen"):
            scores["mIoU_unseen"] = self.matrix.metrics(self.data.unseen).mean_iou
        scores["mIoU_detectron2_v0.6"] = metrics.mean_iou_v06
        scores["boundary_mIoU"] = self.tally.boundary.mean_iou()
        return {
            "name": self.data.name,
            **{name: none_if_nan(score) for name, score in scores.items()},
            "images": self.images,
            "rejection": self.rejection,
            "num_errors": len(self.errors),
            "num_classes": len(self.data.classes),
            "mean_candidates": self.mean_candidates,
            "sizes": {
                size: {name: none_if_nan(value) for name, value in asdict(scores).items()}
                for size, scores in self.tally.components.scores().items()
            },
            "collapsed_classes": self.collapsed(),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return the scores of each class that is in the masks."""
        metrics, boundary_N = self.matrix.metrics(), self.tally.boundary.iou()
        _, truth_N, predicted_N = self.matrix.totals()
        return [
            {
                "class": self.data.classes[index],
                "IoU": float(metrics.iou_N[index]),
                "ACC": float(metrics.accuracy_N[index]),
                "boundary_IoU": none_if_nan(float(boundary_N[index])),
                "images": int(self.tally.images_N[index]),
                "pixels": int(truth_N[index]),
                "predicted_pixels": int(predicted_N[index]),
                "unseen": index in self.data.unseen,
            }
            for index in np.flatnonzero(truth_N).tolist()
        ]

    def document(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        classes = self.data.classes
        pairs = confusions(self.matrix, MAX_CONFUSIONS)
        return self.summary() | {
            "errors": self.errors,
            "per_class": self.per_class(),
            "confusions": [
                {
                    "truth": classes[pair.truth],
                    "predicted": classes[pair.predicted],
                    "pixels": pair.pixels,
                    "share_of_truth": pair.share,
                }
                for pair in pairs
            ],
            "image_mIoU_histogram": self.tally.image_ious.tolist(),
            "worst_images": [
                {"image_id": shown.image_id, "mIoU": shown.iou} for shown in self.worst.sorted()
            ],
        }


def none_if_nan(score: float) -> float | None:
    """Return a score as JSON can hold it."""
    return None if math.isnan(score) else score


def broken(results: Sequence[Result]) -> dict[str, list[dict[str, str]]]:
    """Return the images of each dataset that could not be evaluated; no rejection changes them."""
    return {result.data.name: result.errors for result in results}


def metrics(results: Sequence[Result]) -> dict[str, float]:
    """Return all scores by names that MLflow accepts: dataset/rejection/score."""
    return {
        re.sub(r"[^\w./: -]", "_", f"{result.data.name}/{result.rejection}/{name}"): value
        for result in results
        for name, value in numbers(result.summary())
    }


def numbers(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the scores of a summary, and how many classes collapsed and images failed."""
    yield from ((name, value) for name, value in summary.items() if isinstance(value, float))
    yield "collapsed_classes", float(len(summary["collapsed_classes"]))
    yield "num_errors", float(summary["num_errors"])
    for size, scores in summary["sizes"].items():
        for name, value in scores.items():
            if value is not None:
                yield f"{size}/{name}", float(value)


def document(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return everything as JSON can hold it: the scores of every class, too."""
    return [result.document() for result in results]
