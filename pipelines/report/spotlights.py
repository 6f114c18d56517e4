"""Images to review in which what is rare, or confused, stands out.

Shapes: H W pixels, N classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.report import pictures
from pipelines.report.panels import COARSE, Panel, Share, picture_size, without_overlaps
from pipelines.report.statistics import Confusion

MIN_UNDER_NAME = 0.1
"""The same where the segment itself is what the picture is about: no name may hide it."""


@dataclass(frozen=True)
class Rarity:
    """A rare class, and the image that shows most of it."""

    share: Share
    panel: Panel
    focus: str
    """data: URI of what lets the class stand out of the photo."""


@dataclass(frozen=True)
class Contrast:
    """Two classes that are confused, and the image where they contest the most pixels."""

    confusion: Confusion
    shares: list[Share]
    """Of the first and of the second; 0: it wins nowhere in this image."""

    panel: Panel
    focus: str
    """data: URI of what lets the two stand out of the photo."""


def is_rare(shown: int, images: int) -> bool:
    """Say whether a class that so many of the images show may be called rare."""
    return shown < images and shown <= max(1, images // 4)


def make_rarity(index: int, row: dict[str, Any], panel: Panel, colours_N3: np.ndarray) -> Rarity:
    """Make the picture of a row in which one class stands out."""
    own_HW = pictures.open_grey(row["mask"]["bytes"]) == index
    return Rarity(
        Share(index, float(own_HW.mean())),
        panel,
        pictures.focus_uri(own_HW, *picture_size(row), colours_N3[index]),
    )


def has_others(row: dict[str, Any], confusion: Confusion) -> bool:
    """Say whether a row shows other classes: with none there is nothing to dim."""
    return bool({one["category_id"] for one in row["segments"]} - {*confusion.pair})


def make_contrast(
    confusion: Confusion,
    row: dict[str, Any],
    panel: Panel,
    classes: Sequence[str],
    colours_N3: np.ndarray,
) -> Contrast:
    """Make the picture of a row in which two classes stand out."""
    labels_HW = pictures.open_grey(row["mask"]["bytes"])
    coarse_HW = pictures.shrink(labels_HW, COARSE, COARSE)
    found = []
    for index in confusion.pair:
        area = float((labels_HW == index).mean())
        place = pictures.inner_point(coarse_HW == index) if area >= MIN_UNDER_NAME else None
        found.append(Share(index, area, *(place or (None, None))))
    return Contrast(
        confusion,
        without_overlaps(found, classes, row["height"] / row["width"]),
        panel,
        pictures.pair_uri(
            pictures.shrink(labels_HW, *picture_size(row)),
            {index: colours_N3[index] for index in confusion.pair},
        ),
    )
