"""What says which files a preparation holds: the SHA-256 of every image and mask.

They stand in the schema of each Parquet file, [image_id, image, mask] for each row.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow.parquet as pq

from pipelines import shards
from pipelines.prepare.plan import Plan
from pipelines.prepare.reading import Row
from pipelines.prepare.remarks import counted, some
from pipelines.storage import Location

SAME = 3
"""So many names of one image stand in a message."""

FOOTERS = 16
"""Files whose ends are read at a time."""


def row_hashes(row: Row) -> list[str]:
    """Return the name of a row, and the SHA-256 of its image and of its mask."""
    files = (row["image"]["bytes"], row["mask"]["bytes"])
    return [row["image_id"], *(hashlib.sha256(data).hexdigest() for data in files)]


def read_hashes(folder: Location, names: Iterable[str]) -> list[list[list[str]]]:
    """Return what `row_hashes` gave for each row of each file, from the ends of the files."""
    with ThreadPoolExecutor(FOOTERS) as pool:
        return list(pool.map(lambda name: footer_hashes(folder.at(name)), names))


def footer_hashes(place: Location) -> list[list[str]]:
    """Return what `row_hashes` gave for each row of a file."""
    with place.fs.open_input_file(place.path) as file:
        return json.loads((pq.read_schema(file).metadata or {})[b"sha256"])


def twins(hashes: list[list[str]]) -> list[str]:
    """Say which images are the same, byte by byte, under several names."""
    names: dict[str, list[str]] = {}
    for image_id, image, _ in hashes:
        names.setdefault(image, []).append(image_id)
    same = [" = ".join(ids[:SAME]) for ids in names.values() if len(ids) > 1]
    return [f"{counted(same, 'image')} under several names: {some(same)}"] if same else []


def leaks(plan: Plan, hashes: list[list[str]]) -> list[str]:
    """Say which images are, byte by byte, in the other split as well."""
    other = {"train": "val", "val": "train"}.get(plan.split, plan.split)
    files = shards.parts(plan.output, other) if other != plan.split else []
    found = read_hashes(plan.output.at(other), [info.base_name for info in files])
    theirs = {image for _, image, _ in chain.from_iterable(found)}
    same = [image_id for image_id, image, _ in hashes if image in theirs]
    return (
        [f"{counted(same, 'image')} of {plan.split} in {other}, too: {some(same)}"] if same else []
    )
