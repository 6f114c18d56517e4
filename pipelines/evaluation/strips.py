"""Pictures of single images: photo, truth and prediction side by side.

Shapes: H W pixels of a picture, N classes.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.evaluation.counting import Shown
from pipelines.report.panels import MAX_APART
from pipelines.report.pictures import class_colours, mask_image, open_grey
from pipelines.results import Result

OPACITY = 0.6
"""Of a label map on its photo."""

GAP = 6
"""Pixels between two pictures."""


def colours_of(result: Result) -> np.ndarray:
    """Return a colour for each class, colours_N3; those of a shown image are far apart."""
    _, truth_N, predicted_N = result.matrix.totals()
    order = np.argsort(-(truth_N + predicted_N), kind="stable")
    return class_colours(order, [shown_classes(one, len(order)) for one in result.worst.sorted()])


def shown_classes(shown: Shown, num_classes: int) -> list[int]:
    """Return the classes that most of an image's truth and prediction is, at most MAX_APART."""
    both = [open_grey(png).ravel() for png in (shown.truth, shown.predicted)]
    pixels_N = np.bincount(np.concatenate(both), minlength=num_classes)[:num_classes]
    order = np.argsort(-pixels_N, kind="stable")[:MAX_APART]
    return order[pixels_N[order] > 0].tolist()


def strip(shown: Shown, colours_N3: np.ndarray) -> Image.Image:
    """Return photo, truth and prediction of an image in one picture."""
    photo = Image.open(io.BytesIO(shown.photo)).convert("RGB")
    width, height = photo.size
    canvas = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    canvas.paste(photo, (0, 0))
    for place, png in enumerate((shown.truth, shown.predicted), 1):
        mask = mask_image(open_grey(png), colours_N3).resize(photo.size, Image.Resampling.NEAREST)
        blend = Image.blend(photo, mask.convert("RGB"), OPACITY)
        overlay = Image.composite(blend, photo, mask.getchannel("A"))
        canvas.paste(overlay, (place * (width + GAP), 0))
    return canvas


def write_strips(folder: Path, worst: Sequence[Shown], colours_N3: np.ndarray) -> None:
    """Write a PNG for each image, the worst first."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, shown in enumerate(worst, 1):
        name = re.sub(r"[^\w.-]+", "_", shown.image_id.rpartition("/")[2])[-80:]
        strip(shown, colours_N3).save(folder / f"{rank:02d}-mIoU-{shown.iou:.1f}-{name}.png")
