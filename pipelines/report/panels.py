"""The images that a report shows: each photo, its labels and its confidence, small.

Shapes: H W pixels, N classes.
"""

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.images import ImageError, decode
from pipelines.report import pictures
from pipelines.report.statistics import Confusion, LabelStatistics, read_rows
from pipelines.storage import Location, locate

MAX_SIDE = 560
"""Longer side of a picture on the page, in pixels."""

READERS = 8
"""Photos that are fetched at the same time."""

MIN_NAMED = 0.02
"""Share of the image from which a segment bears its name on the picture."""

MIN_UNDER_NAME = 0.1
"""The same where the segment itself is what the picture is about: no name may hide it."""

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

COLUMNS = [
    "image_uri",
    "width",
    "height",
    "mask",
    "confidence",
    "segments.list.element.category_id",
    "segments.list.element.area_fraction",
    "ignored_fraction",
    "mean_confidence",
    "candidates",
]


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


@dataclass(frozen=True)
class Panels:
    """What a report shows, and the colour of each class in it."""

    sample: list[Panel]
    uncertain: list[Panel]
    rare: list[Rarity]
    confused: list[Contrast]
    colours_N3: np.ndarray


def make_panels(
    output: Location,
    statistics: LabelStatistics,
    classes: Sequence[str],
    rare_classes: int,
    confused_pairs: int = 0,
) -> Panels:
    """Read the chosen rows and their photos; show so many of the rarest classes and of pairs.

    Of few images or few classes a third is shown to review: a list of all says nothing.
    """
    sample, uncertain = statistics.sample.picks(), statistics.uncertain.picks()
    uncertain = uncertain[: -(-statistics.images // 3)]
    occurring = len(classes) - len(statistics.collapsed)
    rare = [
        (index, pick)
        for index, pick in statistics.rarest(min(rare_classes, occurring // 3))
        if is_rare(int(statistics.images_N[index]), statistics.images)
    ]
    confused = statistics.confusions(confused_pairs)
    picks = {*sample, *uncertain, *(pick for _, pick in rare), *(one.pick for one in confused)}
    rows = read_rows(output, list(picks), COLUMNS)
    together = [[one["category_id"] for one in largest(row, MAX_APART)] for row in rows.values()]
    colours_N3 = pictures.class_colours(
        np.argsort(-statistics.pixels_N, kind="stable"),
        [*together, *(one.pair for one in confused)],
    )
    with ThreadPoolExecutor(READERS) as pool:
        made = pool.map(lambda row: make_panel(row, classes, colours_N3), rows.values())
        panels = dict(zip(rows, made, strict=True))
    return Panels(
        sorted((panels[pick] for pick in sample), key=lambda panel: panel.uri),
        [panels[pick] for pick in uncertain],
        [make_rarity(index, rows[pick], panels[pick], colours_N3) for index, pick in rare],
        [
            make_contrast(one, rows[one.pick], panels[one.pick], classes, colours_N3)
            for one in confused
            if has_others(rows[one.pick], one)
        ],
        colours_N3,
    )


def is_rare(shown: int, images: int) -> bool:
    """Say whether a class that so many of the images show may be called rare."""
    return shown < images and shown <= max(1, images // 4)


def make_rarity(index: int, row: dict[str, Any], panel: Panel, colours_N3: np.ndarray) -> Rarity:
    """Make the picture of a row in which one class stands out."""
    own_HW = pictures.open_grey(row["mask"]["bytes"]) == index
    rows, columns = np.nonzero(own_HW)
    height, width = own_HW.shape
    place = (float(columns.mean() / width), float(rows.min() / height)) if len(rows) else (0.5, 0.5)
    return Rarity(
        Share(index, float(own_HW.mean()), *place),
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
        y = min(max(one.y * height, TAG_HEIGHT / 2), height - TAG_HEIGHT / 2)
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
