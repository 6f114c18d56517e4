"""One trial: decode growing parts of the validation set under one policy, report after each."""

import hashlib
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray import tune

from pipelines.storage import Location
from pipelines.sweep.bench import Bench
from pipelines.sweep.tally import Tally, add, drop
from sed import Rejection

FIRST_RUNG = 32
"""Images after which a trial reports for the first time, or a few more: whole batches."""

Report = dict[str, Any]


def run_trial(config: dict[str, Any], bench: Bench) -> None:
    """Measure one policy on more and more images; the scheduler may stop it after any report.

    Of what an earlier start measured to the end only the last report is repeated: on fewer images
    the scheduler would judge it again, by trials that came later.
    """
    assert bench.none is not None, "the sweep sets it"
    assert bench.place is not None, "the sweep sets it"
    text = config["rejection"]
    file = bench.place.at(file_name(text))
    if len(known := read_reports(file)) and known[-1]["images"] == bench.encoded.num_images:
        tune.report(known[-1])
        return
    none: Tally = ray.get(bench.none)
    parts: list[Tally] = []
    reports: list[Report] = []
    for images in rungs(bench.encoded.num_images, bench.batch_size):
        parts.append(bench.measure(Rejection.parse(text), images))
        report = describe(bench, none, add(parts)) | {
            "rejection": text,
            "reference": config.get("reference", False),
        }
        reports.append(report)
        file.write(json.dumps(reports, indent=1).encode())
        tune.report(report)


def describe(bench: Bench, none: Tally, tally: Tally) -> Report:
    """Return what is known of a policy after the first images.

    Seconds are those of this process beside its neighbours, the encoder's apart.
    """
    assert bench.encoder_seconds is not None, "the sweep sets it"
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
        "images_per_second": 1 / (bench.encoder_seconds + decoder + labels),
        "peak_memory_gb": tally.peak_memory_gb(),
    }


def rungs(num_images: int, batch_size: int) -> list[range]:
    """Return the images that each step of a trial adds: twice as many in all each time."""
    ends = [batch_size * math.ceil(FIRST_RUNG / batch_size)]
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
