"""Where the files of each dataset lie, as its authors ship it."""

from collections.abc import Callable

from pipelines.prepare.catalogue import BENCHMARKS, FOLDER
from pipelines.prepare.layouts import (
    ade20k,
    ade20k_full,
    coco_stuff,
    folder,
    pascal_context,
    pascal_voc,
)
from pipelines.prepare.pairs import Pairs
from pipelines.storage import Location

LAYOUTS: dict[str, Callable[[Location, str], Pairs]] = {
    "coco-stuff": coco_stuff.find,
    "ade20k-150": ade20k.find,
    "ade20k-847": ade20k_full.find,
    "pascal-context-59": pascal_context.find_59,
    "pascal-context-459": pascal_context.find_459,
    "pascal-voc-20": pascal_voc.find_20,
    "pascal-voc-20b": pascal_voc.find_20b,
    FOLDER: folder.find,
}


def find_pairs(name: str, source: Location, split: str) -> Pairs:
    """Find the images and masks of one split of a dataset, as its authors ship it.

    Raises:
        ValueError: A folder or an index file is not there.
        OSError: It cannot be read.
    """
    assert name in BENCHMARKS or name == FOLDER, f"{name} has pairs"
    return LAYOUTS[name](source, split)
