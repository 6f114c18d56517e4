"""What is wrong with the files of a shard in labels/ and errors/.

Rows: a part's name -> `FOUND`, a row for each row of that part in labels/ and in errors/.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from pipelines import rows, shards
from pipelines.buckets import raise_outage_of_all
from pipelines.row_check import mask_problem, photo_problem, stamp_problem
from pipelines.storage import Location, locate

FOUND = pa.schema([("image_uri", pa.string()), ("folder", pa.string()), ("problem", pa.string())])


@dataclass(frozen=True)
class CheckPart:
    """Check the files of one shard."""

    output: Location
    filesystems: Mapping[str, FileSystem]
    stamp: Mapping[str, Any]
    """Values that the columns `rows.STAMP` have in every row."""

    classes: Sequence[str]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `FOUND` for each image of each part."""
        found = [row for name in batch["part"].to_pylist() for row in self.check(name)]
        return pa.Table.from_pylist(found, schema=FOUND)

    def check(self, part: str) -> Iterator[dict[str, Any]]:
        """Yield what is found in the two files of a part; an outage of the store ends the job."""
        for folder, schema in ((shards.ERRORS, rows.ERRORS), (shards.LABELS, rows.LABELS)):
            place = self.output.at(folder, part)
            try:
                table = pq.read_table(pa.BufferReader(place.read()))
            except (OSError, pa.ArrowInvalid) as error:
                end_in_outage(error, place)
                yield {"folder": folder, "problem": f"{place.uri} cannot be read: {error}"}
                continue
            if not table.schema.equals(schema):
                yield {"folder": folder, "problem": f"{place.uri} has other columns or types"}
                continue
            if folder == shards.LABELS and not self.has_classes(table.schema):
                yield {"folder": folder, "problem": f"{place.uri} has other class names"}
            for row in table.to_pylist():
                problem = stamp_problem(row, self.stamp)
                if problem is None and folder == shards.LABELS:
                    problem = self.problem_of(row)
                yield {"image_uri": row["image_uri"], "folder": folder, "problem": problem}

    def has_classes(self, schema: pa.Schema) -> bool:
        """Say whether the class names in a file are those of the run."""
        try:
            return rows.read_classes(schema) == self.classes
        except ValueError:
            return False

    def problem_of(self, row: dict[str, Any]) -> str | None:
        """Return what is wrong with a labelled image, if anything."""
        try:
            place = locate(row["image_uri"], self.filesystems)
        except ValueError as error:  # a scheme that is not known here
            return f"the image cannot be read any more: {error}"
        except KeyError:  # it has no filesystem
            return "the image is in another bucket than all that should be there"
        try:
            data = place.read()
        except (OSError, ValueError) as error:
            end_in_outage(error, place)
            return f"the image cannot be read any more: {error}"
        return photo_problem(row, data) or mask_problem(row, self.classes)


def end_in_outage(error: Exception, place: Location) -> None:
    """Raise what kept a file from being read where that says nothing about this file."""
    if isinstance(error, OSError):
        raise_outage_of_all(error, place.fs, place.path)
