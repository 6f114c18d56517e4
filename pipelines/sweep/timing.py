"""How fast the best policies are when nothing else of the sweep runs beside them.

Trials share the machine, so what each measures of its own speed depends on its neighbours. Here
one process takes the policies in turn, several times, on the same images.
"""

from collections.abc import Sequence

import numpy as np
import ray

from pipelines.sweep.trial import Bench
from sed import Rejection

BATCHES = 2
"""Batches that every policy is timed on."""

ROUNDS = 3
"""Of each batch the fastest of so many runs counts: what else the machine did only adds time."""


def time_alone(bench: Bench, policies: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the seconds of each policy and the images a second that follow from them."""
    task = ray.remote(num_cpus=bench.pool.num_cpus, num_gpus=bench.pool.num_gpus)(time_policies)
    found = ray.get(task.remote(bench, list(policies)))
    return {
        text: {
            "alone_decoder_seconds": decoder,
            "alone_labels_seconds": labels,
            "alone_images_per_second": 1 / (bench.encoded.encoder_seconds + decoder + labels),
        }
        for text, (decoder, labels) in found.items()
    }


def time_policies(bench: Bench, policies: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the seconds of the decoder and of the label map, an image, of each policy."""
    images = range(min(BATCHES * bench.batch_size, bench.encoded.num_images))
    best: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        for text in policies:
            tally = bench.measure(Rejection.parse(text), images)
            seconds = np.stack([tally.decoder_I, tally.labels_I])
            best[text] = np.minimum(best.get(text, seconds), seconds)
    return {text: (float(s[0].mean()), float(s[1].mean())) for text, s in best.items()}
