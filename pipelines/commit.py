"""Last step of labelling: a shard's rows become its files.

Rows: `rows.LABELLED` in, `rows.COMMIT` out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines import rows, shards
from pipelines.same_folder import check_same_folder
from pipelines.storage import Location

Row = dict[str, Any]


@dataclass(frozen=True)
class Commit:
    """Write shards whose images are all labelled or known to be unreadable."""

    output: Location
    classes: Sequence[str]
    stamp: dict[str, str]
    """Values of the columns `rows.STAMP`, the same in every row."""

    keep_features: bool = False
    """Write the features of the labelled images too."""

    marker: Location | None = None
    """A file that the driver sees in the output; None where it is not looked for."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the files of each shard; return a row of `rows.COMMIT` for each.

        Raises:
            ValueError: The output is not the same folder on every node.
        """
        check_same_folder(self.output, self.marker)
        images: dict[int, list[Row]] = {}
        for row in batch.to_pylist():
            images.setdefault(row["shard"], []).append(row)
        for group in images.values():
            assert len(group) == group[0]["shard_size"], "blocks hold whole shards"
        done = [self.write(shard, group) for shard, group in images.items()]
        return pa.Table.from_pylist(done, schema=rows.COMMIT)

    def write(self, shard: int, images: list[Row]) -> Row:
        """Write one shard: errors first, then the labels, which say that it is done."""
        images = [row | self.stamp for row in images]
        labels = [row for row in images if row["error_type"] is None]
        errors = [row for row in images if row["error_type"] is not None]
        schema = rows.with_metadata(rows.LABELS, self.classes)
        kept = pa.Table.from_pylist(labels, schema=rows.FEATURES) if self.keep_features else None
        shards.write_shard(
            self.output,
            shard,
            pa.Table.from_pylist(labels, schema=schema),
            pa.Table.from_pylist(errors, schema=rows.ERRORS),
            kept,
        )
        return {"shard": shard, "labelled": len(labels), "errors": len(errors)}
