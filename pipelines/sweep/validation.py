"""The validation set as all trials share it: encoded once, in an order that never changes.

Rows in:  `rows.PREPARED` or `rows.MASKED`
Rows out: `ENCODED`, sorted by `order`: the first n rows are a random sample, always the same one
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import torch
from PIL import Image
from ray.data import ActorPoolStrategy
from torch import Tensor

from pipelines import rows, tensors
from pipelines.cluster import Pool
from pipelines.datasets import Labelled
from pipelines.evaluation.reading import read_pair
from pipelines.images import ImageError
from pipelines.labeller import LoadModel, use_threads
from sed.resize import to_model_input
from sed.shortest_edge import resize_shortest_edge

Row = dict[str, Any]

ENCODED = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("order", pa.string()),
        pa.field("mask", rows.FILE),
        rows.KEPT,
        pa.field("message", pa.string()),
    ]
)
"""An image for the decoder, or why there is none (`message`)."""


class UnusableSetError(ValueError):
    """The validation set cannot say how good a policy is; only its images show that."""


@dataclass(frozen=True)
class Encoded:
    """The validation set in Ray's object store."""

    blocks: "tuple[ray.ObjectRef, ...]"
    """Tables of `ENCODED`, those that can be used."""

    sizes: tuple[int, ...]
    """Rows of each."""

    broken: tuple[str, ...]
    """Images that cannot be used, and why: they or their masks are broken, or do not fit."""

    @property
    def num_images(self) -> int:
        """Images that can be used."""
        return sum(self.sizes)

    def batches(self, images: range, batch_size: int) -> Iterator[list[Row]]:
        """Yield the rows of some of the images, a batch at a time."""
        rows: list[Row] = []
        first = 0
        for block, size in zip(self.blocks, self.sizes, strict=True):
            start, stop = max(images.start - first, 0), min(images.stop - first, size)
            first += size
            if start < stop:
                for row in ray.get(block).slice(start, stop - start).to_pylist():
                    rows.append(row)
                    if len(rows) == batch_size:
                        yield rows
                        rows = []
        if rows:
            yield rows


class Encoder:
    """Hold one model on one device and keep what its decoder needs of each image."""

    def __init__(
        self,
        *,
        load_model: LoadModel,
        num_classes: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        use_threads(threads)
        self.num_classes = num_classes
        self.model: Any = load_model(device)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `ENCODED` for each row."""
        found = [self.read(row) for row in batch.to_pylist()]
        sound = [(row, image) for row, image in found if image is not None]
        if sound:
            images_B3HW = torch.stack([image for _, image in sound])
            essence = self.model.condense(self.model.encode(images_B3HW))
            for (row, _), kept in zip(sound, essence.split(), strict=True):
                row |= {"features": tensors.pack(kept)}
        return pa.Table.from_pylist([row for row, _ in found], schema=ENCODED)

    def read(self, row: Row) -> tuple[Row, Tensor | None]:
        """Return what is kept of a row, and its image; None where `jobs.evaluate` has an error."""
        name = row["image_id"]
        known = {"image_id": name, "order": hashlib.sha256(name.encode()).hexdigest()}
        if row.get("message"):
            return known | {"message": f"{name}: {row['message']}"}, None
        try:
            photo, _ = read_pair(row, self.num_classes)
        except ImageError as error:
            return known | {"message": f"{name}: {error}"}, None
        return known | {"mask": row["mask"]}, self.to_input(photo)

    def to_input(self, image: Image.Image) -> Tensor:
        """Return a photo as the published evaluation feeds it, image_3HW."""
        config = self.model.config
        small = resize_shortest_edge(image, config.short_side, config.long_side)
        return to_model_input(np.array(small), config.image_size)


def encode(data: Labelled, load_model: LoadModel, pool: Pool, batch_size: int) -> Encoded:
    """Run the encoder over the validation set; the result is in Ray's object store.

    Raises:
        UnusableSetError: No image has a mask that can be used.
    """
    data.rows.context.enable_progress_bars = sys.stdout.isatty()
    rows = data.rows.map_batches(
        cast("Any", Encoder),
        fn_constructor_kwargs={
            "load_model": load_model,
            "num_classes": len(data.classes),
            "device": pool.device,
            "threads": pool.threads,
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.size),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    ).sort("order")
    parts = [
        cast("Any", ray.remote(usable).options(num_returns=2).remote(block))
        for block in rows.materialize().to_arrow_refs()
    ]
    told = ray.get([told for _, told in parts])
    broken = tuple(message for messages, _ in told for message in messages)
    encoded = Encoded(
        blocks=tuple(block for block, _ in parts),
        sizes=tuple(count for _, count in told),
        broken=broken,
    )
    if not encoded.num_images:
        reason = f" ({broken[0]})" if broken else ""
        raise UnusableSetError(f"no image of {data.name!r} has a mask that can be used{reason}")
    return encoded


def usable(block: pa.Table) -> tuple[pa.Table, tuple[Sequence[str], int]]:
    """Return the rows that can be used; what is wrong with the others; how many can be used."""
    sound = np.array([message is None for message in block["message"].to_pylist()], dtype=bool)
    kept = block.filter(pa.array(sound))
    wrong = [message for message in block["message"].to_pylist() if message is not None]
    return kept, (wrong, len(kept))
