"""How good a model is while it trains: each worker labels a part of the validation images.

Shapes: B images, H W pixels, N classes.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from pipelines.datasets import Labelled
from pipelines.ingest import decode_photo
from pipelines.masks import ignore_value
from pipelines.report.pictures import class_colours, open_grey, shrink
from sed import SED
from sed.metrics import ConfusionMatrix
from sed.shortest_edge import resize_shortest_edge

logger = logging.getLogger(__name__)

BATCH_SIZE = 4
PICTURES = 4
"""Images that are shown with their masks and what the model says."""

PICTURE_HEIGHT = 224


@dataclass
class Tally:
    """What one worker has counted."""

    matrix: ConfusionMatrix
    images: int = 0
    errors: int = 0
    rows: list[np.ndarray] = field(default_factory=list)
    """Pictures: photo, mask, and labels side by side."""

    def gather(self, device: torch.device) -> None:
        """Add what the other workers have counted."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return
        counts = [*self.matrix.counts.ravel().tolist(), self.images, self.errors]
        vector = torch.tensor(counts, dtype=torch.int64, device=device)
        dist.all_reduce(vector)
        *matrix, self.images, self.errors = vector.tolist()
        counts_NN = np.array(matrix, np.int64).reshape(self.matrix.counts.shape)
        self.matrix = ConfusionMatrix(self.matrix.num_classes, counts_NN)


def validate(model: SED, data: Labelled, tables: Iterable[Any]) -> Tally:
    """Label a worker's part of a dataset and compare with the masks.

    Args:
        model: In evaluation mode.
        data: What the masks mean.
        tables: Tables of `rows.PREPARED`.
    """
    # More names may be asked than are told apart: the others are the last class, background.
    text_NPD = model.embed_classes(data.asked)
    tally = Tally(ConfusionMatrix(len(data.classes)))
    for table in tables:
        for row in table.to_pylist():
            try:
                if row.get("message"):
                    raise ValueError(row["message"])
                pair = decode_photo(row["image"]["bytes"]), open_grey(row["mask"]["bytes"])
            # A damaged file can make Pillow's parsers raise anything.
            except Exception as error:
                logger.warning("%s of %s cannot be read: %s", row["image_id"], data.name, error)
                tally.errors += 1
                continue
            count(model, pair, text_NPD, tally)
    tally.gather(model.device)
    return tally


def count(
    model: SED, pair: tuple[Image.Image, np.ndarray], text_NPD: torch.Tensor, tally: Tally
) -> None:
    """Label one image, as the published evaluation does, and count its pixels."""
    photo, mask_HW = pair
    small = resize_shortest_edge(photo, model.config.short_side, model.config.long_side)
    (scores,) = model.score(model.prepare(np.array(small)).unsqueeze(0), text_NPD)
    labels_HW = scores.label_map(*mask_HW.shape)[0].cpu().numpy()
    num_classes = tally.matrix.num_classes
    labels_HW = np.minimum(labels_HW, num_classes - 1)
    tally.matrix.update(labels_HW, mask_HW, ignore=ignore_value(num_classes))
    tally.images += 1
    if len(tally.rows) < PICTURES:
        tally.rows.append(picture(photo, mask_HW, labels_HW, num_classes))


def picture(
    photo: Image.Image, mask_HW: np.ndarray, labels_HW: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return a photo, its mask and what the model says, side by side, image_HW3."""
    width = max(1, round(photo.width * PICTURE_HEIGHT / photo.height))
    small = np.asarray(photo.resize((width, PICTURE_HEIGHT)))
    maps = [
        paint(shrink(values, PICTURE_HEIGHT, width), num_classes) for values in (mask_HW, labels_HW)
    ]
    gap = np.full((PICTURE_HEIGHT, 4, 3), 255, np.uint8)
    return np.concatenate([small, gap, maps[0], gap, maps[1]], axis=1)


def paint(labels_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels as colours, white where there is no class, image_HW3."""
    image_HW3 = np.full((*labels_HW.shape, 3), 255, np.uint8)
    known_HW = labels_HW < num_classes
    image_HW3[known_HW] = class_colours(np.arange(num_classes))[labels_HW[known_HW]]
    return image_HW3


def sheet(rows: Sequence[np.ndarray]) -> Image.Image:
    """Return pictures below each other; narrower ones are filled up with white."""
    width = max(row.shape[1] for row in rows)
    filled = [
        np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return Image.fromarray(np.concatenate(filled))


def summary(data: Labelled, tally: Tally) -> dict[str, Any]:
    """Return the scores of a dataset, in percent; where nothing was counted they are None."""
    scores = tally.matrix.metrics().named()
    if data.name.endswith("-unseen"):
        scores["mIoU_unseen"] = tally.matrix.metrics(data.unseen).mean_iou
    return {
        "name": data.name,
        **{name: None if math.isnan(score) else score for name, score in scores.items()},
        "images": tally.images,
        "errors": tally.errors,
        "rejection": "none",
    }
