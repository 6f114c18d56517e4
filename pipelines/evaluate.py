"""Predictions against masks, summed over the cluster.

CPU tasks read, actors hold the model, CPU tasks count: see `pipelines.evaluation.rows`.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import ray
from ray.data import ActorPoolStrategy, Dataset

from pipelines.cluster import TASK_CPUS, Pool, Progress, heartbeat
from pipelines.datasets import Labelled
from pipelines.evaluation.counting import BATCH, Count
from pipelines.evaluation.predicting import LoadModel, Model, Predictor
from pipelines.evaluation.reading import Read, decode_image, decode_mask
from pipelines.labeller import use_threads
from pipelines.results import Result

__all__ = ["LoadModel", "Model", "decode_image", "decode_mask", "evaluate"]


def evaluate(
    data: Labelled,
    *,
    load_model: LoadModel,
    rejections: Sequence[str],
    pool: Pool,
    batch_size: int,
    observe: Callable[[Progress], None] = lambda _: None,
) -> list[Result]:
    """Run a model over every image of a dataset once and compare with the masks.

    Args:
        data: Images and masks.
        load_model: Called in each worker.
        rejections: Each is evaluated; the encoder runs once for all of them.
        pool: Copies of the model.
        batch_size: Images that go through the model together.
        observe: Hears of the progress every few seconds.

    Returns:
        One result for each rejection, in their order. An image that cannot be read, or does not
        fit its mask, is in `Result.errors`.
    """
    batches = plan(data, load_model, list(rejections), pool, batch_size)
    results = {rejection: Result.empty(data, rejection) for rejection in rejections}
    first = results[next(iter(results))]
    with heartbeat(data.num_images, observe) as progress:
        for row in batches.iter_rows():
            results[row["rejection"]].add(row)
            progress.labelled, progress.errors = first.images, len(first.errors)
    for result in results.values():
        result.finish()
    return list(results.values())


def plan(
    data: Labelled, load_model: LoadModel, rejections: list[str], pool: Pool, batch_size: int
) -> Dataset:
    """Plan the evaluation; nothing but the embedding of the class names runs until it is consumed.

    Returns:
        Rows of `COUNTS`.
    """
    text, sides = open_model(load_model, data.asked, pool)
    num_classes = len(data.classes)
    short_side, long_side = sides
    data.rows.context.enable_progress_bars = sys.stdout.isatty()
    images = data.rows.map_batches(
        Read(short_side=short_side, long_side=long_side, num_classes=num_classes),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=TASK_CPUS,
    )
    labels = images.map_batches(
        cast("Any", Predictor),
        fn_constructor_kwargs={
            "load_model": load_model,
            "load_text": partial(ray.get, text),
            "num_classes": num_classes,
            "rejections": rejections,
            "device": pool.device,
            "threads": pool.threads,
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.size),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    return labels.map_batches(
        Count(rejections=rejections, num_classes=num_classes),
        batch_size=BATCH,
        batch_format="pyarrow",
        num_cpus=TASK_CPUS,
    )


def open_model(
    load_model: LoadModel, classes: list[str], pool: Pool
) -> tuple["ray.ObjectRef", tuple[int, int]]:
    """Embed the class names in a task like one worker; return where the array is kept.

    It is complete before the first worker starts: on one GPU each would wait for the other.

    Returns:
        A reference to text_NPD, and the bounds of a photo's shorter and longer side.
    """
    task = ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, num_returns=2)(embed)
    text, sides = cast("Any", task).remote(load_model, classes, pool)
    return text, ray.get(sides)


def embed(
    load_model: LoadModel, classes: list[str], pool: Pool
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return text_NPD of the class names, and the sides that a photo is resized to."""
    use_threads(pool.threads)
    model = load_model(pool.device)
    text_NPD = model.embed_classes(classes).float().cpu().numpy()
    return text_NPD, (model.config.short_side, model.config.long_side)
