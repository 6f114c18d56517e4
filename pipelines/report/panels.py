"""One image of a report: its photo, its labels and its confidence, small.

Shapes: H W pixels, N classes.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.images import ImageError, decode
from pipelines.report import pictures
from pipelines.storage import locate

MAX_SIDE = 560
"""Longer side of a picture on the page, in pixels."""

MIN_NAMED = 0.02
"""Share of the image from which a segment bears its name on the picture."""

MAX_NAMED = 6
MAX_LEGEND = 10

MAX_APART = 16
"""Largest classes of an image whose colours are kept far from each other."""

TAG_HEIGHT = 0.1
"""Of a name on a picture, as a share of the width of the picture."""

LETTER = 0.026
"""Width of a letter of a name, likewise: 6 of 234 pixels where two pictures share a card."""

MARK = 5
"""Letters that the colour of a name and the edges around it take the room of."""

LONGEST_TAG = 0.6
"""Width of a name at most; longer ones end in dots."""

COARSE = 64
"""Side of the grid on which the place of a name is looked for."""


@dataclass(frozen=True)
class Share:
    """A class in an image."""

    class_index: int
    area_fraction: float
    x: float | None = None
    """Where its name stands, as a share of the width; None: too small or too ragged for one."""

    y: float | None = None


@dataclass(frozen=True)
class Panel:
    """One image of the report."""

    name: str
    uri: str
    width: int
    height: int
    photo: str | None
    """data: URI; None where the photo cannot be read any more."""

    mask: str
    heat: str
    shares: list[Share]
    """The largest segments, largest first."""

    more: int
    """How many smaller segments there are."""

    ignored: float
    mean_confidence: float
    candidates: int


def picture_size(row: dict[str, Any]) -> tuple[int, int]:
    """Return the height and width of the pictures of one row."""
    scale = min(1.0, MAX_SIDE / max(row["width"], row["height"]))
    return round(row["height"] * scale) or 1, round(row["width"] * scale) or 1


def make_panel(row: dict[str, Any], classes: Sequence[str], colours_N3: np.ndarray) -> Panel:
    """Make the pictures of one row."""
    height, width = picture_size(row)
    labels_HW = pictures.open_grey(row["mask"]["bytes"])
    return Panel(
        name=posixpath.basename(row["image_uri"]),
        uri=row["image_uri"],
        width=row["width"],
        height=row["height"],
        photo=read_photo(row["image_uri"], height, width),
        mask=pictures.mask_uri(pictures.shrink(labels_HW, height, width), colours_N3),
        heat=pictures.heat_uri(pictures.open_grey(row["confidence"]["bytes"]), height, width),
        shares=without_overlaps(
            shares(labels_HW, largest(row, MAX_LEGEND)), classes, row["height"] / row["width"]
        ),
        more=max(0, len(row["segments"]) - MAX_LEGEND),
        ignored=row["ignored_fraction"] or 0.0,
        mean_confidence=row["mean_confidence"] or 0.0,
        candidates=len(row["candidates"]),
    )


def largest(row: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the largest segments of a row, largest first."""
    return sorted(row["segments"], key=lambda segment: -segment["area_fraction"])[:count]


def shares(labels_HW: np.ndarray, segments: list[dict[str, Any]]) -> list[Share]:
    """Return the segments with the place of their names."""
    coarse_HW = pictures.shrink(labels_HW, COARSE, COARSE)
    found = []
    for rank, segment in enumerate(segments):
        index, area = segment["category_id"], segment["area_fraction"]
        named = rank < MAX_NAMED and area >= MIN_NAMED
        place = pictures.inner_point(coarse_HW == index) if named else None
        found.append(Share(index, area, *(place or (None, None))))
    return found


def without_overlaps(found: Sequence[Share], classes: Sequence[str], height: float) -> list[Share]:
    """Return the segments with their names inside the picture and none over another.

    Args:
        found: Largest first: it keeps its name where two do not fit.
        classes: Names.
        height: Of the picture, as a share of its width.
    """
    placed: list[tuple[float, float, float]] = []
    result = []
    for one in found:
        if one.x is None or one.y is None:
            result.append(one)
            continue
        half = min(LONGEST_TAG, LETTER * (len(classes[one.class_index]) + MARK)) / 2
        x = min(max(one.x, half), 1 - half)
        edge = min(TAG_HEIGHT, height) / 2
        y = min(max(one.y * height, edge), height - edge)
        free = all(
            abs(x - other) >= half + width or abs(y - line) >= TAG_HEIGHT
            for other, line, width in placed
        )
        if free:
            placed.append((x, y, half))
        result.append(replace(one, x=x if free else None, y=y / height if free else None))
    return result


def read_photo(uri: str, height: int, width: int) -> str | None:
    """Return the photo as a small data: URI; None where it is gone or no image any more."""
    try:
        sides = sorted((height, width))
        photo = decode(locate(uri).read(), short_side=sides[0], long_side=sides[1])
    except (OSError, ImageError):
        return None
    return pictures.photo_uri(photo.pixels_HW3)
