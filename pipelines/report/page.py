"""Put numbers and pictures into the page: report.html.j2 beside this file.

Class names, URIs and messages are somebody's input: the template escapes everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.report.choice import Panels
from pipelines.report.pictures import HEAT, to_hex
from pipelines.report.statistics import ErrorStatistics, LabelStatistics

MAX_BARS = 24
"""Bars of a histogram."""

MAX_CONFUSIONS = 12
"""Pairs of classes that are listed as confused with each other."""


@dataclass(frozen=True)
class ClassRow:
    """One line of the table of classes."""

    name: str
    colour: str
    share: float
    bar: float
    """Share as a part of the largest share."""

    images: int
    confidence: float


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    low: float
    high: float
    count: int
    height: float
    """Count as a part of the largest count."""


def render(
    labels: LabelStatistics,
    errors: ErrorStatistics,
    panels: Panels,
    *,
    classes: Sequence[str],
    run: Mapping[str, Any],
) -> str:
    """Return the page as HTML."""
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            labels=labels,
            errors=errors,
            panels=panels,
            classes=list(classes),
            colours=[to_hex(colour_3) for colour_3 in panels.colours_N3],
            rows=class_rows(labels, list(classes), panels.colours_N3),
            absent=[classes[index] for index in labels.collapsed],
            confusions=labels.confusions(MAX_CONFUSIONS),
            heat_stops=", ".join(HEAT),
            facts=facts(run),
            speed=run.get("images_per_second"),
            model=run.get("configuration", {}).get("model"),
            rejection=run.get("identity", {}).get("rejection"),
            candidate_bars=candidate_bars(labels.candidates),
            confidence_bars=bars(labels.confidence, np.linspace(0, 1, len(labels.confidence) + 1)),
        )
    )


def templates(*folders: Path) -> Environment:
    """Return the templates of these folders and of this one, which escape all that they are given.

    Each page includes style.css.j2: pages of this project look alike.
    """
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": share, "count": count, "short": short}
    return environment


def facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was run, as far as run.json says it."""
    identity = run.get("identity", {})
    configuration = run.get("configuration", {})
    mlflow = run.get("mlflow", {})
    known = [
        ("Images", identity.get("images")),
        ("Output", run.get("output")),
        ("Model", configuration.get("model")),
        ("Model digest", short(identity.get("model_id"))),
        ("Classes", len(run.get("classes", [])) or None),
        ("Vocabulary digest", short(identity.get("vocabulary_id"))),
        ("Rejection", identity.get("rejection")),
        ("Minimum confidence", identity.get("min_confidence")),
        ("Started", run.get("started")),
        ("Finished", run.get("finished")),
        ("Run", run.get("run_id")),
        ("MLflow", mlflow.get("uri")),
        ("Software", ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items())),
    ]
    return [(name, str(value)) for name, value in known if value not in (None, "")]


def class_rows(
    labels: LabelStatistics, classes: list[str], colours_N3: np.ndarray
) -> list[ClassRow]:
    """Return the classes that occur, the largest first."""
    order: list[int] = np.argsort(-labels.pixels_N, kind="stable").tolist()
    largest = max(int(labels.pixels_N.max(initial=0)), 1)
    return [
        ClassRow(
            name=classes[index],
            colour=to_hex(colours_N3[index]),
            share=float(labels.pixels_N[index] / max(labels.pixels, 1)),
            bar=float(labels.pixels_N[index] / largest),
            images=int(labels.images_N[index]),
            confidence=float(labels.confidence_N[index] / max(labels.pixels_N[index], 1)),
        )
        for index in order
        if labels.images_N[index]
    ]


def candidate_bars(candidates: np.ndarray) -> list[Bar]:
    """Return the histogram of surviving classes over the range that occurs."""
    found = np.flatnonzero(candidates)
    if not len(found):
        return []
    low, high = int(found[0]), int(found[-1])
    step = -(-(high - low + 1) // MAX_BARS)
    edges = np.arange(low, high + step + 1, step)
    counts = [candidates[start : start + step].sum() for start in edges[:-1]]
    return bars(np.array(counts), edges, last=1)


def bars(counts: np.ndarray, edges: np.ndarray, last: int = 0) -> list[Bar]:
    """Return a histogram; `last` is what an upper edge lies beyond the last value in its bar."""
    largest = max(int(counts.max(initial=0)), 1)
    return [
        Bar(float(low), float(high) - last, int(number), number / largest)
        for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def share(value: float) -> str:
    """Return a fraction in percent, with the digits that matter."""
    percent = 100 * value
    if percent and percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{round(value):,}".replace(",", "\u202f")


def short(digest: str | None) -> str | None:
    """Return the beginning of a digest."""
    return digest[:19] if digest and digest.startswith("sha256:") else digest
