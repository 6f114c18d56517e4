"""What each file of a preparation says about its rows, at its end: their hashes, and their classes.

Shapes: N classes.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipelines import shards
from pipelines.prepare.plan import Plan
from pipelines.prepare.reading import Row
from pipelines.prepare.remarks import counted, some
from pipelines.storage import Location

SAME = 3
"""So many names of one image stand in a message."""

AT_A_TIME = 16
"""Files whose ends are read at a time."""


@dataclass(frozen=True)
class Footer:
    """What a file says about its rows."""

    hashes: list[list[str]]
    """Of each row its name, and the SHA-256 of its image and of its mask."""

    pixels: list[int]
    """Of each class, and at last of none."""


def make_footer(good: Sequence[Row], num_classes: int) -> dict[str, str]:
    """Return what the schema of a file shall say about its rows."""
    pixels_N = np.zeros(num_classes + 1, np.int64)
    for row in good:
        mask_HW = np.array(Image.open(io.BytesIO(row["mask"]["bytes"])))
        pixels_N += np.bincount(np.minimum(mask_HW, num_classes).ravel(), minlength=num_classes + 1)
    hashes = [row_hashes(row) for row in good]
    return {"sha256": json.dumps(hashes), "pixels": json.dumps(pixels_N.tolist())}


def row_hashes(row: Row) -> list[str]:
    """Return the name of a row, and the SHA-256 of its image and of its mask."""
    files = (row["image"]["bytes"], row["mask"]["bytes"])
    return [row["image_id"], *(hashlib.sha256(data).hexdigest() for data in files)]


def read_footers(folder: Location, names: Iterable[str]) -> list[Footer]:
    """Return what each of these files says; their rows are not read."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(lambda name: read_footer(folder.at(name)), names))


def read_footer(place: Location) -> Footer:
    """Return what a file says about its rows."""
    with place.fs.open_input_file(place.path) as file:
        metadata = pq.read_schema(file).metadata or {}
    return Footer(json.loads(metadata[b"sha256"]), json.loads(metadata[b"pixels"]))


def sum_pixels(footers: Sequence[Footer]) -> list[int]:
    """Return the pixels of each class, and at last of none, over all files."""
    return [sum(counts) for counts in zip(*(f.pixels for f in footers), strict=True)]


def all_hashes(footers: Sequence[Footer]) -> list[list[str]]:
    """Return the names and hashes of all rows."""
    return [row for footer in footers for row in footer.hashes]


def unseen(classes: Sequence[str], pixels: Sequence[int]) -> list[str]:
    """Say which classes are in no mask."""
    names = [name.strip() for name, count in zip(classes, pixels, strict=False) if not count]
    return [f"{counted(names, 'class')} in no mask: {some(names)}"] if names else []


def twins(hashes: list[list[str]]) -> list[str]:
    """Say which images are the same, byte by byte, under several names."""
    names: dict[str, list[str]] = {}
    for image_id, image, _ in hashes:
        names.setdefault(image, []).append(image_id)
    same = [" = ".join(ids[:SAME]) for ids in names.values() if len(ids) > 1]
    return [f"{counted(same, 'image')} under several names: {some(same)}"] if same else []


def leaks(plan: Plan, hashes: list[list[str]]) -> list[str]:
    """Say which images are, byte by byte, in the other split as well."""
    other = {"train": "val", "val": "train"}.get(plan.split)
    if other is None:
        return []
    names = [info.base_name for info in shards.parts(plan.output, other)]
    theirs = {row[1] for row in all_hashes(read_footers(plan.output.at(other), names))}
    same = [image_id for image_id, image, _ in hashes if image in theirs]
    where = f"of {plan.split} in {other}, too"
    return [f"{counted(same, 'image')} {where}: {some(same)}"] if same else []
