"""PASCAL-Context: the photos of VOCdevkit/VOC2010, and what the authors say is in them.

For 59 classes, trainval_merged.json holds segments with category ids, 59 of which are classes. For
459, trainval/*.mat hold a LabelMap each: the class index + 1, 0 = unlabelled.
"""

from collections.abc import Sequence

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import (
    IGNORED,
    Encoding,
    converted,
    from_one,
    matlab,
    original_values,
    painted,
    table,
)
from pipelines.prepare.folders import (
    JPEG,
    PNG,
    TIFF,
    find_top,
    first_folder,
    read_folder,
    read_lines,
)
from pipelines.prepare.layouts.details import Details, read_details
from pipelines.prepare.layouts.matched import listed
from pipelines.prepare.pairs import Pairs, segment_table
from pipelines.prepare.remarks import absent, compare_names, count_problem
from pipelines.storage import Location

TOPS = ("VOCdevkit/VOC2010", "VOC2010")
NAME_59 = "pascal-context-59"
NAME_459 = "pascal-context-459"
DETAILS = "trainval_merged.json"
MAX_CATEGORIES = 1 << 12
"""Categories that are no class are ignored, whatever their number."""


def find_59(source: Location, split: str) -> Pairs:
    """Find the pairs of a split; the masks are painted from segments."""
    top = find_top(source, TOPS, ["JPEGImages"])
    place = top.at(DETAILS)
    if not place.exists():
        done = f"annotations_detectron2/pc59_{split}"
        if not top.at(done).exists():
            raise ValueError(f"there is no {DETAILS} in {top.uri}")
        return find_converted(NAME_59, split, top, done, PNG, converted(59, 255))
    details = read_details(place, split)
    photos = first_folder(top, ["JPEGImages"], JPEG)
    benchmark = BENCHMARKS[NAME_59]
    ids = sorted(name for name in details.segments if name in photos.files)
    wrong, noted = category_order(details)
    return Pairs(
        name=NAME_59,
        split=split,
        root=top,
        table=segment_table(ids, photos.files, details.segments, DETAILS, top),
        encoding=encoding_59(),
        classes=benchmark.classes,
        asked=benchmark.asked,
        wrong=tuple(wrong),
        unmatched=(
            *absent(details.names, photos.files, "image in JPEGImages"),
            *absent(details.names, details.segments, f"segment in {DETAILS}"),
        ),
        fewer=tuple(count_problem(NAME_59, split, len(ids), benchmark.counts[split])),
        notes=tuple(noted),
    )


def find_converted(
    name: str, split: str, top: Location, folder: str, endings: Sequence[str], encoding: Encoding
) -> Pairs:
    """Find the pairs whose masks the official preparation wrote."""
    ids = list(read_folder(top, folder, endings).files)
    masks = {folder: encoding}
    return listed(name, split, top, ids, images="JPEGImages", masks=masks, endings=endings)


def encoding_59() -> Encoding:
    """Return how the authors write masks for 59 classes."""
    class_V = table(original_values(NAME_59), others=IGNORED, size=MAX_CATEGORIES)
    return Encoding(name="segments of Context", read=painted, class_V=class_V, from_segments=True)


def category_order(details: Details) -> tuple[list[str], list[str]]:
    """Compare the names of the categories with the class names."""
    if not details.categories:
        return [], []
    values = original_values(NAME_59)
    found = {index: details.categories.get(value, "nothing") for index, value in enumerate(values)}
    return compare_names(found, BENCHMARKS[NAME_59].classes, DETAILS)


def find_459(source: Location, split: str) -> Pairs:
    """Find the pairs of a split; the masks are MATLAB files."""
    top = find_top(source, TOPS, ["JPEGImages"])
    done = f"annotations_detectron2/pc459_{split}"
    if not top.at("trainval").exists() and top.at(done).exists():
        return find_converted(NAME_459, split, top, done, TIFF, converted(459, 459, 65535))
    return listed(
        NAME_459,
        split,
        top,
        read_ids(source, top, split),
        images="JPEGImages",
        masks={"trainval": encoding_459()},
        endings=["mat"],
        compared=label_order(top),
    )


def encoding_459() -> Encoding:
    """Return how the authors write masks for 459 classes.

    Where a pixel is unlabelled, subtracting 1 from the unsigned 0 would give 65535, a label that is
    none; here it is ignored.
    """
    return Encoding(name="LabelMap of Context", read=matlab, class_V=from_one(459))


def read_ids(source: Location, top: Location, split: str) -> list[str]:
    """Return the names of a split.

    Raises:
        ValueError: There is no list.
    """
    own = f"pascalcontext_{split}.txt"
    places = [top.at(own), source.at(own), top.at("ImageSets", "Main", f"{split}.txt")]
    for place in places:
        if place.exists():
            return [line.split()[0].removesuffix(".jpg") for line in read_lines(place)]
    raise ValueError(f"there is neither {own} nor ImageSets/Main/{split}.txt in {top.uri}")


def label_order(top: Location) -> tuple[list[str], list[str]]:
    """Compare labels.txt of PASCAL-Context, where it lies there, with the class names."""
    for place in (top.at("labels.txt"), top.at("trainval", "labels.txt")):
        if place.exists():
            lines = (line.partition(":") for line in read_lines(place))
            named = {int(number) - 1: name for number, _, name in lines if number.isdecimal()}
            ours = BENCHMARKS[NAME_459].classes
            found = {index: named.get(index, "nothing") for index in range(len(ours))}
            return compare_names(found, ours, "labels.txt")
    return [], []
