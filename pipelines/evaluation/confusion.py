"""Which classes are taken for which: the largest confusions, as pairs and as a picture.

Shapes: N classes, C chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sed.metrics import ConfusionMatrix

CHOSEN = 20
"""Classes of a picture."""


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

    classes: list[int]
    """The chosen classes, in the order of the vocabulary."""

    share_CC: np.ndarray
    """Share of a true class (row) that was labelled as each chosen class (column)."""

    other_C: np.ndarray
    """Share that went to classes that are not chosen."""


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
    wrong_NN = wrong_pixels(matrix)
    _, truth_N, _ = matrix.totals()
    weight_NN = wrong_NN.astype(np.float64) ** 2 / np.maximum(truth_N, 1)
    weight_N = np.where(truth_N > 0, weight_NN.sum(axis=0) + weight_NN.sum(axis=1), 0)
    chosen = np.argsort(-weight_N, kind="stable")[:most]
    chosen = np.sort(chosen[weight_N[chosen] > 0])
    share_CC = matrix.counts[np.ix_(chosen, chosen)].T / truth_N[chosen][:, None]
    return ConfusionPicture(chosen.tolist(), share_CC, 1 - share_CC.sum(axis=1))


def draw(picture: ConfusionPicture, classes: Sequence[str], title: str, path: Path) -> None:
    """Write the picture as a PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    names = [shorten(classes[index]) for index in picture.classes]
    side = 3.2 + 0.36 * len(names)
    figure = Figure(figsize=(side + 1.2, side), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    values = 100 * np.column_stack([picture.share_CC, picture.other_C])
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names) + 1), [*names, "any other"], rotation=90)
    axes.set_yticks(range(len(names)), names)
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
