"""What an evaluation found: scores of one dataset under one rejection, as JSON, table and metrics.

Shapes: N classes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.datasets import Labelled
from sed.metrics import ConfusionMatrix

COLUMNS = ("mIoU", "fwIoU", "mACC", "pACC")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a model got right on one dataset under one rejection."""

    data: Labelled
    rejection: str

    matrix: ConfusionMatrix
    images: int = 0
    candidates: int = 0
    """Surviving classes, summed over the images."""

    @classmethod
    def empty(cls, data: Labelled, rejection: str) -> "Result":
        """Return the result before the first image."""
        return cls(data=data, rejection=rejection, matrix=ConfusionMatrix(len(data.classes)))

    def plus(self, row: Mapping[str, Any]) -> "Result":
        """Return the result with a row of `COUNTS` added."""
        counts = np.frombuffer(row["counts"], dtype=np.int64).reshape(self.matrix.counts.shape)
        return replace(
            self,
            matrix=self.matrix + ConfusionMatrix(self.matrix.num_classes, counts),
            images=self.images + row["images"],
            candidates=self.candidates + row["candidates"],
        )

    def summary(self) -> dict[str, Any]:
        """Return the scores in percent; where nothing was counted they are None."""
        scores = self.matrix.metrics().named()
        if self.data.name.endswith("-unseen"):
            scores["mIoU_unseen"] = self.matrix.metrics(self.data.unseen).mean_iou
        return {
            "name": self.data.name,
            **{name: none_if_nan(score) for name, score in scores.items()},
            "images": self.images,
            "rejection": self.rejection,
            "num_classes": len(self.data.classes),
            "mean_candidates": self.candidates / max(self.images, 1),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return the scores of each class that is in the masks."""
        metrics = self.matrix.metrics()
        return [
            {
                "class": self.data.classes[index],
                "IoU": float(metrics.iou_N[index]),
                "ACC": float(metrics.accuracy_N[index]),
                "unseen": index in self.data.unseen,
            }
            for index in np.flatnonzero(~np.isnan(metrics.iou_N)).tolist()
        ]


def none_if_nan(score: float) -> float | None:
    """Return a score as JSON can hold it."""
    return None if math.isnan(score) else score


def table(results: Sequence[Result]) -> list[str]:
    """Return the lines of a table for a person, scores in percent."""
    width = max(len(result.rejection) for result in results)
    lines = [
        f"{'dataset':<14} {'rejection':<{max(width, 9)}} {'images':>7}"
        + "".join(f"{name:>8}" for name in COLUMNS)
        + f"{'classes left':>14}"
    ]
    for result in results:
        found = result.summary()
        scores = "".join(
            f"{found[name]:8.2f}" if found[name] is not None else f"{'-':>8}" for name in COLUMNS
        )
        lines.append(
            f"{result.data.name:<14} {result.rejection:<{max(width, 9)}} {result.images:>7}{scores}"
            f"{found['mean_candidates']:>7.1f} of {len(result.data.classes):<4}"
        )
        if found.get("mIoU_unseen") is not None:
            lines.append(
                f"  of these, the never-trained classes alone: mIoU {found['mIoU_unseen']:.2f}"
            )
    return lines


def metrics(results: Sequence[Result]) -> dict[str, float]:
    """Return all scores by names that MLflow accepts: dataset/rejection/score."""
    return {
        re.sub(r"[^\w./: -]", "_", f"{result.data.name}/{result.rejection}/{name}"): value
        for result in results
        for name, value in result.summary().items()
        if isinstance(value, float)
    }


def document(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return everything as JSON can hold it: the scores of every class, too."""
    return [result.summary() | {"per_class": result.per_class()} for result in results]
