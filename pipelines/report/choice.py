"""Which images a report shows.

Shapes: N classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pipelines.report import pictures
from pipelines.report.panels import MAX_APART, Panel, largest, make_panel
from pipelines.report.spotlights import (
    Contrast,
    Rarity,
    has_others,
    is_rare,
    make_contrast,
    make_rarity,
)
from pipelines.report.statistics import LabelStatistics, read_rows
from pipelines.storage import Location

READERS = 8
"""Photos that are fetched at the same time."""

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
