"""One trial: decode growing parts of the validation set under one policy, report after each.

Shapes: B images, N scored classes, L levels, P prompts, D embedding, H W pixels.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from torch import Tensor

from pipelines import tensors
from pipelines.benchmark import clock
from pipelines.cluster import Pool
from pipelines.evaluate import decode_mask
from pipelines.labeller import LoadModel, use_threads
from pipelines.storage import Location
from pipelines.sweep.peak import PeakMemory
from pipelines.sweep.question import Question
from pipelines.sweep.survivors import Recorder
from pipelines.sweep.tally import Tally, add, drop
from pipelines.sweep.validation import Encoded, Row
from sed import ClassScores, Rejection
from sed.encoder import Essence
from sed.upsample import label_map

FIRST_RUNG = 32
"""Images after which a trial reports for the first time."""

Report = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all trials share; travels to them as it is."""

    encoded: Encoded
    text: "ray.ObjectRef"
    question: Question
    load_model: LoadModel
    pool: Pool
    batch_size: int

    none: "ray.ObjectRef | None" = None
    """`Tally` of keeping every class: what trials are compared with."""

    place: Location | None = None
    """Folder of what the trials reported."""

    def measure(self, rejection: Rejection, images: range) -> Tally:
        """Decode some of the images and compare them with their masks."""
        use_threads(self.pool.threads)
        model = hold(self.load_model, self.pool.device)
        text_NPD = torch.tensor(ray.get(self.text), device=self.pool.device)
        batches = self.encoded.batches(images, self.batch_size)
        return add([self.measure_batch(model, text_NPD, rejection, rows) for rows in batches])

    def measure_batch(
        self,
        model: Any,  # noqa: ANN401  a `sed.SED`, or what can decode like one
        text_NPD: Tensor,
        rejection: Rejection,
        rows: Sequence[Row],
    ) -> Tally:
        """Decode one batch."""
        device = self.pool.device
        images = [tensors.unpack(row["features"], device) for row in rows]
        recorder = Recorder(rejection)
        decoder, scores = clock(
            lambda: model.decode(Essence.stack(images), text_NPD, Rejection((recorder,))), device
        )
        survivors = recorder.survivors(len(rows), len(text_NPD))
        counted = [
            count_image(row, one, levels, self.question, device)
            for row, one, levels in zip(rows, scores, survivors, strict=True)
        ]
        hits, truth, predicted, kept, found, labels = (
            np.array(column) for column in zip(*counted, strict=True)
        )
        share = np.full(len(rows), decoder / len(rows))
        return Tally(hits, truth, predicted, kept, found, share, labels)


@lru_cache(maxsize=1)
def hold(load_model: LoadModel, device: str) -> Any:  # noqa: ANN401
    """Return the model of this process, which serves one trial after the other."""
    return load_model(device)


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


def run_trial(config: dict[str, Any], bench: Bench) -> None:
    """Measure one policy on more and more images; the scheduler may stop it after any report.

    What an earlier start measured to the end is only reported again.
    """
    assert bench.none is not None, "the sweep sets it"
    assert bench.place is not None, "the sweep sets it"
    text = config["rejection"]
    file = bench.place.at(file_name(text))
    if len(known := read_reports(file)) and known[-1]["images"] == bench.encoded.num_images:
        for report in known:
            tune.report(report)
        return
    none: Tally = ray.get(bench.none)
    parts: list[Tally] = []
    reports: list[Report] = []
    peak = PeakMemory(bench.pool.device)
    for images in rungs(bench.encoded.num_images):
        parts.append(bench.measure(Rejection.parse(text), images))
        report = describe(bench, none, add(parts)) | {
            "rejection": text,
            "reference": config.get("reference", False),
            "peak_memory_gb": peak.gb(),
        }
        reports.append(report)
        file.write(json.dumps(reports, indent=1).encode())
        tune.report(report)


def describe(bench: Bench, none: Tally, tally: Tally) -> Report:
    """Return what is known of a policy after the first images."""
    first = none[: len(tally)]
    decoder, labels = float(np.median(tally.decoder_I)), float(np.median(tally.labels_I))
    return {
        "images": len(tally),
        "miou": tally.mean_iou(),
        "miou_none": first.mean_iou(),
        **{f"drop_{name}": value for name, value in asdict(drop(first, tally)).items()},
        "cost": tally.cost(len(bench.question.names)),
        "kept": tally.kept(),
        "recall": tally.recall(),
        "decoder_seconds": decoder,
        "labels_seconds": labels,
        "images_per_second": 1 / (bench.encoded.encoder_seconds + decoder + labels),
    }


def rungs(num_images: int) -> list[range]:
    """Return the images that each step of a trial adds: twice as many in all each time."""
    ends = [FIRST_RUNG]
    while ends[-1] < num_images:
        ends.append(2 * ends[-1])
    ends[-1] = num_images
    return [range(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def file_name(rejection: str) -> str:
    """Return the name of the file of a trial."""
    return hashlib.sha256(rejection.encode()).hexdigest()[:16] + ".json"


def read_reports(file: Location) -> list[Report]:
    """Return what a trial reported; nothing if it never ran."""
    return json.loads(file.read()) if file.exists() else []
