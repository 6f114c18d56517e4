"""What `label` wrote, as a dataset: the photos, and the label maps as their masks.

Rows: the path of a file of labels/ -> `rows.MASKED`, a row for each image in it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from pipelines import outputs, rows, shards
from pipelines.buckets import is_outage
from pipelines.decoding import failure
from pipelines.storage import Location, locate, open_buckets

if TYPE_CHECKING:
    from ray.data import Dataset


@dataclass(frozen=True)
class LabelOutput:
    """An output of `label` that holds labels."""

    place: Location
    run: dict[str, Any]
    manifest: pa.Table
    """`rows.MANIFEST`: what was to be labelled."""

    num_images: int
    """Labelled images."""

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the mask values."""
        return self.run["classes"]


def open_labels(uri: str) -> LabelOutput:
    """Find an output of `label`.

    Raises:
        ValueError: There is none, or it holds no labels.
        OSError: It cannot be read.
    """
    place, run = outputs.open_run(uri)
    num_images = shards.count_rows(place, shards.LABELS)
    if not num_images:
        raise ValueError(f"the output {place.uri} holds no labelled image")
    return LabelOutput(place, run, shards.read_manifest(place), num_images)


def labelled_rows(output: LabelOutput, *, seed: int | None = None) -> "Dataset":
    """Plan the rows of an output; nothing is read until they are consumed.

    Args:
        output: From `open_labels`.
        seed: Of the order of its files, which is another one each time; None: that of their names.
    """
    import ray.data
    from ray.data import RandomSeedConfig

    names = [info.base_name for info in shards.parts(output.place, shards.LABELS)]
    parts = pa.table({"part": names})
    read = ReadPart(output.place, open_buckets(output.manifest["image_uri"]))
    blocks = ray.data.from_arrow(parts).repartition(target_num_rows_per_block=1, strict=True)
    if seed is not None:  # the names only: nothing is read before the first batch
        again = RandomSeedConfig(seed, reseed_after_execution=True)
        blocks = blocks.randomize_block_order(seed=again)
    return blocks.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=0.5)


@dataclass(frozen=True)
class ReadPart:
    """Read one file of labels/, and the photos that it is about."""

    output: Location
    filesystems: Mapping[str, FileSystem]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `rows.MASKED` for each labelled image, without its photo an error."""
        columns = ["image_uri", "image_sha256", "width", "height", "mask"]
        found = [
            self.prepare_or_error(row)
            for part in batch["part"].to_pylist()
            for row in self.read(part).select(columns).to_pylist()
        ]
        return pa.Table.from_pylist(found, schema=rows.MASKED)

    def prepare_or_error(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what `prepare` does, or why it cannot; an outage of the store ends the job."""
        try:
            return self.prepare(row)
        except OSError as error:
            if is_outage(error):
                raise
            return {"image_id": row["image_uri"]} | failure("NoPhoto", error)

    def read(self, part: str) -> pa.Table:
        """Return the rows of a file of labels/."""
        return pq.read_table(pa.BufferReader(self.output.at(shards.LABELS, part).read()))

    def prepare(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a dataset for a row of labels/.

        Raises:
            OSError: The photo is not there any more, or is another one now; the message names it.
        """
        uri = row["image_uri"]
        try:
            photo = locate(uri, self.filesystems).read()
        except OSError as error:
            if is_outage(error):
                raise
            raise OSError(f"the photo {uri} of a label cannot be read: {error}") from error
        if hashlib.sha256(photo).hexdigest() != row["image_sha256"]:
            raise OSError(f"the photo {uri} has changed since it was labelled: label it again")
        return {
            "image": {"bytes": photo, "path": uri.rpartition("/")[2]},
            "mask": row["mask"],
            "image_id": uri,
            "width": row["width"],
            "height": row["height"],
        }
