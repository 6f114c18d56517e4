"""Put an evaluation into one HTML page that needs nothing but itself: evaluation.html.j2.

Class names, image names and messages are somebody's input: the template escapes everything.

Shapes: N classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.confusion import Confusion, ConfusionPicture, confusion_picture
from pipelines.evaluation.confusion import confusions as confused_pairs
from pipelines.evaluation.counting import Shown
from pipelines.evaluation.published import PaperTable
from pipelines.evaluation.strips import colours_of
from pipelines.report import pictures
from pipelines.report.page import Bar, bars, templates
from pipelines.report.panels import MAX_LEGEND, Share, shares, without_overlaps
from pipelines.results import Result

MAX_PAIRS = 15
"""Confused pairs of classes that the page lists."""

MAX_ERRORS = 200
"""Errors that the page lists; evaluation.json has them all."""


@dataclass(frozen=True)
class Overlay:
    """A label map on its photo."""

    mask: str
    shares: list[Share]


@dataclass(frozen=True)
class Worst:
    """An image of the page."""

    name: str
    iou: float
    width: int
    height: int
    photo: str
    truth: Overlay
    predicted: Overlay


@dataclass(frozen=True)
class Lost:
    """A class of which nothing was found, and what most of it was taken for."""

    name: str
    pixels: int
    images: int
    taken_for: str
    share: float


@dataclass(frozen=True)
class Section:
    """All that the page says of one dataset under one rejection."""

    result: Result
    summary: dict[str, Any]
    classes: list[str]
    colours: list[str]
    rows: list[dict[str, Any]]
    """Scores of each class of the truth, the worst first."""

    lost: list[Lost]
    pairs: list[Confusion]
    picture: ConfusionPicture
    image_bars: list[Bar]
    worst: list[Worst]


def render(results: Sequence[Result], paper: PaperTable | None, facts: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        results: What was found, in the order of the page.
        paper: The paper's table, where one of its datasets was measured.
        facts: What was run, as a name and a text each; what is None is left out.
    """
    return (
        templates(Path(__file__).parent)
        .get_template("evaluation.html.j2")
        .render(
            sections=[make_section(result) for result in results],
            paper=paper,
            facts=[(name, str(value)) for name, value in facts.items() if value is not None],
            model=facts["Model"],
            heat_stops=", ".join(pictures.HEAT),
            max_errors=MAX_ERRORS,
        )
    )


def make_section(result: Result) -> Section:
    """Gather what the page says of a result."""
    colours_N3 = colours_of(result)
    tally, classes = result.tally, result.data.classes
    colour_of = dict(zip(classes, map(pictures.to_hex, colours_N3), strict=True))
    rows = [row | {"colour": colour_of[row["class"]]} for row in result.per_class()]
    edges = np.linspace(0, 100, len(tally.image_ious) + 1)
    return Section(
        result=result,
        summary=result.summary(),
        classes=classes,
        colours=[pictures.to_hex(colour_3) for colour_3 in colours_N3],
        rows=sorted(rows, key=lambda row: (row["IoU"], row["class"])),
        lost=[lost(result, index) for index in result.matrix.collapsed()],
        pairs=confused_pairs(result.matrix, MAX_PAIRS),
        picture=confusion_picture(result.matrix),
        image_bars=bars(tally.image_ious, edges),
        worst=[make_worst(shown, classes, colours_N3) for shown in result.worst.sorted()],
    )


def lost(result: Result, index: int) -> Lost:
    """Say what became of a collapsed class."""
    taken_N = result.matrix.counts[:-1, index]
    pixels, winner = int(taken_N.sum()), int(taken_N.argmax())
    return Lost(
        name=result.data.classes[index],
        pixels=pixels,
        images=int(result.tally.images_N[index]),
        taken_for=result.data.classes[winner],
        share=float(taken_N[winner] / pixels),
    )


def make_worst(shown: Shown, classes: Sequence[str], colours_N3: np.ndarray) -> Worst:
    """Make the pictures of an image."""
    truth_HW = pictures.open_grey(shown.truth)
    height, width = truth_HW.shape
    return Worst(
        name=shown.image_id,
        iou=shown.iou,
        width=width,
        height=height,
        photo=pictures.file_uri(shown.photo, "JPEG"),
        truth=overlay(truth_HW, classes, colours_N3),
        predicted=overlay(pictures.open_grey(shown.predicted), classes, colours_N3),
    )


def overlay(labels_HW: np.ndarray, classes: Sequence[str], colours_N3: np.ndarray) -> Overlay:
    """Return a label map with the names of its largest classes."""
    pixels_N = np.bincount(labels_HW[labels_HW < len(colours_N3)], minlength=len(colours_N3))
    order = np.argsort(-pixels_N, kind="stable")[:MAX_LEGEND]
    largest = [
        {"category_id": index, "area_fraction": float(pixels_N[index] / labels_HW.size)}
        for index in order[pixels_N[order] > 0].tolist()
    ]
    height = labels_HW.shape[0] / labels_HW.shape[1]
    named = without_overlaps(shares(labels_HW, largest), classes, height)
    return Overlay(pictures.mask_uri(labels_HW, colours_N3), named)
