"""Last step of an evaluation on the cluster: label maps are compared with masks, on any CPU.

Rows: `PREDICTED` in, `COUNTS` out: one row for each batch and rejection.

Shapes: H W pixels.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.evaluation.reading import THUMBNAIL, decode_mask
from pipelines.evaluation.rows import COUNTS
from pipelines.evaluation.tally import Tally
from pipelines.masks import index_png
from pipelines.report.pictures import shrink

WORST = 12
"""Images of each dataset and rejection that are shown."""

BATCH = 32
"""Images that are counted together: only the pictures of the worst of them travel."""


@dataclass(frozen=True, order=True)
class Shown:
    """An image to show; sorted by how bad it is, then by name."""

    iou: float
    """Its own mIoU, in percent."""

    image_id: str
    photo: bytes = field(compare=False)
    truth: bytes = field(compare=False)
    predicted: bytes = field(compare=False)
    """Small pictures: a JPEG and two index PNGs."""


class Worst:
    """Keep the worst of any number of images; which ones does not depend on their order."""

    def __init__(self, size: int = WORST) -> None:
        self.size = size
        self.keys: list[tuple[float, str]] = []
        self.images: dict[tuple[float, str], Shown] = {}

    def takes(self, iou: float, image_id: str) -> bool:
        """Say whether an image belongs to the worst so far."""
        if math.isnan(iou):
            return False
        return len(self.keys) < self.size or (iou, image_id) <= self.keys[-1]

    def add(self, image: Shown) -> None:
        """Keep an image if it belongs to the worst; twice the same counts once."""
        key = (image.iou, image.image_id)
        if key not in self.images and self.takes(*key):
            bisect.insort(self.keys, key)
            self.images[key] = image
            for other in self.keys[self.size :]:
                del self.images[other]
            del self.keys[self.size :]

    def sorted(self) -> list[Shown]:
        """Return what was kept, the worst first."""
        return [self.images[key] for key in self.keys]


@dataclass(frozen=True, kw_only=True)
class Count:
    """Count what is right in a batch, and make pictures of its worst images."""

    rejections: Sequence[str]
    num_classes: int

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the counts of a batch, one row of `COUNTS` for each rejection."""
        rows = batch.to_pylist()
        sound = [row for row in rows if row["error_type"] is None]
        errors = [
            {name: row[name] for name in ("image_id", "error_type", "message")}
            for row in rows
            if row["error_type"] is not None
        ]
        masks = [decode_mask(row["mask"]) for row in sound]
        found = [
            self.count(index, text, sound, masks) | {"errors": errors}
            for index, text in enumerate(self.rejections)
        ]
        return pa.Table.from_pylist(found, schema=COUNTS)

    def count(
        self, index: int, rejection: str, rows: list[dict[str, Any]], masks: list[np.ndarray]
    ) -> dict[str, Any]:
        """Return the counts of the images under the rejection of this index."""
        tally, worst = Tally.empty(self.num_classes), Worst()
        for row, truth_HW in zip(rows, masks, strict=True):
            labels = np.frombuffer(row["labels"][index], dtype=np.uint16)
            labels_HW = labels.reshape(truth_HW.shape)
            iou = tally.update(labels_HW, truth_HW)
            if worst.takes(iou, row["image_id"]):
                worst.add(self.show(row, iou, truth_HW, labels_HW))
        places, counts = tally.sparse()
        return {
            "rejection": rejection,
            "images": len(rows),
            "candidates": sum(row["candidates"][index] for row in rows),
            "places": places.astype(np.int64).tobytes(),
            "counts": counts.tobytes(),
            "worst": [asdict(shown) for shown in worst.sorted()],
        }

    def show(
        self, row: dict[str, Any], iou: float, truth_HW: np.ndarray, labels_HW: np.ndarray
    ) -> Shown:
        """Make the small pictures of an image."""
        scale = min(1.0, THUMBNAIL / max(truth_HW.shape))
        size = [max(1, round(side * scale)) for side in truth_HW.shape]
        truth, predicted = (
            index_png(shrink(values_HW, *size), self.num_classes)
            for values_HW in (truth_HW, labels_HW)
        )
        return Shown(iou, row["image_id"], row["thumbnail"], truth, predicted)
