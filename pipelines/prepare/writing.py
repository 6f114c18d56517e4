"""One shard of a dataset: its pairs are read, checked and written as one Parquet file.

Rows: `plan.SHARD` in, `DONE_SHARD` out.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from pipelines import rows, shards
from pipelines.decoding import ahead
from pipelines.prepare.footers import make_footer
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.plan import Plan, errors_folder
from pipelines.prepare.prepared import GROUP
from pipelines.prepare.reading import PairError, ReadPair, Row
from pipelines.storage import Location

DONE_SHARD = pa.schema([("shard", pa.int32()), ("images", pa.int64()), ("errors", pa.int64())])

ERROR = pa.schema([(name, pa.string()) for name in ("image_id", "error_type", "message")])
"""A pair that was left out."""

THREADS = 4
"""Pairs of a shard that are read at a time."""


@dataclass(frozen=True)
class WriteShard:
    """Read the pairs of a shard and write them as one file."""

    read: ReadPair
    output: Location
    split: str
    metadata: Mapping[str, str]
    classes: list[str]

    @classmethod
    def of(cls, plan: Plan) -> "WriteShard":
        """Return what writes the shards of a plan."""
        pairs = plan.pairs
        read = ReadPair.of(pairs, whole=True)
        return cls(read, plan.output, plan.split, facts(pairs), pairs.classes)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write each shard; return a row of `DONE_SHARD` for each."""
        done = [self.write(row["shard"], row["pairs"]) for row in batch.to_pylist()]
        return pa.Table.from_pylist(done, schema=DONE_SHARD)

    def write(self, shard: int, pairs: list[Row]) -> Row:
        """Write one shard: it is done when its file is there and its errors are listed, or none."""
        good, bad = [], []
        with ThreadPoolExecutor(THREADS) as pool:
            for found in ahead(pool, self.attempt, pairs):
                (bad if "error_type" in found else good).append(found)
        name = shards.part_name(shard)
        listed = self.output.at(errors_folder(self.split), name)
        if bad:
            listed.write(shards.to_parquet(pa.Table.from_pylist(bad, schema=ERROR)))
        data = shards.to_parquet(self.table(good), row_group_size=GROUP, compression="none")
        self.output.at(self.split, name).write(data)
        if not bad:  # what an earlier start listed was repaired
            listed.remove()
        return {"shard": shard, "images": len(good), "errors": len(bad)}

    def attempt(self, pair: Row) -> Row:
        """Return the row of a pair, or of `ERROR`."""
        try:
            return self.read.row(pair)
        except PairError as error:
            message = str(error)
            return {"image_id": pair["image_id"], "error_type": error.kind, "message": message}

    def table(self, good: list[Row]) -> pa.Table:
        """Return rows as they are stored, with what they are in the metadata."""
        schema = rows.with_metadata(rows.PREPARED, self.classes)
        footer = make_footer(good, len(self.classes))
        metadata = {**(schema.metadata or {}), **self.metadata, **footer}
        return pa.Table.from_pylist(good, schema=schema.with_metadata(metadata))


def facts(pairs: Pairs) -> dict[str, str]:
    """Return what the schema of each file says beside the class names."""
    return {
        "dataset": pairs.name,
        "split": pairs.split,
        "asked": json.dumps(pairs.asked, ensure_ascii=False),
        "plan_id": pairs.plan_id,
    }
