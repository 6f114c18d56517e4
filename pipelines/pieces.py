"""A dataset with masks in pieces, each of which can be read by itself: training reads at random.

Rows: `rows.PREPARED`, and `error` where an image cannot be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from pipelines import shards
from pipelines.buckets import is_outage
from pipelines.labelled import LabelOutput, ReadPart
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.prepared import Record, groups
from pipelines.prepare.reading import PairError, ReadPair
from pipelines.storage import Location, open_buckets

PAIRS = 8
"""Photos of a piece of a dataset that is not prepared."""

READERS = 8
"""Photos that are fetched at a time by one task."""

ROW = pa.schema(
    [
        pa.field("image", pa.large_binary()),
        pa.field("mask", pa.large_binary()),
        pa.field("image_id", pa.string()),
        pa.field("error", pa.string()),
    ]
)
"""The files of one image and of its mask; without them, why."""


class Pieces(Protocol):
    """A dataset in pieces; travels to other processes as it is."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Images in each piece."""
        ...

    def read(self, piece: int, rows: Sequence[int]) -> list[dict[str, object]]:
        """Return some rows of a piece as `ROW`, in the order asked for."""
        ...


@dataclass(frozen=True)
class ParquetPieces:
    """The row groups of Parquet files of `rows.PREPARED`."""

    fs: FileSystem
    groups: tuple[tuple[str, int], ...]
    """Path of the file and number of the group in it."""
    lengths: tuple[int, ...]

    @classmethod
    def open(cls, record: Record, place: Location) -> "ParquetPieces":
        """Return the row groups of a prepared split."""
        folder, found = place.at(record.split), groups(record.parts)
        return cls(
            place.fs,
            tuple((folder.at(one["part"]).path, one["group"]) for one in found),
            tuple(one["rows"] for one in found),
        )

    def read(self, piece: int, rows: Sequence[int]) -> list[dict[str, object]]:
        """Return some rows of a piece as `ROW`, in the order asked for."""
        path, group = self.groups[piece]
        columns = ["image", "mask", "image_id"]
        with self.fs.open_input_file(path) as file:
            table = pq.ParquetFile(file).read_row_group(group, columns=columns)
        return [to_row(row) for row in table.take(list(rows)).to_pylist()]


def group_lengths(file: Location) -> Iterator[int]:
    """Yield the rows of each row group of a Parquet file."""
    with file.fs.open_input_file(file.path) as source:
        metadata = pq.ParquetFile(source).metadata
        for group in range(metadata.num_row_groups):
            yield metadata.row_group(group).num_rows


@dataclass(frozen=True)
class LabelPieces:
    """The files that `label` wrote, with the photos they are about."""

    reader: ReadPart
    parts: tuple[str, ...]
    lengths: tuple[int, ...]

    @classmethod
    def open(cls, output: LabelOutput) -> "LabelPieces":
        """Read the footers of the files of an output of `label`."""
        infos = shards.parts(output.place, shards.LABELS)
        names = tuple(info.base_name for info in infos)
        files = [output.place.at(shards.LABELS, name) for name in names]
        reader = ReadPart(output.place, open_buckets(output.manifest["image_uri"]))
        return cls(reader, names, tuple(sum(group_lengths(file)) for file in files))

    def read(self, piece: int, rows: Sequence[int]) -> list[dict[str, object]]:
        """Return some rows of a piece as `ROW`, in the order asked for."""
        columns = ["image_uri", "image_sha256", "width", "height", "mask"]
        table = self.reader.read(self.parts[piece]).select(columns).take(list(rows))
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.fetch, table.to_pylist()))

    def fetch(self, row: dict[str, object]) -> dict[str, object]:
        """Return a row with its photo; where that is gone, with the error."""
        try:
            return to_row(self.reader.prepare(row))
        except OSError as error:
            if is_outage(error):
                raise
            return broken(str(row["image_uri"]), str(error))


@dataclass(frozen=True)
class PairPieces:
    """Photos with masks as their authors ship them, a few to a piece."""

    reader: ReadPair
    table: pa.Table
    """`pairs.PAIR`."""

    @classmethod
    def open(cls, pairs: Pairs) -> "PairPieces":
        """Return what reads these pairs."""
        return cls(ReadPair.of(pairs), pairs.table)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Images in each piece."""
        starts = range(0, len(self.table), PAIRS)
        return tuple(min(PAIRS, len(self.table) - start) for start in starts)

    def read(self, piece: int, rows: Sequence[int]) -> list[dict[str, object]]:
        """Return some rows of a piece as `ROW`, in the order asked for."""
        pairs = self.table.take([piece * PAIRS + row for row in rows]).to_pylist()
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.fetch, pairs))

    def fetch(self, pair: dict[str, object]) -> dict[str, object]:
        """Return the row of a pair; where it cannot be used, with the error."""
        try:
            return to_row(self.reader.row(pair))
        except PairError as error:
            return broken(str(pair["image_id"]), str(error))


def to_row(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row of `rows.PREPARED` as `ROW`."""
    image, mask = row["image"], row["mask"]
    assert isinstance(image, dict), "rows.FILE"
    assert isinstance(mask, dict), "rows.FILE"
    files = {"image": image["bytes"], "mask": mask["bytes"]}
    return files | {"image_id": row["image_id"], "error": None}


def broken(image_id: str, error: str) -> dict[str, object]:
    """Return the row of an image that cannot be used."""
    return {"image": None, "mask": None, "image_id": image_id, "error": error}
