"""PASCAL VOC 2012: VOCdevkit/VOC2012, perhaps with the augmented masks.

A value is the class index + 1, 0 = background, 255 = border between objects.
"""

from pipelines.prepare.encodings import Encoding, converted, from_one, grey, table
from pipelines.prepare.folders import PNG, find_top, read_lines
from pipelines.prepare.layouts.matched import listed
from pipelines.prepare.pairs import Pairs
from pipelines.storage import Location

TOPS = ("VOCdevkit/VOC2012", "VOC2012")
NUM_CLASSES = 20
BORDER = 255


def find_20(source: Location, split: str) -> Pairs:
    """Find the pairs of a split; the background is ignored."""
    encoding = Encoding(name="VOC", read=grey, class_V=from_one(NUM_CLASSES, ignored=(0, BORDER)))
    masks = {f"annotations_detectron2/{split}": converted(NUM_CLASSES, BORDER)}
    return find("pascal-voc-20", source, split, encoding, masks)


def find_20b(source: Location, split: str) -> Pairs:
    """Find the pairs of a split; the background is the last class."""
    class_V = table([*range(1, NUM_CLASSES + 1), 0], ignored=[BORDER])
    encoding = Encoding(name="VOC with background", read=grey, class_V=class_V)
    masks = {f"annotations_detectron2_bg/{split}": converted(NUM_CLASSES + 1, BORDER)}
    return find("pascal-voc-20b", source, split, encoding, masks)


def find(
    name: str, source: Location, split: str, encoding: Encoding, done: dict[str, Encoding]
) -> Pairs:
    """Find the pairs of a split."""
    top = find_top(source, TOPS, ["JPEGImages"])
    masks = {"SegmentationClassAug": encoding, "SegmentationClass": encoding, **done}
    ids = read_ids(top, split)
    return listed(name, split, top, ids, images="JPEGImages", masks=masks, endings=PNG)


def read_ids(top: Location, split: str) -> list[str]:
    """Return the names of a split; of train, those of the augmented list where it is there.

    Raises:
        ValueError: There is no list.
    """
    names = ["trainaug.txt", "train.txt"] if split == "train" else ["val.txt"]
    for name in names:
        place = top.at("ImageSets", "Segmentation", name)
        if place.exists():
            return read_lines(place)
    raise ValueError(f"there is no ImageSets/Segmentation/{' or '.join(names)} in {top.uri}")
