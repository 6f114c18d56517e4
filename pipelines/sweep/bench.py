"""What all trials of a sweep share: the images, the names, the model, and how they are measured.

Shapes: B images, N scored classes, L levels, P prompts, D embedding, H W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from pipelines import tensors
from pipelines.clock import clock
from pipelines.cluster import Pool
from pipelines.evaluate import decode_mask
from pipelines.labeller import LoadModel, use_threads
from pipelines.storage import Location
from pipelines.sweep.peak import PeakMemory
from pipelines.sweep.question import Question
from pipelines.sweep.survivors import Recorder
from pipelines.sweep.tally import Tally, add
from pipelines.sweep.validation import Encoded, Row
from sed import ClassScores, Rejection
from sed.features import Essence
from sed.upsample import label_map


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all trials share; travels to them as it is."""

    encoded: Encoded
    text: "ray.ObjectRef"
    question: Question
    load_model: LoadModel
    pool: Pool
    batch_size: int

    encoder_seconds: float | None = None
    """Of the encoder, an image, as `timing.time_encoder` measured it."""

    none: "ray.ObjectRef | None" = None
    """`Tally` of keeping every class: what trials are compared with."""

    place: Location | None = None
    """Folder of what the trials reported."""

    def measure(self, rejection: Rejection, images: range, *, watch_memory: bool = True) -> Tally:
        """Decode some of the images and compare them with their masks.

        Args:
            rejection: Policy.
            images: Which of the validation set.
            watch_memory: Measure that too. Memory that is free is given back before each batch,
                which takes time when it is used again.
        """
        use_threads(self.pool.threads)
        held = hold(self.load_model, self.pool.device)
        text_NPD = torch.tensor(ray.get(self.text), device=self.pool.device)
        parts: list[Tally] = []
        for rows in self.encoded.batches(images, self.batch_size):
            if not held.is_warm:
                self.decode(held.model, text_NPD, rejection, rows)
                held.is_warm = True
            parts.append(self.measure_batch(held.model, text_NPD, rejection, rows, watch_memory))
        return add(parts)

    def measure_batch(
        self,
        model: Any,  # noqa: ANN401  a `sed.SED`, or what can decode like one
        text_NPD: Tensor,
        rejection: Rejection,
        rows: Sequence[Row],
        watch_memory: bool = True,
    ) -> Tally:
        """Decode one batch."""
        done = self.decode(model, text_NPD, rejection, rows, watch_memory)
        counted = [
            count_image(row, one, levels, self.question, self.pool.device)
            for row, one, levels in zip(rows, done.scores, done.survivors, strict=True)
        ]
        hits, truth, predicted, kept, found, labels = (
            np.array(column) for column in zip(*counted, strict=True)
        )
        share, memory = (np.full(len(rows), x) for x in (done.seconds / len(rows), done.memory))
        return Tally(hits, truth, predicted, kept, found, share, labels, memory)

    def decode(
        self,
        model: Any,  # noqa: ANN401
        text_NPD: Tensor,
        rejection: Rejection,
        rows: Sequence[Row],
        watch_memory: bool = False,
    ) -> "Decoded":
        """Run the decoder on one batch."""
        device = self.pool.device
        essence = Essence.stack([tensors.unpack(row["features"], device) for row in rows])
        recorder = Recorder(rejection)
        peak = PeakMemory(device) if watch_memory else None
        seconds, scores = clock(
            lambda: model.decode(essence, text_NPD, Rejection((recorder,))), device
        )
        memory = math.nan if peak is None else peak.growth()
        return Decoded(scores, recorder.survivors(len(rows), len(text_NPD)), seconds, memory)


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of one batch."""

    scores: list[ClassScores]
    survivors: list[list[np.ndarray]]
    """For each image and level the classes that it worked on."""

    seconds: float
    memory: float
    """Bytes that it took at most; NaN where it was not measured."""


@dataclass
class Held:
    """The model of a process."""

    model: Any
    is_warm: bool = False
    """It has run once: what libraries keep from then on is no part of a policy's memory."""


@lru_cache(maxsize=1)
def hold(load_model: LoadModel, device: str) -> Held:
    """Return the model of this process, which serves one trial after the other."""
    return Held(load_model(device))


def count_image(
    row: Row, scores: ClassScores, levels: Sequence[np.ndarray], question: Question, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int], list[int], float]:
    """Return the counts of one image, in the order of `Tally`, and the label map's seconds."""
    truth_HW = question.truth(decode_mask(row["mask"]["bytes"]))
    height, width = truth_HW.shape
    seconds, (labels_HW, _) = clock(
        lambda: label_map(scores.logits_KHW, scores.candidates_K, height=height, width=width),
        device,
    )
    count = len(question.classes)
    predicted_HW = question.class_V[labels_HW.cpu().numpy()]
    counted = truth_HW < count
    truth, predicted = truth_HW[counted], predicted_HW[counted]
    truth_N = np.bincount(truth, minlength=count)
    present = np.flatnonzero(truth_N)
    found = [np.isin(present, question.class_V[names]).sum() for names in levels]
    return (
        np.bincount(truth[truth == predicted], minlength=count),
        truth_N,
        np.bincount(predicted, minlength=count + 1)[:count],
        [len(names) for names in levels],
        found,
        seconds,
    )
