"""ADE20K as a whole, edition 2021_17_01: images/ADE/{training,validation}/*/*/.

In a *_seg.png, R and G give the number of the object; 847 of them are classes, others are ignored.
What lies beside it in *.json names the objects of an image by their numbers.
"""

import json
from collections.abc import Iterator, Sequence

from pyarrow.fs import FileInfo, FileSelector, FileType

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import (
    IGNORED,
    Encoding,
    ade_objects,
    converted,
    original_values,
    table,
)
from pipelines.prepare.folders import TIFF, find_top
from pipelines.prepare.layouts.matched import match
from pipelines.prepare.pairs import Pairs, pair_table
from pipelines.prepare.remarks import compare_names, count_problem, one_sided
from pipelines.storage import Location

NAME = "ade20k-847"
EDITION = "ADE20K_2021_17_01"
FOLDERS = {"train": "training", "val": "validation"}
REDUCE_TO = 512
NUM_VALUES = 25 * 256 + 256
"""R // 10 is 25 at most, and G 255."""

SAMPLED = 16
"""So many *.json are read to compare the class names."""


Files = dict[str, FileInfo]


def find(source: Location, split: str) -> Pairs:
    """Find the pairs of a split."""
    folder = FOLDERS[split]
    original, done = f"images/ADE/{folder}", f"images_detectron2/{folder}"
    top = find_top(source, [EDITION], [original, done])
    photos, labels, lists = read_tree(top.at(original))
    if not photos:
        masks = {f"annotations_detectron2/{folder}": converted(847, 65535)}
        return match(NAME, split, top, images=[done], masks=masks, endings=TIFF)
    ids = sorted(photos.keys() & labels.keys())
    benchmark = BENCHMARKS[NAME]
    wrong, noted = class_order(top, [lists[name] for name in ids if name in lists])
    return Pairs(
        name=NAME,
        split=split,
        root=top,
        table=pair_table(ids, photos, labels, top),
        encoding=encoding(),
        classes=benchmark.classes,
        asked=benchmark.asked,
        reduce_to=REDUCE_TO,
        wrong=tuple(wrong),
        unmatched=tuple(one_sided(photos, labels, f"{original}/*/*/", "*_seg.png beside them")),
        fewer=tuple(count_problem(NAME, split, len(ids), benchmark.counts[split])),
        notes=tuple(noted),
    )


def encoding() -> Encoding:
    """Return how the authors write masks."""
    class_V = table(original_values(NAME), others=IGNORED, size=NUM_VALUES)
    return Encoding(name=EDITION, read=ade_objects, class_V=class_V)


def read_tree(folder: Location) -> tuple[Files, Files, Files]:
    """Return the photos, the masks and the *.json of a split, each by the name of the image.

    The many masks of single objects, in a folder for each image, do not stay in memory.
    """
    photos, labels, lists = {}, {}, {}
    kinds = ((".jpg", photos), ("_seg.png", labels), (".json", lists))
    for area in folders(folder):
        for info in area.files(recursive=True):
            for suffix, found in kinds:
                if info.base_name.startswith("ADE_") and info.base_name.endswith(suffix):
                    found[info.base_name.removesuffix(suffix)] = info
    return photos, labels, lists


def folders(place: Location) -> Iterator[Location]:
    """Yield the folders in a folder; none where there is none."""
    selector = FileSelector(place.path, allow_not_found=True)
    for info in place.fs.get_file_info(selector):
        if info.type == FileType.Directory:
            yield place.at(info.base_name)


def class_order(top: Location, lists: Sequence[FileInfo]) -> tuple[list[str], list[str]]:
    """Compare the names that a few images' *.json give to object numbers with the class names."""
    class_of = {value: index for index, value in enumerate(original_values(NAME))}
    found: dict[int, str] = {}
    for info in lists[:: max(1, len(lists) // SAMPLED)]:
        for number, name in objects(Location(top.fs, info.path, top.root)):
            if number in class_of:
                found[class_of[number]] = name
    return compare_names(found, BENCHMARKS[NAME].classes, "*.json beside the images")


def objects(place: Location) -> Iterator[tuple[int, str]]:
    """Yield the number and the name of each object in an image.

    Raises:
        ValueError: The file does not hold them.
    """
    try:  # names from all over the world, but no UTF-8
        for found in json.loads(place.read().decode("latin-1"))["annotation"]["object"]:
            yield int(found["name_ndx"]), str(found["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place.uri} does not hold the objects of an image: {error}") from error
