"""What `prepare` was asked for, checked, and what of it is left to do. Nothing is written here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow.fs import FileType

from pipelines import shards
from pipelines.outputs import check_free
from pipelines.prepare.catalogue import BENCHMARKS, FOLDER
from pipelines.prepare.checks import find_checked
from pipelines.prepare.layouts.folder import splits
from pipelines.prepare.pairs import PAIR, Pairs
from pipelines.prepare.prepared import (
    ERRORS,
    SPLITS,
    Record,
    is_prepared,
    read_record,
)
from pipelines.storage import Location, locate

NAMES = (*BENCHMARKS, FOLDER)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One split of a dataset, found and checked."""

    pairs: Pairs
    output: Location
    allow_partial: bool
    earlier: Record | None
    """Of an earlier start that this one continues."""

    todo: list[int]
    """Shards that are not written."""

    @property
    def split(self) -> str:
        """The split; "all" of a folder that has none."""
        return self.pairs.split

    @property
    def is_done(self) -> bool:
        """Say whether nothing is left to do."""
        return self.earlier is not None and self.earlier.is_done and not self.todo

    @property
    def num_shards(self) -> int:
        """How many files there will be."""
        return math.ceil(len(self.pairs.table) / self.shard_size)

    @property
    def shard_size(self) -> int:
        """Pairs of a file."""
        return shards.shard_size(len(self.pairs.table))

    def shard(self, number: int) -> pa.Table:
        """Return the pairs of a file."""
        return self.pairs.table.slice(number * self.shard_size, self.shard_size)


def make_plans(
    name: str, source: str, output: str, *, split: str | None = None, allow_partial: bool = False
) -> list[Plan]:
    """Check everything that can be checked before a cluster is needed.

    Args:
        name: Of the dataset.
        source: URI of the folder that holds it.
        output: URI of the folder to write.
        split: train or val; None: those of the published protocol.
        allow_partial: Take what is there, though the authors ship more.

    Returns:
        A plan for each split.

    Raises:
        ValueError: The dataset is not what its name says, or the output is another's.
        OSError: A file or bucket cannot be read, or the output cannot be written.
    """
    if name not in NAMES:
        raise ValueError(f"unknown dataset {name!r}; there are: {', '.join(NAMES)}")
    if split is not None and split not in SPLITS[:2]:
        raise ValueError(f"--split is train or val, got {split!r}")
    folder, place = locate(source), locate(output)
    check_output(place)
    wanted = [split] if split else default_splits(name, folder)
    found = find_splits(name, folder, wanted, allow_partial=allow_partial)
    plans = [make_plan(pairs, place, allow_partial=allow_partial) for pairs in found]
    place.check_writable()
    return plans


def find_splits(
    name: str, source: Location, wanted: Sequence[str], *, allow_partial: bool
) -> list[Pairs]:
    """Find the pairs of each split."""
    try:
        return [find_checked(name, source, each, allow_partial=allow_partial) for each in wanted]
    except ValueError as error:
        if len(wanted) == 1:
            raise
        raise ValueError(f"{error} (for one split alone: --split {' or '.join(wanted)})") from error


def default_splits(name: str, source: Location) -> Sequence[str]:
    """Return the splits of the published protocol, or those that a user's folder has."""
    if name == FOLDER:
        return splits(source) or ["val"]
    return BENCHMARKS[name].default_splits


def check_output(output: Location) -> None:
    """Require a place that is new, or that `prepare` wrote to.

    Raises:
        ValueError: It holds something else.
    """
    kind = output.info().type
    if kind == FileType.File:
        raise ValueError(f"the output {output.uri} is a file, not a folder")
    if not is_prepared(output):
        check_free(output, "prepared dataset")


def make_plan(pairs: Pairs, output: Location, *, allow_partial: bool) -> Plan:
    """Find out what is left to do of a split.

    Raises:
        ValueError: The output is that of another dataset, or of other files.
    """
    for split in SPLITS:
        other = read_record(output, split)
        if other is not None and (other.dataset, other.classes) != (pairs.name, pairs.classes):
            raise ValueError(
                f"the output {output.uri} holds the dataset {other.dataset!r} with "
                f"{len(other.classes)} classes: use another --output"
            )
    earlier = read_record(output, pairs.split)
    if earlier is not None and earlier.plan_id != pairs.plan_id:
        raise ValueError(
            f"the output {output.uri} was made from other files than those in {pairs.root.uri} "
            f"({earlier.pairs} pairs, now {len(pairs.table)}): use another --output"
        )
    plan = Plan(pairs=pairs, output=output, allow_partial=allow_partial, earlier=earlier, todo=[])
    todo = remaining(plan) if earlier is not None else list(range(plan.num_shards))
    return Plan(pairs=pairs, output=output, allow_partial=allow_partial, earlier=earlier, todo=todo)


def remaining(plan: Plan) -> list[int]:
    """Return the shards that are not written, or have errors that were not allowed."""
    assert plan.earlier is not None, "something was begun"
    written = {info.base_name for info in shards.parts(plan.output, plan.split)}
    if not (plan.earlier.is_done and plan.allow_partial):  # perhaps the files were repaired
        written -= {info.base_name for info in shards.parts(plan.output, errors_folder(plan.split))}
    return [n for n in range(plan.num_shards) if shards.part_name(n) not in written]


def errors_folder(split: str) -> str:
    """Return where the errors of a split are listed."""
    return f"{ERRORS}/{split}"


SHARD = pa.schema([("shard", pa.int32()), ("pairs", pa.list_(pa.struct(list(PAIR))))])
"""One row a shard."""


def shard_table(plan: Plan) -> pa.Table:
    """Return what is left to do, `SHARD`."""
    tables = [plan.shard(number) for number in plan.todo]
    together = pa.concat_tables(tables).combine_chunks()
    columns = [together[name].combine_chunks() for name in PAIR.names]
    pairs = pa.StructArray.from_arrays(columns, fields=list(PAIR))
    offsets = [0]
    for each in tables:
        offsets.append(offsets[-1] + len(each))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs)
    return pa.table([pa.array(plan.todo, pa.int32()), lists], schema=SHARD)
