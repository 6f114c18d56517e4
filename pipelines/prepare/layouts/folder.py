"""A user's own dataset: images/, masks/ and classes.json.

images/ and masks/ may each have train/ and val/ in them; else what they hold is one split, "all". A
mask's value is the index of its class; 255 means "no class" with up to 255 classes, 65535 always.
"""

import json
from typing import Any

from pyarrow.fs import FileType

from pipelines.classes import check_names
from pipelines.listing import IMAGE_ENDINGS
from pipelines.masks import IGNORE_16_BIT, ignore_value
from pipelines.prepare.catalogue import FOLDER
from pipelines.prepare.encodings import indices
from pipelines.prepare.folders import PNG, TIFF, Folder, find_top, first_folder
from pipelines.prepare.layouts.matched import doubled, unexpected
from pipelines.prepare.pairs import Pairs, pair_table
from pipelines.prepare.remarks import one_sided
from pipelines.storage import Location

CLASSES = "classes.json"
ALL = "all"
"""The split of a folder that has none."""

MASKS = (*PNG, *TIFF)


def find(source: Location, split: str) -> Pairs:
    """Find the pairs of a split.

    Raises:
        ValueError: A folder or classes.json is missing, or there is no such split.
    """
    top = find_top(source, [], ["images"])
    classes = read_classes(top.at(CLASSES))
    split, below = choose_split(top, split)
    photos, labels = (
        first_folder(top, [f"{kind}{below}"], endings, recursive=True)
        for kind, endings in (("images", IMAGE_ENDINGS), ("masks", MASKS))
    )
    check_side_by_side(photos, labels)
    ids = sorted(photos.files.keys() & labels.files.keys())
    ignored = sorted({ignore_value(len(classes)), IGNORE_16_BIT})
    return Pairs(
        name=FOLDER,
        split=split,
        root=top,
        table=pair_table(ids, photos.files, labels.files, top),
        encoding=indices(len(classes), ignored, f"a list of {len(classes)} classes"),
        classes=classes,
        asked=classes,
        wrong=tuple(doubled(photos, labels)),
        unmatched=tuple(one_sided(photos.files, labels.files, photos.path, labels.path)),
        notes=tuple(unexpected(photos, labels)),
    )


def check_side_by_side(photos: Folder, labels: Folder) -> None:
    """Require that at least one image has a mask."""
    if not photos.files.keys() & labels.files.keys():
        one, other = next(iter(photos.files)), next(iter(labels.files))
        raise ValueError(
            f"no image in {photos.path} has a mask of the same name in {labels.path} "
            f"(there are {one!r} and {other!r})"
        )


def choose_split(top: Location, split: str) -> tuple[str, str]:
    """Return the split that is there, and where it lies below images/ and masks/.

    Raises:
        ValueError: The folder has splits, and this is none of them.
    """
    here = splits(top)
    if not here:
        return ALL, ""
    if split not in here:
        raise ValueError(f"there is no images/{split} in {top.uri}, only images/{here[0]}")
    return split, f"/{split}"


def splits(top: Location) -> list[str]:
    """Return which of train and val are folders below images/."""
    return [
        split
        for split in ("train", "val")
        if top.at("images", split).info().type == FileType.Directory
    ]


def read_classes(place: Location) -> list[str]:
    """Read classes.json: a list of names, or an object {"0": name, "1": name ...}.

    Raises:
        ValueError: It is missing, or it is neither.
    """
    if not place.exists():
        raise ValueError(f"there is no {place.uri}: a JSON list of the class names")
    try:
        found = json.loads(place.read().decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{place.uri} is no JSON: {error}") from error
    return check_names(in_index_order(found, place), place.uri)


def in_index_order(found: Any, place: Location) -> list[Any]:  # noqa: ANN401
    """Return the names in the order of the mask values."""
    if isinstance(found, list):
        return found
    if isinstance(found, dict) and set(found) == {str(index) for index in range(len(found))}:
        return [found[str(index)] for index in range(len(found))]
    raise ValueError(
        f'{place.uri} is neither a list of names nor {{"0": name, "1": name, ...}} without gaps'
    )
