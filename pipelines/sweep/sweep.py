"""A whole sweep: encode once, measure keeping every class, try policies on Ray Tune, time the best.

The same call continues after a kill: finished trials are not repeated.
"""

import importlib.metadata
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import ray
from ray import tune

from pipelines.cluster import choose_pool, embed_once
from pipelines.labeller import LoadModel
from pipelines.storage import Location
from pipelines.sweep.bench import Bench
from pipelines.sweep.plan import STATE_FILE, Plan
from pipelines.sweep.search import PolicySearch, references
from pipelines.sweep.stopping import ParetoHalving
from pipelines.sweep.tally import Tally, add
from pipelines.sweep.timing import time_alone, time_encoder
from pipelines.sweep.trial import Report, describe, run_trial
from pipelines.sweep.validation import UnusableSetError, encode
from pipelines.sweep.words import interval, lost
from pipelines.tracking.code import code_digest
from sed import Rejection

logger = logging.getLogger(__name__)

TRIALS = "trials"
"""Folder of what each trial reported."""

TUNE = "tune"
"""Folder in which Tune keeps its own state."""

PACKAGES = ("torch", "ray", "optuna")
"""What figures depend on beside the project's own code."""

NONE_FILE = "none.npz"
"""What keeping every class got right, image by image."""

SECONDS_BETWEEN_SNAPSHOTS = "3"


def sweep(plan: Plan, load_model: LoadModel, state: dict[str, Any]) -> dict[str, Any]:
    """Search; return what was found.

    Args:
        plan: What to search.
        load_model: Called in each worker.
        state: Is written down before the first trial, with `plan.identity`.

    Raises:
        UnusableSetError: The validation set has no mask, or none with a class of the vocabulary.
    """
    start = time.monotonic()
    state_file = plan.output.at(STATE_FILE)
    state_file.write(json.dumps({"identity": plan.identity, **state}, indent=1).encode())
    try:
        bench, none = prepare(plan, load_model)
    except UnusableSetError:
        if not plan.output.at(NONE_FILE).exists():
            state_file.remove()  # nothing was measured: the output is free for a better set
        raise
    bench = replace(bench, none=ray.put(none))
    trials, failed = run_trials(plan, bench)
    trials.insert(
        0,
        describe(bench, none, none) | {"rejection": "none", "reference": False},
    )
    finished = [one for one in trials if one["images"] == len(none)]
    logger.info("Timing %d policies one after the other", len(finished))
    alone = time_alone(bench, [one["rejection"] for one in finished])
    for one in finished:
        one |= alone[one["rejection"]]
    return {
        "images": len(none),
        "broken_images": list(bench.encoded.broken),
        "num_names": len(plan.question.names),
        "encoder_seconds": bench.encoder_seconds,
        "trials": trials,
        "failed_trials": failed,
        "concurrency": bench.pool.size,
        "threads": bench.pool.threads,
        "device": bench.pool.device,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "code": code_digest(),
        "seconds": round(time.monotonic() - start, 1),
    }


def prepare(plan: Plan, load_model: LoadModel) -> tuple[Bench, Tally]:
    """Encode the images; return what trials share, and the tally of keeping every class.

    Raises:
        UnusableSetError: The validation set has no mask, or none with a class of the vocabulary.
    """
    pool = plan.config.pool()
    # Trials may hold every CPU, encoders not: drawing and reading go on beside them.
    num_batches = math.ceil(plan.data.num_images / plan.config.batch_size)
    encoders = choose_pool(None, plan.config.gpus_per_trial, num_tasks=num_batches)
    encoded = encode(plan.data, load_model, encoders, plan.config.batch_size)
    for message in encoded.broken:
        logger.warning("left out: %s", message)
    bench = Bench(
        encoded=encoded,
        text=embed_once(load_model, plan.question.names, pool),
        question=plan.question,
        load_model=load_model,
        pool=pool,
        batch_size=plan.config.batch_size,
        place=plan.output.at(TRIALS),
    )
    logger.info("%d images are encoded; now without rejection", encoded.num_images)
    bench = replace(bench, encoder_seconds=time_encoder(bench))
    return bench, measure_none(bench, plan.output.at(NONE_FILE))


def measure_none(bench: Bench, file: Location) -> Tally:
    """Measure keeping every class on all images, or read what an earlier start measured.

    Raises:
        UnusableSetError: No pixel of the masks is of a class that a name stands for; or an earlier
            start measured other images.
    """
    if file.exists():
        known = Tally.from_bytes(file.read())
        if len(known) != bench.encoded.num_images:
            raise UnusableSetError(
                f"{bench.encoded.num_images} images of the validation set can be used, "
                f"{len(known)} when the sweep began: use another --output"
            )
        return known
    task = ray.remote(num_cpus=bench.pool.num_cpus, num_gpus=bench.pool.num_gpus)(Bench.measure)
    step = bench.batch_size * max(1, bench.encoded.num_images // (8 * bench.batch_size))
    starts = range(0, bench.encoded.num_images, step)
    parts = [
        task.remote(bench, Rejection(), range(s, min(s + step, bench.encoded.num_images)))
        for s in starts
    ]
    none = add(ray.get(parts))
    if not none.truth_IN.any():
        raise UnusableSetError("no pixel of the masks has a class of the vocabulary")
    file.write(none.to_bytes())
    return none


def run_trials(plan: Plan, bench: Bench) -> tuple[list[Report], int]:
    """Run the trials on Tune, or continue them; a failed one is tried again by the next start.

    Returns:
        The last report of each trial that did not fail, and how many failed.
    """
    # Only the driver reads these: a snapshot of Tune's own state is never older than this.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = SECONDS_BETWEEN_SNAPSHOTS
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # By its own handler Ctrl-C would end the trials as if all of them had been run.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    resources: dict[str, float] = {"CPU": bench.pool.num_cpus, "GPU": bench.pool.num_gpus}
    trainable: Any = tune.with_resources(
        tune.with_parameters(run_trial, bench=bench), cast("Any", resources)
    )
    place = plan.output.at(TUNE)
    if is_restorable(place):
        logger.info("Continuing the trials of an earlier start")
        # Its trials take the resources of this trainable: this cluster may be a smaller one.
        tuner = tune.Tuner.restore(
            place.path, trainable=trainable, storage_filesystem=place.fs, restart_errored=True
        )
    else:
        tuner = new_tuner(plan, bench, trainable)
    results = tuner.fit()
    for error in results.errors:
        logger.warning("a trial failed: %s", str(error).strip().rpartition("\n")[2])
    found = [dict(result.metrics) for result in results if result.metrics and not result.error]
    if not found:
        raise RuntimeError(f"every trial failed; the first: {results.errors[0]}")
    return [{key: one[key] for key in one if key in KEPT} for one in found], len(results.errors)


def is_restorable(place: Location) -> bool:
    """Say whether Tune's state is there and whole; a kill can come before or amid its writing."""
    if not tune.Tuner.can_restore(place.path, storage_filesystem=place.fs):
        return False
    states = [info for info in place.files() if info.base_name.startswith("experiment_state-")]
    try:
        return bool(states and json.loads(place.at(states[-1].base_name).read()))
    except ValueError:
        return False


KEPT = (
    "rejection", "reference", "images", "miou", "miou_none", "drop_points", "drop_low", "drop_high",
    "cost", "kept", "recall", "decoder_seconds", "labels_seconds", "images_per_second",
    "peak_memory_gb",
)  # fmt: skip
"""What stays of a report: the rest is Tune's."""


def new_tuner(plan: Plan, bench: Bench, trainable: Any) -> tune.Tuner:  # noqa: ANN401
    """Return a Tune experiment that has not begun."""
    config = plan.config
    place = plan.output.at(TUNE)
    search = PolicySearch(
        plan.listed,
        references=min(len(references(len(plan.question.names))), config.trials),
        num_names=len(plan.question.names),
        space=plan.space if config.search == "optuna" else None,
        seed=config.seed,
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=ParetoHalving(bench.encoded.num_images, plan.output.at(TRIALS)),
            num_samples=config.trials if config.search == "optuna" else len(plan.listed),
            max_concurrent_trials=bench.pool.size,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=plan.output.path,
            storage_filesystem=place.fs,
            callbacks=[LogReports()],
            verbose=0,
        ),
    )


class LogReports(tune.Callback):
    """Says in the log what each trial reports."""

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401
        result: Mapping[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Write one line."""
        logger.info(
            "%s: %d images, %s (%s), cost %.3f",
            result["rejection"],
            result["images"],
            lost(result["drop_points"]),
            interval(result["drop_low"], result["drop_high"]),
            result["cost"],
        )
