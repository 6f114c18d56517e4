"""A dataset as its authors ship it becomes Parquet: what `python -m jobs.prepare` does.

Rows: `plan.SHARD` -> `DONE_SHARD`. A shard that is written is not written again by a second start.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from pipelines import outputs, rows, shards
from pipelines.decoding import ahead
from pipelines.prepare.pairs import Pairs, counted, digest_lines, some
from pipelines.prepare.plan import Plan, errors_folder, shard_table
from pipelines.prepare.prepared import GROUP, Record, write_record
from pipelines.prepare.reading import PairError, ReadPair, Row
from pipelines.storage import Location

logger = logging.getLogger(__name__)

DONE_SHARD = pa.schema([("shard", pa.int32()), ("images", pa.int64()), ("errors", pa.int64())])

ERROR = pa.schema([(name, pa.string()) for name in ("image_id", "error_type", "message")])
"""A pair that was left out."""

ALONE = 64
"""So many pairs are prepared sooner than a cluster starts."""

THREADS = 4
"""Pairs of a shard that are read at a time."""

FOOTERS = 16
"""Files whose ends are read at a time."""

SECONDS_BETWEEN_LINES = 10.0


def prepare(plan: Plan, connect: Callable[[], None], *, alone: int = ALONE) -> Record:
    """Write what is left of a split; return what prepared.json says at the end.

    Args:
        plan: From `make_plans`.
        connect: Joins or starts a Ray cluster; called if there is work for one.
        alone: So many pairs are prepared by this process.
    """
    if plan.is_done:
        assert plan.earlier is not None, "what is done has a record"
        logger.info("Nothing is left to do in %s", plan.output.at(plan.split).uri)
        return plan.earlier
    record = begin(plan)
    if plan.todo:
        write = WriteShard.of(plan)
        few = len(plan.todo) * plan.shard_size <= alone
        log_progress(in_turn(write, plan) if few else spread(write, plan, connect), plan)
    return finish(plan, record)


def begin(plan: Plan) -> Record:
    """Claim the split."""
    pairs = plan.pairs
    record = Record(
        dataset=pairs.name,
        split=pairs.split,
        source=pairs.root.uri,
        plan_id=pairs.plan_id,
        classes=pairs.classes,
        asked=pairs.asked,
        pairs=len(pairs.table),
        partial=plan.allow_partial,
        remarks=[*pairs.unmatched, *pairs.fewer, *pairs.notes],
    )
    write_record(plan.output, record)
    for remark in record.remarks:
        logger.warning("%s", remark)
    return record


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
        """Write one shard: its errors first, then the file that says that it is done."""
        good, bad = [], []
        with ThreadPoolExecutor(THREADS) as pool:
            for found in ahead(pool, self.attempt, pairs):
                (bad if "error_type" in found else good).append(found)
        name = shards.part_name(shard)
        listed = self.output.at(errors_folder(self.split), name)
        if bad:
            listed.write(shards.to_parquet(pa.Table.from_pylist(bad, schema=ERROR)))
        elif listed.info().type != FileType.NotFound:
            listed.remove()
        data = shards.to_parquet(self.table(good), row_group_size=GROUP, compression="none")
        self.output.at(self.split, name).write(data)
        return {"shard": shard, "images": len(good), "errors": len(bad)}

    def attempt(self, pair: Row) -> Row:
        """Return the row of a pair, or of `ERROR`."""
        try:
            return self.read.row(pair)
        except PairError as error:
            message = str(error)
            return {"image_id": pair["image_id"], "error_type": error.kind, "message": message}

    def table(self, good: list[Row]) -> pa.Table:
        """Return rows as they are stored: what they are, and their hashes, in the metadata."""
        schema = rows.with_metadata(rows.PREPARED, self.classes)
        hashes = {"sha256": json.dumps([row_hashes(row) for row in good])}
        metadata = {**(schema.metadata or {}), **self.metadata, **hashes}
        return pa.Table.from_pylist(good, schema=schema.with_metadata(metadata))


def facts(pairs: Pairs) -> dict[str, str]:
    """Return what the schema of each file says beside the class names."""
    return {
        "dataset": pairs.name,
        "split": pairs.split,
        "asked": json.dumps(pairs.asked, ensure_ascii=False),
        "plan_id": pairs.plan_id,
    }


def row_hashes(row: Row) -> list[str]:
    """Return the name of a row, and the SHA-256 of its image and of its mask."""
    files = (row["image"]["bytes"], row["mask"]["bytes"])
    return [row["image_id"], *(hashlib.sha256(data).hexdigest() for data in files)]


def in_turn(write: WriteShard, plan: Plan) -> Iterator[Row]:
    """Write shards in this process."""
    for row in shard_table(plan).to_pylist():
        yield write.write(row["shard"], row["pairs"])


def spread(write: WriteShard, plan: Plan, connect: Callable[[], None]) -> Iterator[Row]:
    """Write shards on the cluster."""
    connect()
    import ray.data

    todo = ray.data.from_arrow(shard_table(plan))
    todo = todo.repartition(target_num_rows_per_block=1, strict=True)
    todo.set_name("prepare")
    yield from todo.map_batches(write, batch_size=1, batch_format="pyarrow").iter_rows()


def log_progress(done: Iterable[Row], plan: Plan) -> None:
    """Wait for all shards; log progress every few seconds."""
    counts: Counter[str] = Counter()
    start = last = time.monotonic()
    total = min(len(plan.todo) * plan.shard_size, len(plan.pairs.table))
    for row in done:
        counts.update({"images": row["images"], "errors": row["errors"]})
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            rate = counts.total() / (last - start)
            logger.info("%d of %d pairs, %.1f a second", counts.total(), total, rate)


def finish(plan: Plan, record: Record) -> Record:
    """Count what is there, and say that it is done if nothing was left out that must not be."""
    names = [shards.part_name(number) for number in range(plan.num_shards)]
    found = read_hashes(plan.output.at(plan.split), names)
    hashes = list(chain.from_iterable(found))
    errors = shards.count_rows(plan.output, errors_folder(plan.split))
    assert len(hashes) + errors == record.pairs, "every pair once, as a row or as an error"
    record = replace(
        record,
        status=outputs.RUNNING if errors and not plan.allow_partial else outputs.DONE,
        images=len(hashes),
        errors=errors,
        parts=[(name, len(own)) for name, own in zip(names, found, strict=True)],
        digest=digest_lines("\t".join(row) for row in hashes),
        remarks=[*record.remarks, *twins(hashes), *leaks(plan, hashes)],
    )
    write_record(plan.output, record)
    return record


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
    same = [" = ".join(ids) for ids in names.values() if len(ids) > 1]
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


def list_errors(plan: Plan) -> list[dict[str, Any]]:
    """Return the pairs that were left out, `ERROR`."""
    folder = errors_folder(plan.split)
    files = shards.parts(plan.output, folder)
    tables = [
        pq.read_table(pa.BufferReader(plan.output.at(folder, info.base_name).read()))
        for info in files
    ]
    return [row for table in tables for row in table.to_pylist()]
