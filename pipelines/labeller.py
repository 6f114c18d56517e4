"""Middle step of labelling: an actor that holds the model.

Rows: `rows.DECODED` in, `rows.LABELLED` out, in the same order. A row with an error passes through.

Shapes: B images, N classes, H W pixels, P prompts, D embedding.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import sed
from pipelines import masks, rows, tensors
from pipelines.decoding import Row, failure
from pipelines.fetching import Maps, Scored, fetch, groups
from pipelines.out_of_memory import try_in_turn
from sed.features import Essence
from sed.uncertainty import sum_up


class Model(Protocol):
    """What the labeller needs of a `sed.SED`."""

    config: sed.SEDConfig

    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return text_NPD."""
        ...

    def prepare(self, pixels_HW3: np.ndarray) -> Tensor:
        """Return a decoded photo as `score` takes it."""
        ...

    def score(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: sed.Rejection | None = None
    ) -> list[sed.ClassScores]:
        """Return the surviving classes of each image and their logits."""
        ...


SECONDS_OF_A_TURN = 0.0005
"""How long a thread keeps Python to itself: by Python's own 5 ms the model waits for one that
describes, a tenth of the time of a fast model."""

LoadModel = Callable[[str], Model]
"""Loads a model onto the device of that name."""


Result = TypeVar("Result")

Input = Tensor | list[Tensor]
"""An image_3HW, or the tensors of its features."""


FETCHED_TOGETHER = 2**28
"""Bytes of label maps that a GPU makes before it is waited for: a batch of usual photos."""


class Labeller:
    """Hold one model on one device and label batches of images.

    One thread loads the model and computes with it, whoever calls. On a CPU that is a sixth faster
    than a thread after the other: each has a team of OpenMP threads of its own, and where there are
    more of these than cores, they wait for each other by way of the kernel.
    """

    def __init__(
        self,
        *,
        load_model: LoadModel,
        load_text: Callable[[], np.ndarray],
        classes: Sequence[str],
        rejection: sed.Rejection,
        min_confidence: float = 0.0,
        keep_features: bool = False,
        batch_size: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.own_threads = threads and 1
        sys.setswitchinterval(SECONDS_OF_A_TURN)
        self.model_thread = ThreadPoolExecutor(1, "model", use_threads, (threads,))
        self.device = device
        self.model = self.in_turn(partial(load_model, device))
        self.text_NPD = torch.tensor(load_text(), device=device)
        self.classes = list(classes)
        self.rejection = rejection
        self.min_confidence = min_confidence
        self.keep_features = keep_features
        self.batch_size = batch_size
        self.fetched_together = 0 if device == "cpu" else FETCHED_TOGETHER
        self.ignore = masks.ignore_value(len(self.classes))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return a row of `rows.LABELLED` for each row, in the same order.

        No batch holds images of two shards: a shard's rows are the same to the last bit whatever is
        labelled beside it, after a kill too. Several threads may call: while one has the model, the
        others describe what it found.
        """
        use_threads(self.own_threads)  # counts for the thread that calls
        return pa.concat_tables(map(self.label_batch, batches(block, self.batch_size)))

    def label_batch(self, batch: pa.Table) -> pa.Table:
        """Label images that go through the model together."""
        images = batch.drop_columns("pixels").to_pylist()
        inputs = [
            self.prepare(row, pixels)
            for row, pixels in zip(images, batch["pixels"], strict=True)
            if row["error_type"] is None
        ]
        sound = [row for row in images if row["error_type"] is None]
        columns = self.label_all(sound, self.score_sound(inputs))
        labelled = [row if row["error_type"] is not None else row | next(columns) for row in images]
        return pa.Table.from_pylist(labelled, schema=rows.LABELLED)

    def prepare(self, row: Row, pixels: pa.LargeBinaryScalar) -> Input | Exception:
        """Return the image of a row as the model sees it, or the error where it does not fit."""

        def make() -> Input:
            return self.to_input(row, pixels)

        return try_in_turn(make, lambda: self.in_turn(make))

    def in_turn(self, compute: Callable[[], Result]) -> Result:
        """Compute in the thread of the model: while the model does not."""
        return self.model_thread.submit(compute).result()

    def to_input(self, row: Row, pixels: pa.LargeBinaryScalar) -> Input:
        """Return the image of a row as the model sees it, or the features kept of it."""
        if row["features"] is not None:
            return tensors.unpack(row["features"], self.device)
        shape = (row["pixels_height"], row["pixels_width"], 3)
        view = np.frombuffer(pixels.as_buffer(), dtype=np.uint8)  # no copy
        return self.model.prepare(view.reshape(shape))

    def score_sound(self, inputs: list[Input | Exception]) -> list[Scored | Exception]:
        """Score what could be prepared; an error stays what it is."""
        sound = [image for image in inputs if not isinstance(image, Exception)]
        scored = iter(self.score(sound) if sound else [])
        return [image if isinstance(image, Exception) else next(scored) for image in inputs]

    def score(self, images: list[Input]) -> list[Scored | Exception]:
        """Score images together; where memory does not suffice, each alone."""
        found = try_in_turn(lambda: self.in_turn(lambda: self.run(images)))
        if not isinstance(found, Exception):
            return [*found]
        if len(images) == 1:
            return [found]
        return [self.score([image])[0] for image in images]

    def run(self, images: list[Input]) -> list[Scored]:
        """Run the model on one batch of pixels, or of features."""
        photos = [image for image in images if isinstance(image, Tensor)]
        if photos and not self.keep_features:
            scores = self.model.score(torch.stack(photos), self.text_NPD, self.rejection)
            return [Scored(one) for one in scores]
        model = self.model
        assert isinstance(model, sed.SED), "a stand-in for a model has no features"
        if photos:
            essence = model.condense(model.encode(torch.stack(photos)))
        else:
            essence = Essence.stack([image for image in images if not isinstance(image, Tensor)])
        scores = model.decode(essence, self.text_NPD, self.rejection)
        return [Scored(*pair) for pair in zip(scores, essence.split(), strict=True)]

    def label_all(self, images: list[Row], found: list[Scored | Exception]) -> Iterator[Row]:
        """Return the result columns of each image, or its error."""
        sizes = [(row["height"], row["width"]) for row in images]
        for group in groups(sizes, self.fetched_together):
            fetched = self.fetch_together(images[group], found[group])
            for image in zip(images[group], found[group], fetched, strict=True):
                yield self.label(*image)

    def fetch_together(
        self, images: list[Row], found: list[Scored | Exception]
    ) -> Sequence[Maps | None]:
        """Return the maps of images whose device is waited for once.

        None of an image that was not scored, of one alone, and of all where memory does not
        suffice for all: such an image goes its own ways.
        """
        nothing = [None] * len(images)
        scored = [
            (one, row["height"], row["width"])
            for row, one in zip(images, found, strict=True)
            if not isinstance(one, Exception)
        ]
        if len(scored) < 2:
            return nothing
        together = try_in_turn(lambda: fetch(scored, self.ignore))
        if isinstance(together, Exception):
            return nothing
        maps = iter(together)
        return [None if isinstance(one, Exception) else next(maps) for one in found]

    def label(self, row: Row, found: Scored | Exception, maps: Maps | None = None) -> Row:
        """Return the result columns of an image, or its error.

        The threads share the memory of one device. What does not fit beside the work of the others
        is done again while the model waits, and then from scores in the memory of the machine.

        Args:
            row: Of the image.
            found: Its scores.
            maps: What is written of them, where that was fetched.
        """
        if isinstance(found, Exception):
            return failure("OutOfMemory", found)
        described = try_in_turn(
            lambda: self.describe(row, found, maps),
            lambda: self.in_turn(lambda: self.describe(row, found)),
            lambda: self.describe(row, found.on_cpu()),
        )
        if isinstance(described, Exception):
            return failure("OutOfMemory", described)
        return described

    def describe(self, row: Row, found: Scored, maps: Maps | None = None) -> Row:
        """Make label map, confidence and segments of one image at its own size."""
        if maps is None:
            (maps,) = fetch([(found, row["height"], row["width"])], self.ignore)
        labels_HW, confidence_HW = maps.labels_HW.numpy(), maps.confidence_HW.numpy()
        labels_HW[confidence_HW < self.min_confidence] = self.ignore
        unsure = sum_up(maps.doubts, maps.candidates_K)
        name = row["image_uri"].rpartition("/")[2].rpartition(".")[0] or "image"
        return {
            "features": list(map(tensors.value, maps.kept)) if self.keep_features else None,
            "mask": {"bytes": masks.index_png(labels_HW, len(self.classes)), "path": f"{name}.png"},
            "confidence": {
                "bytes": masks.confidence_png(maps.coarse_HW.numpy()),
                "path": f"{name}_confidence.png",
            },
            "segments": masks.segments(labels_HW, confidence_HW, self.classes),
            "ignored_fraction": float((labels_HW == self.ignore).mean()),
            "mean_confidence": float(confidence_HW.mean(dtype=np.float64)),
            "candidates": maps.candidates_K.tolist(),
            "mean_margin": unsure.margin,
            "mean_entropy": unsure.entropy,
            "rivals": [asdict(rivalry) for rivalry in unsure.rivals],
        }


def batches(block: pa.Table, batch_size: int | None) -> Iterator[pa.Table]:
    """Cut the rows of one shard or several into batches; None: a shard is a batch."""
    starts = np.flatnonzero(np.diff(block["shard"].to_numpy(), prepend=-1)).tolist()
    for start, stop in pairwise([*starts, len(block)]):
        step = batch_size or stop - start
        for first in range(start, stop, step):
            yield block.slice(first, min(step, stop - first))


def use_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads, at most those of this machine; None changes nothing."""
    if threads is not None:
        # At a thread's first look torch gives it the number that any thread set last.
        torch.get_num_threads()
        torch.set_num_threads(min(threads, os.cpu_count() or threads))
