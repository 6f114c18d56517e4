"""Which images are written together, and which of these groups are done.

The manifest says for ever which image is in which shard. A shard is done when its file is in
labels/; its errors were written before. So a job that was killed goes on with the shards that are
not done, and ends with the same files as one that was never killed.
"""

import math
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from pipelines import rows
from pipelines.storage import Location

LABELS = "labels"
ERRORS = "errors"
MANIFEST = "_manifest.parquet"

SHARD_SIZE = 64
"""Images of a shard in a large corpus."""

MIN_SHARDS = 8
"""A small corpus has smaller shards, so that there is work for several cores."""

PART = re.compile(r"part-(\d+)\.parquet")


def shard_size(num_images: int) -> int:
    """Return how many images go into one shard; depends on their number only."""
    return max(1, min(SHARD_SIZE, math.ceil(num_images / MIN_SHARDS)))


def part_name(shard: int) -> str:
    """Return the file name of a shard, the same in labels/ and errors/."""
    return f"part-{shard:05d}.parquet"


def no_manifest() -> pa.Table:
    """Return the manifest of a new output."""
    return rows.MANIFEST.empty_table()


def read_manifest(output: Location) -> pa.Table:
    """Return the manifest of an output; empty where there is none yet."""
    place = output.at(MANIFEST)
    if not place.exists():
        return no_manifest()
    return pq.read_table(pa.BufferReader(place.read()), schema=rows.MANIFEST)


def extend(manifest: pa.Table, image_uris: Sequence[str]) -> pa.Table:
    """Put images that the manifest does not have yet into new shards; the old ones stay."""
    known = set(manifest["image_uri"].to_pylist())
    new = [uri for uri in image_uris if uri not in known]
    if not new:
        return manifest
    first = max(manifest["shard"].to_pylist(), default=-1) + 1
    size = shard_size(len(new))
    shards = [first + index // size for index in range(len(new))]
    added = pa.table({"image_uri": new, "shard": shards}, schema=rows.MANIFEST)
    return pa.concat_tables([manifest, added])


def write_manifest(output: Location, manifest: pa.Table) -> None:
    """Write the manifest, all of it or nothing."""
    output.at(MANIFEST).write(to_parquet(manifest))


def done_shards(output: Location) -> set[int]:
    """Return the shards whose labels are written."""
    matches = (PART.fullmatch(info.base_name) for info in output.at(LABELS).files())
    return {int(match[1]) for match in matches if match}


def remaining(manifest: pa.Table, done: set[int]) -> pa.Table:
    """Return the shards that are not done, a row each, in order."""
    images: dict[int, list[str]] = {}
    columns = (manifest[name].to_pylist() for name in ("shard", "image_uri"))
    for shard, uri in zip(*columns, strict=True):
        if shard not in done:
            images.setdefault(shard, []).append(uri)
    return pa.table({"shard": list(images), "image_uris": list(images.values())}, rows.SHARD)


def write_shard(output: Location, shard: int, labels: pa.Table, errors: pa.Table) -> None:
    """Write what became of a shard; it is done when its labels are there, which come last."""
    output.at(ERRORS, part_name(shard)).write(to_parquet(errors))
    output.at(LABELS, part_name(shard)).write(to_parquet(labels))


def count_rows(output: Location, folder: str) -> int:
    """Return how many rows labels/ or errors/ holds, from the footers of its files."""
    paths = [info.path for info in output.at(folder).files() if PART.fullmatch(info.base_name)]
    if not paths:
        return 0
    return pyarrow.dataset.dataset(paths, filesystem=output.fs, format="parquet").count_rows()


def to_parquet(table: pa.Table) -> pa.Buffer:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()
