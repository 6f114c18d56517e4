"""Which classes are taken for which: the largest confusions, as pairs and as a picture.

Shapes: N classes, R rows and C columns of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sed.metrics import ConfusionMatrix

CHOSEN = 20
"""Rows and columns of a picture."""


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were labelled as another."""

    truth: int
    predicted: int
    pixels: int
    share: float
    """Of the pixels of the true class."""


@dataclass(frozen=True)
class ConfusionPicture:
    """The classes that are confused most, and where their pixels went."""

    true: list[int]
    """The chosen classes, in the order of the vocabulary: rows."""

    predicted: list[int]
    """What most of them were labelled as, in the same order: columns."""

    share_RC: np.ndarray
    """Share of a true class that was labelled as each of these."""

    other_R: np.ndarray
    """Share that went to classes that are not shown."""


def confusions(matrix: ConfusionMatrix, most: int) -> list[Confusion]:
    """Return the pairs of classes with the most confused pixels, largest first."""
    wrong_NN = wrong_pixels(matrix)
    order = np.argsort(-wrong_NN, axis=None, kind="stable")[:most]
    _, truth_N, _ = matrix.totals()
    found = []
    for predicted, truth in zip(*np.unravel_index(order, wrong_NN.shape), strict=True):
        pixels = int(wrong_NN[predicted, truth])
        if pixels:
            share = pixels / int(truth_N[truth])
            found.append(Confusion(int(truth), int(predicted), pixels, share))
    return found


def wrong_pixels(matrix: ConfusionMatrix) -> np.ndarray:
    """Return the counts without those that are right: row predicted, column true."""
    wrong_NN = matrix.counts[:-1, :-1].copy()
    np.fill_diagonal(wrong_NN, 0)
    return wrong_NN


def confusion_picture(matrix: ConfusionMatrix, most: int = CHOSEN) -> ConfusionPicture:
    """Choose the classes that are confused most, and say where their pixels went.

    A confusion weighs its pixels times its share of the true class: the mere edges of a large class
    do not count as much as a small class that is taken for another one.
    """
    _, truth_N, _ = matrix.totals()
    share_NN = matrix.counts[:-1, :-1] / np.maximum(truth_N, 1)
    true = largest((wrong_pixels(matrix) * share_NN).sum(axis=0), most)
    predicted = largest((matrix.counts[:-1, :-1] * share_NN)[:, true].sum(axis=1), most)
    share_RC = share_NN[np.ix_(predicted, true)].T
    return ConfusionPicture(
        true.tolist(), predicted.tolist(), share_RC, (1 - share_RC.sum(axis=1)).clip(0)
    )


def largest(weight_N: np.ndarray, most: int) -> np.ndarray:
    """Return the places of the largest weights that are not 0, in their order."""
    chosen = np.argsort(-weight_N, kind="stable")[:most]
    return np.sort(chosen[weight_N[chosen] > 0])


def draw(picture: ConfusionPicture, classes: Sequence[str], title: str, path: Path) -> None:
    """Write the picture as a PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    rows, columns = (
        [shorten(classes[index]) for index in part] for part in (picture.true, picture.predicted)
    )
    size = (4.8 + 0.36 * len(columns), 3.4 + 0.34 * len(rows))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    values = 100 * np.column_stack([picture.share_RC, picture.other_R])
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(columns) + 1), [*columns, "any other"], rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("labelled as")
    axes.set_ylabel("in truth")
    axes.set_title(title)
    for (row, column), value in np.ndenumerate(values):
        if value >= 1:
            colour = "white" if value > 55 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, size=7)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class' pixels")
    figure.savefig(path, format="png")


def shorten(name: str, most: int = 24) -> str:
    """Return a name that fits beside a picture."""
    return name if len(name) <= most else name[: most - 1] + "…"
