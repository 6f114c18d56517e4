"""The class lists of the benchmarks."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("coco171", "ade150", "ade847", "pc59", "pc459", "voc20", "voc20b")

SYNONYM_SEPARATOR = ", "
"""Stands between the synonyms of one class."""


def vocabulary(name: str) -> list[str]:
    """Return the class names of a benchmark, in the order of its label values.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in NAMES:
        raise ValueError(f"unknown vocabulary {name!r}; known: {', '.join(NAMES)}")
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
