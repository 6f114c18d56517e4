"""Labelled images as a Dataset of rows, by name: what training and evaluation read.

Rows out: `rows.PREPARED`.
"""

from pipelines.datasets.dataset import Labelled, Split
from pipelines.datasets.drawn import SCENES, draw_scenes, load_scenes
from pipelines.datasets.named import LABELS, NAMES, check, load, split_spec
from pipelines.datasets.written import labels_digest, load_labels

__all__ = [
    "LABELS",
    "NAMES",
    "SCENES",
    "Labelled",
    "Split",
    "check",
    "draw_scenes",
    "labels_digest",
    "load",
    "load_labels",
    "load_scenes",
    "split_spec",
]
