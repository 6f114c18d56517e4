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
from pipelines.report.pictures import class_colours, mask_image, open_grey
from sed.metrics import ConfusionMatrix

OPACITY = 0.6
"""Of a label map on its photo."""

GAP = 6
"""Pixels between two pictures."""


def colours_of(matrix: ConfusionMatrix) -> np.ndarray:
    """Return a colour for each class, colours_N3; the commonest have the clearest ones."""
    _, truth_N, predicted_N = matrix.totals()
    return class_colours(np.argsort(-(truth_N + predicted_N), kind="stable"))


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
