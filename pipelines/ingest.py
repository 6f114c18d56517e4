"""From a dataset with masks to the batches of each training worker, by Ray Data on CPU tasks.

Rows: steps first..last -> `SAMPLE` (files) -> `EXAMPLE` (pixels); a block of `EXAMPLE` is the share
of one worker in one step, and the workers get the blocks in turn.
"""

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.augment import NO_CLASS, Augmentation
from pipelines.masks import IGNORE_8_BIT, ignore_value
from pipelines.pieces import ROW, Pieces, broken
from pipelines.sampling import FILLER, Order, Sharing
from sed.photo import to_rgb, upright

if TYPE_CHECKING:
    from ray.data import DataIterator, Dataset

STRETCH = pa.schema([pa.field("first", pa.int64()), pa.field("last", pa.int64())])
"""Steps that one task reads the files of: from the first, up to the last and without it."""

SAMPLE = pa.schema([pa.field("number", pa.int64()), pa.field("epoch", pa.int64()), *ROW])
"""One image for one step, as files."""

EXAMPLE = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("image_id", pa.string()),
        pa.field("pixels", pa.large_binary()),
        pa.field("labels", pa.large_binary()),
        pa.field("error", pa.string()),
    ]
)
"""The same as pixels: a square of uint8 RGB and its labels, as `label_type` says; both null where
there is an error, or where the row only fills up a batch."""

TASK_CPUS = 0.5


@dataclass(frozen=True)
class ReadSamples:
    """Read the files of every sample of a stretch of steps, each piece once."""

    pieces: Pieces
    order: Order
    sharing: Sharing

    def __call__(self, stretches: pa.Table) -> pa.Table:
        """Return rows of `SAMPLE` in the order in which they are needed."""
        found = []
        for stretch in stretches.to_pylist():
            found += self.read(range(stretch["first"], stretch["last"]))
        return pa.Table.from_pylist(found, SAMPLE)

    def read(self, steps: range) -> list[dict[str, Any]]:
        """Return the samples of some steps."""
        numbers = [number for step in steps for number in self.sharing.numbers(step)]
        places = {number: self.order.place(number) for number in numbers if number != FILLER}
        wanted: dict[int, set[int]] = {}
        for _, piece, row in places.values():
            wanted.setdefault(piece, set()).add(row)
        files = {}
        for piece, some in wanted.items():
            rows = sorted(some)
            found = self.pieces.read(piece, rows)
            files |= {(piece, row): file for row, file in zip(rows, found, strict=True)}
        return [self.sample(number, places, files) for number in numbers]

    def sample(
        self,
        number: int,
        places: Mapping[int, tuple[int, int, int]],
        files: Mapping[tuple[int, int], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return one row of `SAMPLE`."""
        if number == FILLER:
            return {"number": FILLER, "epoch": 0, **broken("", "filler")}
        epoch, *place = places[number]
        return {"number": number, "epoch": epoch, **files[place[0], place[1]]}


@dataclass(frozen=True)
class MakeExamples:
    """Decode and augment: what becomes of an image depends on seed, epoch and image alone."""

    augmentation: Augmentation
    num_classes: int
    seed: int

    def __call__(self, samples: pa.Table) -> pa.Table:
        """Return a row of `EXAMPLE` for each of `SAMPLE`."""
        return pa.Table.from_pylist([self.make(row) for row in samples.to_pylist()], EXAMPLE)

    def make(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return one example; of a damaged image, why it is none."""
        kept = {name: row[name] for name in ("number", "image_id", "error")}
        if row["error"] is not None:
            return {**kept, "pixels": None, "labels": None}
        try:
            pixels, labels = self.augment(row)
        # A damaged file can make Pillow's parsers raise anything; it must not end a training.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            return {**kept, "pixels": None, "labels": None, "error": reason}
        return {**kept, "pixels": pixels, "labels": labels}

    def augment(self, row: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Return the pixels and the labels of one image."""
        labels_HW = decode_labels(row["mask"], self.num_classes)
        rng = np.random.default_rng([self.seed, row["epoch"], zlib.crc32(row["image_id"].encode())])
        image_HW3, labels_HW = self.augmentation(decode_photo(row["image"]), labels_HW, rng)
        wrapped = np.where(labels_HW == NO_CLASS, ignore_value(self.num_classes), labels_HW)
        return image_HW3.tobytes(), wrapped.astype(label_type(self.num_classes)).tobytes()


def decode_photo(data: bytes) -> Image.Image:
    """Return a photo as RGB and upright, at its own size."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return to_rgb(upright(image))


def decode_labels(data: bytes, num_classes: int) -> np.ndarray:
    """Return the class of each pixel, labels_HW, `NO_CLASS` for none.

    Raises:
        ValueError: The mask has another value than a class or the one to be ignored.
    """
    with Image.open(io.BytesIO(data)) as mask:
        values_HW = np.array(mask).astype(np.int32)
    labels_HW = np.where(values_HW == ignore_value(num_classes), NO_CLASS, values_HW)
    if labels_HW.max(initial=0) >= num_classes:
        raise ValueError(
            f"the mask has the label {labels_HW.max()}, but there are {num_classes} classes"
        )
    return labels_HW


def label_type(num_classes: int) -> type[np.unsignedinteger]:
    """Return the type of labels on their way to a worker; the value to be ignored fits in."""
    return np.uint8 if ignore_value(num_classes) == IGNORE_8_BIT else np.uint16


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """What is streamed to the workers, whoever they are and wherever they start."""

    pieces: Pieces
    augmentation: Augmentation
    num_classes: int
    seed: int
    batch_size: int
    max_steps: int

    @property
    def order(self) -> Order:
        """The order of the images."""
        return Order(tuple(self.pieces.lengths), self.seed)

    def rows(self, first_step: int, world_size: int) -> "Dataset":
        """Plan the rows of all steps from one on; nothing is read until they are consumed."""
        import ray.data

        sharing = Sharing(self.batch_size, world_size)
        stretches = sharing.stretches(self.order, first_step, self.max_steps)
        columns = [list(column) for column in zip(*stretches, strict=True)]
        rows = ray.data.from_arrow(pa.table(columns, schema=STRETCH))
        rows.context.execution_options.preserve_order = True
        rows.context.enable_progress_bars = False
        rows.context.target_max_block_size = None  # a block is the share of a worker in a step
        read = cast("Any", ReadSamples(self.pieces, self.order, sharing))
        make = cast("Any", MakeExamples(self.augmentation, self.num_classes, self.seed))
        return (
            rows.repartition(target_num_rows_per_block=1, strict=True)
            .map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS)
            .repartition(target_num_rows_per_block=sharing.share, strict=True)
            .map_batches(make, batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS)
        )

    def split(self, first_step: int, world_size: int) -> list["DataIterator"]:
        """Return what each worker reads; every one must be read, or all wait."""
        return self.rows(first_step, world_size).streaming_split(world_size, equal=False)
