"""Middle step of labelling: an actor that holds the model.

Rows: `rows.DECODED` in, `rows.LABELLED` out, in the same order. A row with an error passes through.

Shapes: B images, K surviving classes of an image, H W pixels, P prompts, D embedding.
"""

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import sed
from pipelines import masks, rows
from pipelines.decoding import Row, failure
from sed.resize import to_model_input
from sed.upsample import label_map


class Model(Protocol):
    """What the labeller needs of a `sed.SED`."""

    config: sed.SEDConfig

    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return text_NPD."""
        ...

    def score(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: sed.Rejection | None = None
    ) -> list[sed.ClassScores]:
        """Return the surviving classes of each image and their logits."""
        ...


LoadModel = Callable[[str], Model]
"""Loads a model onto the device of that name."""


class Labeller:
    """Hold one model on one device and label batches of images."""

    def __init__(
        self,
        *,
        load_model: LoadModel,
        load_text: Callable[[], np.ndarray],
        classes: Sequence[str],
        rejection: sed.Rejection,
        min_confidence: float = 0.0,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        use_threads(threads)
        self.device = device
        self.model = load_model(device)
        self.text_NPD = torch.tensor(load_text(), device=device)
        self.classes = list(classes)
        self.rejection = rejection
        self.min_confidence = min_confidence
        self.ignore = masks.ignore_value(len(self.classes))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `rows.LABELLED` for each row, in the same order."""
        images = batch.to_pylist()
        sound = [row for row in images if row["error_type"] is None]
        scores = iter(self.score([self.to_input(row) for row in sound]) if sound else [])
        labelled = [
            row if row["error_type"] is not None else row | self.label(row, next(scores))
            for row in images
        ]
        return pa.Table.from_pylist(labelled, schema=rows.LABELLED)

    def to_input(self, row: Row) -> Tensor:
        """Return the image of a row as the model sees it, image_3HW."""
        shape = (row["pixels_height"], row["pixels_width"], 3)
        pixels_HW3 = np.frombuffer(row["pixels"], dtype=np.uint8).reshape(shape).copy()
        return to_model_input(pixels_HW3, self.model.config.image_size, self.device)

    def score(self, images: list[Tensor]) -> list[sed.ClassScores | Exception]:
        """Score images together; where memory does not suffice, each alone."""
        try:
            return [*self.model.score(torch.stack(images), self.text_NPD, self.rejection)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                return [error]
        return [self.score([image])[0] for image in images]

    def label(self, row: Row, scores: sed.ClassScores | Exception) -> Row:
        """Return the result columns of an image, or its error."""
        if isinstance(scores, Exception):
            return failure("OutOfMemory", scores)
        try:
            return self.describe(row, scores)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return failure("OutOfMemory", error)

    def describe(self, row: Row, scores: sed.ClassScores) -> Row:
        """Make label map, confidence and segments of one image at its own size."""
        labels_HW, confidence_HW = self.label_map(scores, row["height"], row["width"])
        name = row["image_uri"].rpartition("/")[2].rpartition(".")[0] or "image"
        return {
            "mask": {"bytes": masks.index_png(labels_HW, len(self.classes)), "path": f"{name}.png"},
            "confidence": {
                "bytes": masks.confidence_png(coarse_confidence(scores)),
                "path": f"{name}_confidence.png",
            },
            "segments": masks.segments(labels_HW, confidence_HW, self.classes),
            "ignored_fraction": float((labels_HW == self.ignore).mean()),
            "mean_confidence": float(confidence_HW.mean(dtype=np.float64)),
            "candidates": scores.candidates_K.tolist(),
        }

    def label_map(
        self, scores: sed.ClassScores, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return labels_HW, uncertain pixels ignored, and confidence_HW."""
        if not len(scores.candidates_K):
            shape = (height, width)
            return np.full(shape, self.ignore, np.int32), np.zeros(shape, np.float32)
        labels, confidence = label_map(
            scores.logits_KHW, scores.candidates_K, height=height, width=width
        )
        labels_HW, confidence_HW = labels.cpu().numpy(), confidence.cpu().numpy()
        labels_HW[confidence_HW < self.min_confidence] = self.ignore
        return labels_HW, confidence_HW


def coarse_confidence(scores: sed.ClassScores) -> np.ndarray:
    """Return the probability of the best class at the decoder's resolution, confidence_HW."""
    if not len(scores.candidates_K):
        return np.zeros(scores.logits_KHW.shape[1:], np.float32)
    return scores.logits_KHW.amax(dim=0).float().sigmoid().cpu().numpy()


def use_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads, at most those of this machine; None changes nothing."""
    if threads is not None:
        torch.set_num_threads(min(threads, os.cpu_count() or threads))


def is_out_of_memory(error: Exception) -> bool:
    """Say whether torch or Python ran out of memory; torch has no type for it on a CPU."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)
