"""What a training worker gets from Ray Data: batches, read ahead, and how long they took."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch

from pipelines.augment import NO_CLASS, PADDING
from pipelines.ingest import label_type
from pipelines.masks import ignore_value
from pipelines.objective import Batch
from pipelines.sampling import FILLER, Sharing

if TYPE_CHECKING:
    from ray.data import DataIterator

    from pipelines.finetune import FinetuneConfig

T = TypeVar("T")

READ_AHEAD = 4
"""Steps that wait for the worker at most."""


def read_steps(
    config: "FinetuneConfig", stream: "DataIterator", first_step: int, world_size: int
) -> Iterator[list[Batch]]:
    """Yield a worker's share of each step, in `accumulate` parts.

    Raises:
        RuntimeError: Ray Data has ended early, or handed out another step's images.
    """
    sharing = Sharing(config.batch_size, world_size)
    step = first_step
    tables: Iterable[Any] = stream.iter_batches(
        batch_size=sharing.share, batch_format="pyarrow", prefetch_batches=READ_AHEAD
    )
    for table in tables:
        rows = table.to_pylist()
        check(rows, step, config.batch_size)
        yield [collate(part, config, sharing) for part in parts(rows, config.accumulate)]
        step += 1
    if step != config.max_steps:
        raise RuntimeError(f"the data ended at step {step} of {config.max_steps}")


def check(rows: Sequence[dict[str, Any]], step: int, batch_size: int) -> None:
    """Require that rows belong to a step: all workers must be at the same one."""
    wrong = [row["number"] for row in rows if row["number"] != FILLER]
    wrong = [number for number in wrong if number // batch_size != step]
    if wrong:
        raise RuntimeError(f"step {step} got the samples {wrong} of another step")


def parts(rows: list[T], count: int) -> list[list[T]]:
    """Cut a list into so many parts, or fewer where it is shorter."""
    bounds = np.linspace(0, len(rows), min(count, len(rows)) + 1).astype(int)
    return [rows[a:b] for a, b in pairwise(bounds.tolist())]


def collate(rows: Sequence[dict[str, Any]], config: "FinetuneConfig", sharing: Sharing) -> Batch:
    """Return the batch of some rows of `ingest.EXAMPLE`, those without pixels left out.

    Where all are, an empty picture stands in, with weight 0: every worker computes every step.
    """
    good = [row for row in rows if row["error"] is None]
    bad = [row for row in rows if row["error"] is not None and row["number"] != FILLER]
    size, num_classes = config.augmentation.crop_size, len(config.classes)
    if good:
        images = np.stack([np.frombuffer(row["pixels"], np.uint8) for row in good])
        labels = np.stack([np.frombuffer(row["labels"], label_type(num_classes)) for row in good])
        labels = labels.astype(np.int64)
        labels[labels == ignore_value(num_classes)] = NO_CLASS
    else:
        images = np.full((1, size * size * 3), PADDING, np.uint8)
        labels = np.full((1, size * size), NO_CLASS, np.int64)
    return Batch(
        torch.from_numpy(images).view(-1, size, size, 3),
        torch.from_numpy(labels).view(-1, size, size),
        [row["number"] for row in good] or [FILLER + 1],
        [row["image_id"] for row in good],
        weight=len(good) * sharing.world_size / sharing.batch_size,
        broken=[f"{row['image_id']}: {row['error']}" for row in bad],
    )


class Feed(Generic[T]):
    """Read ahead in a thread; measure how fast that goes and how long the reader waits."""

    def __init__(self, source: Iterator[T]) -> None:
        self.source = source
        self.waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(READ_AHEAD)
        self.made = 0
        self.making_seconds = 0.0
        """Time that the items made so far have taken, without that in which nobody asked."""
        self.waited_seconds = 0.0
        """Time that the reader has waited."""
        self.stopped = threading.Event()
        threading.Thread(target=self.fill, daemon=True).start()

    def fill(self) -> None:
        """Put item after item where the reader finds it; last None, or the error."""
        error: BaseException | None = None
        try:
            start = time.monotonic()
            for item in self.source:
                self.making_seconds += time.monotonic() - start
                self.made += 1
                if not self.put((item, None)):
                    return
                start = time.monotonic()
        except BaseException as raised:  # the reader raises it
            error = raised
        self.put((None, error))

    def put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        """Wait for a place; say whether the reader is still there."""
        while not self.stopped.is_set():
            try:
                self.waiting.put(entry, timeout=1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        """Yield the items; raise what their source raises."""
        while True:
            start = time.monotonic()
            item, error = self.waiting.get()
            self.waited_seconds += time.monotonic() - start
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Let the thread end."""
        self.stopped.set()
