"""Labelling on a Ray cluster: CPU tasks decode, actors hold the model, CPU tasks write."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.features import ReadFeatures
from pipelines.labeller import Labeller, LoadModel, use_threads
from pipelines.shards import num_images
from sed import Rejection

logger = logging.getLogger(__name__)

TASK_CPUS = 0.5
"""A task that decodes or writes waits for storage about half of its time. (A number other than the
actors' own also keeps Ray Data from fusing decoding into the actors.)"""

CALLS = 3
"""Shards that an actor works on at a time: one has the model, of another it is described what was
found, a third comes in or goes out."""

CALLS_BESIDE_GPU = 6
"""At least so many for a model on a GPU, which uses none of the cores that describe."""

MOST_CALLS = 16
"""A shard of 64 photos is 100 to 200 MB."""

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Pool:
    """How many copies of the model there are, and what each takes."""

    size: int
    num_cpus: float
    num_gpus: float
    threads: int | None
    """CPU threads of each; None: as torch likes."""

    @property
    def device(self) -> str:
        """Where each copy computes."""
        return "cuda" if self.num_gpus else "cpu"


def choose_pool(
    workers: int | None, gpus_per_worker: float | None, *, num_tasks: int | None = None
) -> Pool:
    """Fit the pool to the cluster this process is connected to.

    Args:
        workers: Copies of the model; None: one a GPU, else one for two CPUs.
        gpus_per_worker: GPUs of each; None: 1 where there are any.
        num_tasks: There is no work for more copies than this.
    """
    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 1)), resources.get("GPU", 0)
    per_worker = gpus_per_worker if gpus_per_worker is not None else float(gpus > 0)
    warn_of_few_gpus(gpus, gpus_per_worker, workers)
    size = workers or max(1, int(gpus / per_worker) if per_worker else cpus // 2)
    size = min(size, num_tasks or size)
    if per_worker:
        return Pool(size, 0, per_worker, None)
    # Actors must never hold every CPU: nothing would be left to decode with.
    return Pool(size, 1 if cpus > size else 0, 0, max(1, cpus // size))


def choose_calls(pool: Pool) -> int:
    """Return how many shards each actor works on at a time.

    What a model on a GPU found is described by the cores of its node. Each of them has a shard of
    its own, besides the one that has the model and the one that comes in or goes out.
    """
    if not pool.num_gpus:
        return CALLS
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [
        int(node.get("CPU", 0) * pool.num_gpus / node["GPU"]) for node in nodes if node.get("GPU")
    ]
    return min(MOST_CALLS, max(CALLS_BESIDE_GPU, 2 + min(cores, default=0)))


def warn_of_few_gpus(gpus: float, gpus_per_worker: float | None, workers: int | None) -> None:
    """Say what becomes of a job that starts while its cluster has few GPUs, or none yet."""
    if gpus_per_worker is None:
        if not gpus and os.environ.get("RAY_ADDRESS"):
            logger.warning(
                "The cluster has no GPU now: computing on CPUs. Where GPU nodes start on demand, "
                "say how many each model gets (as --gpus-per-worker 1), and they are waited for"
            )
    elif gpus_per_worker > gpus:
        logger.warning(
            "Too few GPUs yet: waiting for a node that has %g%s",
            gpus_per_worker,
            "" if workers else "; for one model, as nobody says for how many (as --workers 4)",
        )


def label_shards(
    todo: pa.Table,
    pool: Pool,
    *,
    decode: Decode | ReadFeatures,
    make_labeller: dict[str, Any],
    commit: Commit,
    batch_size: int,
) -> Dataset:
    """Plan the labelling of shards; nothing runs until the result, `rows.COMMIT`, is consumed.

    Args:
        todo: `rows.SHARD`.
        pool: Copies of the model.
        decode: First step.
        make_labeller: Arguments of `Labeller`, apart from those that follow from `pool`.
        commit: Last step.
        batch_size: Images that go through the model together, all of one shard.
    """
    shards = ray.data.from_arrow(todo).repartition(target_num_rows_per_block=1, strict=True)
    # A block is a shard, or several, from here to the end: never a part of one.
    shards.context.target_max_block_size = None
    shards.context.enable_progress_bars = sys.stdout.isatty()
    shards.set_name("label")
    images = shards.map_batches(decode, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS)
    labels = images.map_batches(
        Labeller,
        fn_constructor_kwargs=make_labeller
        | {"device": pool.device, "threads": pool.threads, "batch_size": batch_size},
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=pool.size,
            max_concurrent_calls_per_actor=choose_calls(pool),
            enable_true_multi_threading=True,
        ),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    return labels.map_batches(commit, batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS)


def label_on_cluster(
    todo: pa.Table,
    pool: Pool,
    *,
    load_model: LoadModel,
    classes: Sequence[str],
    rejection: Rejection,
    min_confidence: float,
    batch_size: int,
    decode: Decode | ReadFeatures,
    commit: Commit,
    observe: Callable[["Progress"], None],
) -> "Progress":
    """Label shards and write them; return what was done in how many seconds.

    `observe` hears of the progress every few seconds.
    """
    text = embed_once(load_model, classes, pool)
    make_labeller = {
        "load_model": load_model,
        "load_text": partial(ray.get, text),
        "classes": list(classes),
        "rejection": rejection,
        "min_confidence": min_confidence,
        "keep_features": commit.keep_features,
    }
    commits = label_shards(
        todo,
        pool,
        decode=decode,
        make_labeller=make_labeller,
        commit=commit,
        batch_size=batch_size,
    )
    with heartbeat(num_images(todo), observe) as progress:
        for row in commits.iter_rows():
            progress.add(labelled=row["labelled"], errors=row["errors"])
    return progress


def embed_once(load_model: LoadModel, classes: Sequence[str], pool: Pool) -> "ray.ObjectRef":
    """Embed the class names in a task like one worker; return where the array is kept.

    It is complete before the first worker starts: on one GPU each would wait for the other.
    """
    task = ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus)(embed)
    text = task.remote(load_model, list(classes), pool)
    ray.get(text)
    return text


def embed(load_model: LoadModel, classes: list[str], pool: Pool) -> np.ndarray:
    """Return text_NPD of the class names."""
    use_threads(pool.threads)
    return load_model(pool.device).embed_classes(classes).float().cpu().numpy()


class Progress:
    """Counts what was written, and says so in the log."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.labelled = 0
        self.errors = 0
        self.start = time.monotonic()

    def add(self, *, labelled: int, errors: int) -> None:
        """Count a shard."""
        self.labelled += labelled
        self.errors += errors

    @property
    def seconds(self) -> float:
        """Since the first worker was asked for."""
        return max(time.monotonic() - self.start, 1e-9)

    @property
    def done(self) -> int:
        """Images that are written, as labels or as errors."""
        return self.labelled + self.errors

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.done / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """Until all is done at this rate; None before the first image."""
        return (self.total - self.done) / self.rate if self.done else None

    def metrics(self) -> dict[str, float]:
        """Return what a tracking server is told while the job runs."""
        known = {
            "progress/done": self.done,
            "progress/errors": self.errors,
            "progress/images_per_second": self.rate,
            "progress/seconds_left": self.seconds_left,
        }
        return {name: float(value) for name, value in known.items() if value is not None}

    def log(self) -> None:
        """Write one line."""
        left = self.seconds_left
        logger.info(
            "%d of %d images, %.2f images/s, %d errors%s",
            self.done,
            self.total,
            self.rate,
            self.errors,
            f", {timedelta(seconds=round(left))} left" if left else "",
        )


@contextmanager
def heartbeat(total: int, observe: Callable[[Progress], None]) -> Iterator[Progress]:
    """Log progress every few seconds inside the block, and at its end."""
    progress = Progress(total)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(SECONDS_BETWEEN_LINES):
            progress.log()
            observe(progress)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join()
        progress.log()
        observe(progress)
