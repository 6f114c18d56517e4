"""A dataset as its authors ship it becomes Parquet: what `python -m jobs.prepare` does.

Rows: `plan.SHARD` -> `writing.DONE_SHARD`. What is written is not written again by a second start.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import outputs, shards
from pipelines.prepare.footers import (
    all_hashes,
    leaks,
    read_footers,
    sum_pixels,
    twins,
    unseen,
)
from pipelines.prepare.pairs import digest_lines
from pipelines.prepare.plan import Plan, errors_folder, shard_table
from pipelines.prepare.prepared import Record, write_record
from pipelines.prepare.reading import Row
from pipelines.prepare.writing import WriteShard

logger = logging.getLogger(__name__)

ALONE = 64
"""So many pairs are prepared sooner than a cluster starts."""

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
    todo.context.enable_progress_bars = sys.stdout.isatty()
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
    footers = read_footers(plan.output.at(plan.split), names)
    hashes, pixels = all_hashes(footers), sum_pixels(footers)
    errors = shards.count_rows(plan.output, errors_folder(plan.split))
    assert len(hashes) + errors == record.pairs, "every pair once, as a row or as an error"
    record = replace(
        record,
        status=outputs.RUNNING if errors and not plan.allow_partial else outputs.DONE,
        images=len(hashes),
        errors=errors,
        parts=[(name, len(own.hashes)) for name, own in zip(names, footers, strict=True)],
        pixels=pixels,
        digest=digest_lines("\t".join(row) for row in hashes),
        remarks=[
            *record.remarks,
            *unseen(record.classes, pixels),
            *twins(hashes),
            *leaks(plan, hashes),
        ],
    )
    write_record(plan.output, record)
    return record


def list_errors(plan: Plan) -> list[dict[str, Any]]:
    """Return the pairs that were left out, `writing.ERROR`."""
    folder = errors_folder(plan.split)
    files = shards.parts(plan.output, folder)
    tables = [
        pq.read_table(pa.BufferReader(plan.output.at(folder, info.base_name).read()))
        for info in files
    ]
    return [row for table in tables for row in table.to_pylist()]
