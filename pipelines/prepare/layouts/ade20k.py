"""ADE20K's scene parsing benchmark: ADEChallengeData2016.

A value is the class index + 1, 0 = none.
"""

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import Encoding, converted, from_one, grey
from pipelines.prepare.folders import PNG, find_top, read_lines
from pipelines.prepare.layouts.matched import match
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.remarks import compare_names
from pipelines.storage import Location

NAME = "ade20k-150"
FOLDERS = {"train": "training", "val": "validation"}
CONVERTED = " (255 is in no mask of ADE20K: was it converted before?)"


def find(source: Location, split: str) -> Pairs:
    """Find the pairs of a split."""
    folder = FOLDERS[split]
    images = [f"images/{folder}"]
    top = find_top(source, ["ADEChallengeData2016"], images)
    masks = {
        f"annotations/{folder}": encoding(),
        f"annotations_detectron2/{folder}": converted(150, 255),
    }
    return match(
        NAME, split, top, images=images, masks=masks, endings=PNG, compared=class_order(top)
    )


def encoding() -> Encoding:
    """Return how the authors write masks."""
    return Encoding(name="scene parsing", read=grey, class_V=from_one(150), hint=CONVERTED)


def class_order(top: Location) -> tuple[list[str], list[str]]:
    """Compare objectInfo150.txt, where it lies there, with the class names."""
    place = top.at("objectInfo150.txt")
    if not place.exists():
        return [], []
    cells = [line.split("\t") for line in read_lines(place)[1:]]
    found = {int(cell[0]) - 1: cell[-1] for cell in cells if cell[0].isdecimal()}
    ours = BENCHMARKS[NAME].classes
    listed = {index: found.get(index, "nothing") for index in range(len(ours))}
    return compare_names(listed, ours, "objectInfo150.txt")
