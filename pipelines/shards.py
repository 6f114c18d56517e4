"""Which images are written together, and which of these groups are done.

The manifest says for ever which image is in which shard. A shard is done when its file is in
labels/; its errors were written before. So a job that was killed goes on with the shards that are
not done, and ends with the same files as one that was never killed.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import hashlib
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo

from pipelines import rows
from pipelines.storage import Location

LABELS = "labels"
ERRORS = "errors"
FEATURES = "features"
MANIFEST = "_manifest.parquet"

SHARD_SIZE = 64
"""Images of a shard in a large corpus."""

MIN_SHARDS = 8
"""A small corpus has smaller shards, so that there is work for several cores."""

FEATURE_ROWS = 4
"""Images of a row group of kept features: so many are in memory at a time."""

CHUNK = 65_536
"""URIs that are Python strings at a time."""

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


def extend(manifest: pa.Table, image_uris: pa.Array) -> pa.Table:
    """Put images that the manifest does not have yet into new shards; the old ones stay."""
    known = manifest["image_uri"].combine_chunks()
    if image_uris.equals(known):  # looking a million up takes 200 MB
        return manifest
    new = image_uris.filter(pc.invert(pc.is_in(image_uris, known)))
    if not len(new):
        return manifest
    first = 1 + (pc.max(manifest["shard"]).as_py() if len(manifest) else -1)
    places = first + np.arange(len(new)) // shard_size(len(new))
    added = pa.table([new, places.astype(np.int32)], schema=rows.MANIFEST)
    return pa.concat_tables([manifest, added])


def write_manifest(output: Location, manifest: pa.Table) -> None:
    """Write the manifest, all of it or nothing."""
    output.at(MANIFEST).write(to_parquet(manifest))


def parts(output: Location, folder: str) -> list[FileInfo]:
    """Return the files of shards in labels/ or errors/, by name, and nothing else there."""
    return [info for info in output.at(folder).files() if PART.fullmatch(info.base_name)]


def done_shards(output: Location) -> set[int]:
    """Return the shards whose labels are written; a file without content is none."""
    written = (info for info in output.at(LABELS).files() if info.size)
    matches = (PART.fullmatch(info.base_name) for info in written)
    return {int(match[1]) for match in matches if match}


def remaining(manifest: pa.Table, done: set[int]) -> pa.Table:
    """Return the shards that are not done, a row each, in order."""
    finished = pc.is_in(manifest["shard"], pa.array(sorted(done), pa.int32()))
    left = manifest.filter(pc.invert(finished))
    places = left["shard"].to_numpy()
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    uris = pa.LargeListArray.from_arrays(
        np.append(starts, len(places)), left["image_uri"].combine_chunks()
    )
    return pa.table([places[starts], uris], schema=rows.SHARD)


def num_images(todo: pa.Table) -> int:
    """Return how many images are in a table of shards, `rows.SHARD`."""
    return pc.sum(pc.list_value_length(todo["image_uris"])).as_py() or 0


def list_digest(manifest: pa.Table) -> str:
    """Return the SHA-256 of the image URIs, a line each."""
    digest = hashlib.sha256()
    for batch in manifest.to_batches(max_chunksize=CHUNK):
        digest.update("".join(f"{uri}\n" for uri in batch["image_uri"].to_pylist()).encode())
    return "sha256:" + digest.hexdigest()


def write_shard(
    output: Location,
    shard: int,
    labels: pa.Table,
    errors: pa.Table,
    features: pa.Table | None = None,
) -> None:
    """Write what became of a shard; it is done when its labels are there, which come last."""
    if features is not None:
        data = to_parquet(features, row_group_size=FEATURE_ROWS, compression="zstd")
        output.at(FEATURES, part_name(shard)).write(data)
    output.at(ERRORS, part_name(shard)).write(to_parquet(errors))
    output.at(LABELS, part_name(shard)).write(to_parquet(labels))


def count_rows(output: Location, folder: str) -> int:
    """Return how many rows labels/ or errors/ holds, from the footers of its files."""
    paths = [info.path for info in parts(output, folder)]
    if not paths:
        return 0
    from pyarrow import dataset  # takes a second to import, and only a run's end needs it

    return dataset.dataset(paths, filesystem=output.fs, format="parquet").count_rows()


def size(output: Location, folder: str) -> int:
    """Return how many bytes the shards in a folder take."""
    return sum(info.size for info in parts(output, folder))


def to_parquet(
    table: pa.Table, *, row_group_size: int | None = None, compression: str = "snappy"
) -> pa.Buffer:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size, compression=compression)
    return sink.getvalue()
