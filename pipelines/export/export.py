"""Turn an output of `label` into another format: what `python -m jobs.export` does.

Rows: `corpus.PIECE` -> `WRITTEN`. A piece that is written is not written again by a second start.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pyarrow as pa

from pipelines.export.corpus import PIECE, Corpus, Piece
from pipelines.export.files import contents
from pipelines.export.format import DONE, PARTS, Export, Sink, Tally, fragment
from pipelines.export.plan import FORMATS, RECORD_FILE, VERSION, Plan
from pipelines.outputs import RUNNING
from pipelines.storage import Location

logger = logging.getLogger(__name__)

WRITTEN = pa.schema([("images", pa.int64())])

ALONE = 64
"""So many images are exported sooner than a cluster starts."""

SECONDS_BETWEEN_LINES = 10.0

Record = dict[str, Any]


def export(plan: Plan, connect: Callable[[], None], *, alone: int = ALONE) -> Record:
    """Export labels; return what export.json says at the end.

    Args:
        plan: From `make_plan`.
        connect: Joins or starts a Ray cluster; called if there is work for one.
        alone: So many images are exported by this process.
    """
    if plan.is_done:
        assert plan.earlier is not None, "what is done has a record"
        logger.info("Nothing is left to do in %s", plan.output.uri)
        plan.output.at(PARTS).remove()  # the earlier start may have been stopped before it did
        return plan.earlier
    if not plan.corpus.is_complete:
        logger.warning(
            "%s is not finished: this export is of what is there", plan.corpus.labels.uri
        )
    if not plan.is_begun:
        start_anew(plan)
    record = begin(plan)
    todo = remaining(plan)
    write = writer_of(plan)
    few = sum(piece.num_images for piece in todo) <= alone
    log_progress(in_turn(write, todo) if few else spread(write, todo, connect), todo)
    return finish(plan, record)


def start_anew(plan: Plan) -> None:
    """Remove what an export of other labels wrote here; its record goes last."""
    for name in (PARTS, *plan.writer.owns):
        plan.output.at(name).remove()


def begin(plan: Plan) -> Record:
    """Claim the output."""
    record = {
        "version": VERSION,
        "format": plan.format,
        "labels": plan.corpus.labels.uri,
        "output": plan.output.uri,
        "fingerprint": plan.fingerprint,
        "status": RUNNING,
        "complete": plan.corpus.is_complete,
        "classes": len(plan.corpus.classes),
        "images": plan.corpus.num_images,
        "segments": plan.corpus.num_segments,
    }
    write_record(plan.output, record)
    return record


def write_record(output: Location, record: Record) -> None:
    """Write export.json."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    output.at(RECORD_FILE).write(text.encode() + b"\n")


def remaining(plan: Plan) -> list[Piece]:
    """Return the pieces that are not written."""
    done = {info.base_name for info in plan.output.at(PARTS, DONE).files()}
    return [piece for piece in plan.pieces if piece.name not in done]


@dataclass(frozen=True)
class WritePiece:
    """Write pieces of an export."""

    format: str
    corpus: Corpus
    output: Location

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write pieces, rows of `PIECE`; return a row of `WRITTEN` for each."""
        images = [self.write(Piece.of_row(row)) for row in batch.to_pylist()]
        return pa.table({"images": images}, schema=WRITTEN)

    def write(self, piece: Piece) -> int:
        """Write a piece, and then that it is written; return its number of images."""
        tally = Tally()
        images = tally.counting(self.corpus.read(piece))
        FORMATS[self.format].write(images, Sink(self.corpus, self.output, piece))
        fragment(self.output, DONE, piece).write(tally.to_json())
        return tally.images


def writer_of(plan: Plan) -> WritePiece:
    """Return what writes the pieces of a plan.

    Each task unpickles it: it has no list of all parts, for a piece brings its own.
    """
    return WritePiece(plan.format, replace(plan.corpus, parts=()), plan.output)


def in_turn(write: WritePiece, todo: Iterable[Piece]) -> Iterator[int]:
    """Write pieces in this process; yield how many images each had."""
    for piece in todo:
        yield write.write(piece)


def spread(write: WritePiece, todo: list[Piece], connect: Callable[[], None]) -> Iterator[int]:
    """Write pieces on the cluster; yield how many images each had."""
    connect()
    import ray

    table = pa.Table.from_pylist([piece.to_row() for piece in todo], schema=PIECE)
    pieces = ray.data.from_arrow(table).repartition(target_num_rows_per_block=1, strict=True)
    written = pieces.map_batches(write, batch_size=1, batch_format="pyarrow")
    for row in written.iter_rows():
        yield row["images"]


def log_progress(written: Iterable[int], todo: list[Piece]) -> None:
    """Wait for all pieces; log progress every few seconds."""
    total, done, last = sum(piece.num_images for piece in todo), 0, time.monotonic()
    for images in written:
        done += images
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            logger.info("%d of %d images", done, total)
            last = time.monotonic()


def finish(plan: Plan, record: Record) -> Record:
    """Write what is about all images, and that the export is done."""
    tally = tally_of(plan)
    found, expected = (tally.images, tally.segments), (record["images"], record["segments"])
    assert found == expected, f"every image once: {found} of {expected}"
    plan.writer.finish(Export(plan.corpus, plan.output, list(plan.pieces), tally))
    record = record | {"status": "done"}
    write_record(plan.output, record)
    # Last: of parts that are half gone no second start could put the export together.
    plan.output.at(PARTS).remove()
    return record


def tally_of(plan: Plan) -> Tally:
    """Return what was counted over all pieces."""
    counted = contents(fragment(plan.output, DONE, piece) for piece in plan.pieces)
    return reduce(Tally.plus, map(Tally.from_json, counted), Tally())
