"""Photos with masks, prepared or as their authors ship them, as a dataset.

Rows: `pairs.PAIR`, or a row group of a prepared file -> `rows.PREPARED`.
"""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import rows
from pipelines.datasets.dataset import Labelled, Split, digest_of, in_order
from pipelines.datasets.drawn import TASK_CPUS
from pipelines.prepare.checks import check_not_empty, check_sample
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.prepared import Record, groups, is_prepared, open_split
from pipelines.prepare.reading import ReadPair
from pipelines.storage import Location, locate

logger = logging.getLogger(__name__)

PAIRS_PER_BLOCK = 16
GROUPS_PER_BLOCK = 8


def check_pairs(name: str, uri: str, split: Split) -> None:
    """Require that a stored dataset is there and is what its name says, without Ray.

    Raises:
        ValueError: It is not; the message says what is wrong.
        OSError: It cannot be read.
    """
    place = locate(uri)
    if is_prepared(place):
        open_split(name, place, split)
        return
    check_sample(find_whole(name, place, split))


def find_whole(name: str, place: Location, split: Split) -> Pairs:
    """Find the pairs of a dataset as it is shipped; that there are fewer is only logged.

    Raises:
        ValueError: It is not what its name says, or names are on one side only.
    """
    pairs = find_pairs(name, place, split)
    problems = [*pairs.wrong, *pairs.unmatched]
    if problems:
        raise ValueError(f"{name} in {pairs.root.uri}: {'; '.join(problems)}")
    check_not_empty(pairs)
    for remark in (*pairs.fewer, *pairs.notes):
        logger.warning("%s: %s", pairs.root.uri, remark)
    return pairs


def load_pairs(
    name: str, uri: str, split: Split, *, limit: int | None = None, shuffle: int | None = None
) -> Labelled:
    """Plan the rows of a stored dataset; nothing is read until they are consumed."""
    place = locate(uri)
    if is_prepared(place):
        return load_prepared(open_split(name, place, split), place, limit, shuffle)
    return load_shipped(find_whole(name, place, split), limit, shuffle)


def load_shipped(pairs: Pairs, limit: int | None, shuffle: int | None) -> Labelled:
    """Plan the rows of a dataset as its authors ship it.

    A pair that cannot be used ends whoever consumes the rows, with a message that names it: where
    that is not wanted, `prepare` lists and leaves out what cannot be used.
    """
    import ray.data

    table = pairs.table if limit is None else pairs.table.slice(0, limit)
    names = in_order(ray.data.from_arrow(table), PAIRS_PER_BLOCK, shuffle)
    return Labelled(
        name=pairs.name,
        rows=names.map_batches(
            ReadPair.of(pairs), batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS
        ),
        num_images=len(table),
        classes=pairs.classes,
        asked=pairs.asked,
        unseen=[],
        source=pairs.root.uri,
        digest=limited(pairs.digest, limit),
    )


def load_prepared(
    record: Record, place: Location, limit: int | None, shuffle: int | None
) -> Labelled:
    """Plan the rows of a prepared dataset."""
    import ray.data

    total = min(record.images, limit or record.images)
    chosen = pa.Table.from_pylist(list(first_rows(groups(record.parts), total)))
    names = in_order(ray.data.from_arrow(chosen), GROUPS_PER_BLOCK, shuffle)
    read = ReadGroups(place.at(record.split))
    return Labelled(
        name=record.dataset,
        rows=names.map_batches(read, batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS),
        num_images=total,
        classes=record.classes,
        asked=record.asked,
        unseen=[],
        source=place.uri,
        digest=limited(str(record.digest), limit),
    )


def limited(digest: str, limit: int | None) -> str:
    """Return what says which images these are, if only the first are read."""
    return digest if limit is None else digest_of(f"{digest}, limit {limit}")


def first_rows(found: list[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """Yield row groups that hold so many rows; of the last one perhaps not all count."""
    for group in found:
        if total <= 0:
            return
        yield group | {"rows": min(group["rows"], total)}
        total -= group["rows"]


@dataclass(frozen=True)
class ReadGroups:
    """Read row groups of prepared files."""

    folder: Location

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows of each group; those of one file that follow each other are read once."""
        for part, found in itertools.groupby(batch.to_pylist(), key=lambda row: row["part"]):
            place = self.folder.at(part)
            with place.fs.open_input_file(place.path) as file:
                content = pq.ParquetFile(file)
                for row in found:
                    table = content.read_row_group(row["group"]).slice(0, row["rows"])
                    yield table.cast(rows.PREPARED).replace_schema_metadata(None)
