"""COCO-Stuff: {train,val}2017 of COCO, and the PNGs of stuffthingmaps.

A value is the COCO id - 1, 255 = unlabelled; 171 of the values 0..181 are classes.
"""

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import Encoding, converted, grey, original_values, table
from pipelines.prepare.folders import PNG, find_top, read_lines
from pipelines.prepare.layouts.matched import match
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.remarks import compare_names
from pipelines.storage import Location

NAME = "coco-stuff"
UNLABELLED = 255
CONVERTED = " (values like 11 are in no mask of COCO-Stuff: was it converted before?)"


def find(source: Location, split: str) -> Pairs:
    """Find the pairs of a split."""
    folder = f"{split}2017"
    images = [f"images/{folder}", folder]
    top = find_top(source, ["coco-stuff", "coco"], images)
    original = encoding()
    masks = {
        f"annotations/{folder}": original,
        f"stuffthingmaps/{folder}": original,
        f"stuffthingmaps_trainval2017/{folder}": original,
        f"annotations_detectron2/{folder}": converted(171, UNLABELLED),
        folder: original,
    }
    return match(
        NAME, split, top, images=images, masks=masks, endings=PNG, compared=class_order(top)
    )


def encoding() -> Encoding:
    """Return how the authors write masks."""
    class_V = table(original_values(NAME), ignored=[UNLABELLED])
    return Encoding(name="stuffthingmaps", read=grey, class_V=class_V, hint=CONVERTED)


def class_order(top: Location) -> tuple[list[str], list[str]]:
    """Compare labels.txt of COCO-Stuff, where it lies there, with the class names."""
    place = top.at("labels.txt")
    if not place.exists():
        return [], []
    lines = (line.partition(":") for line in read_lines(place))
    named = {int(number) - 1: name for number, _, name in lines if number.isdecimal()}
    values = original_values(NAME)
    ours = BENCHMARKS[NAME].classes
    found = {index: named.get(value, "nothing") for index, value in enumerate(values)}
    return compare_names(found, ours, "labels.txt")
