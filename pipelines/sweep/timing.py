"""How fast the model is when nothing else of the sweep runs beside it.

Trials share the machine, so what each measures of its own speed depends on its neighbours. Here
one process, with the resources and the threads of a trial, runs the encoder, and takes the best
policies in turn, several times, on the same images.
"""

from collections.abc import Sequence

import numpy as np
import ray
import torch

from pipelines.clock import clock
from pipelines.labeller import use_threads
from pipelines.sweep.bench import Bench, hold
from sed import Rejection

BATCHES = 2
"""Batches that every policy is timed on."""

ROUNDS = 3
"""Of each batch the fastest of so many runs counts: what else the machine did only adds time."""


def time_encoder(bench: Bench) -> float:
    """Return the seconds of the encoder, an image, in a process like that of a trial."""
    task = ray.remote(num_cpus=bench.pool.num_cpus, num_gpus=bench.pool.num_gpus)(encoder_seconds)
    return ray.get(task.remote(bench))


def encoder_seconds(bench: Bench) -> float:
    """Return the seconds of the encoder, an image, on noise: what an image shows is no matter."""
    use_threads(bench.pool.threads)
    model = hold(bench.load_model, bench.pool.device).model
    size, side = min(bench.batch_size, bench.encoded.num_images), model.config.image_size
    images_B3HW = torch.rand(size, 3, side, side)
    runs = [
        clock(lambda: model.condense(model.encode(images_B3HW)), bench.pool.device)[0]
        for _ in range(1 + ROUNDS)
    ]
    return min(runs[1:]) / size  # the first is slower


def time_alone(bench: Bench, policies: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the seconds of each policy and the images a second that follow from them.

    Images a second are of encoder, decoder and label map one after the other, all with the
    threads of a trial.
    """
    assert bench.encoder_seconds is not None, "the sweep sets it"
    task = ray.remote(num_cpus=bench.pool.num_cpus, num_gpus=bench.pool.num_gpus)(time_policies)
    found = ray.get(task.remote(bench, list(policies)))
    return {
        text: {
            "alone_decoder_seconds": decoder,
            "alone_labels_seconds": labels,
            "alone_images_per_second": 1 / (bench.encoder_seconds + decoder + labels),
        }
        for text, (decoder, labels) in found.items()
    }


def time_policies(bench: Bench, policies: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the seconds of the decoder and of the label map, an image, of each policy."""
    images = range(min(BATCHES * bench.batch_size, bench.encoded.num_images))
    best: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        for text in policies:
            tally = bench.measure(Rejection.parse(text), images, watch_memory=False)
            seconds = np.stack([tally.decoder_I, tally.labels_I])
            best[text] = np.minimum(best.get(text, seconds), seconds)
    return {text: (float(s[0].mean()), float(s[1].mean())) for text, s in best.items()}
