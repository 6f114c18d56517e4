"""Label every image of a corpus: what `python -m jobs.label` does once its input is checked."""

import dataclasses
import importlib.metadata
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from pipelines import outputs, report, shards, tracking
from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.features import ReadFeatures, size_in_words
from pipelines.labeller import LoadModel
from pipelines.plan import Plan
from pipelines.same_folder import marked
from pipelines.storage import open_buckets
from pipelines.tracking.store import redacted

logger = logging.getLogger(__name__)

PACKAGES = ("sed-on-ray", "torch", "open_clip_torch", "ray", "mlflow", "pyarrow", "pillow")

Run = dict[str, Any]


def label(
    plan: Plan,
    *,
    connect: Callable[[], None],
    tracking_uri: str,
    experiment: str,
    load_model: LoadModel | None = None,
) -> Run:
    """Do what is left of a plan; return what run.json says at the end.

    Args:
        plan: From `make_plan`.
        connect: Joins or starts a Ray cluster; called only if there is an image to label.
        tracking_uri: MLflow server or store.
        experiment: MLflow experiment.
        load_model: Gives a worker its model; default: `sed.load_model` of the plan's source.
    """
    if plan.is_done:
        assert plan.earlier is not None, "a plan that is done continues something"
        logger.info("Nothing is left to do in %s", plan.output.uri)
        return plan.earlier
    tags = {"fingerprint": plan.identity.fingerprint, "output": plan.output.uri}
    earlier_id = plan.earlier["mlflow"]["run_id"] if plan.earlier else None
    with tracking.run(tracking_uri, experiment, "label", tags, run_id=earlier_id) as tracked:
        run = start(plan, tracked, experiment, tracking_uri)
        record_input(tracked, plan, run)
        if len(plan.todo):
            run = spread(plan, run, connect, load_model, tracked)
        run = finish(plan, run)
        record_result(tracked, plan, run)
    outputs.write_run(plan.output, run)
    return run


def start(plan: Plan, tracked: tracking.Run, experiment: str, tracking_uri: str) -> Run:
    """Claim the output: run.json says whose it is, the manifest which images are in which shard."""
    if plan.config.overwrite:
        outputs.start_anew(plan.output)
    run = plan.earlier or first_run(plan, tracked)
    run = run | {
        "status": outputs.RUNNING,
        "configuration": configuration(plan),
        "mlflow": {
            "uri": redacted(tracking_uri),
            "experiment": experiment,
            "run_id": tracked.id,
        },
        "versions": versions(),
    }
    outputs.write_run(plan.output, run)
    shards.write_manifest(plan.output, plan.manifest)
    return run


def first_run(plan: Plan, tracked: tracking.Run) -> Run:
    """Return what run.json says of a new output."""
    return {
        "run_id": tracked.id or uuid4().hex,
        "output": plan.output.uri,
        "fingerprint": plan.identity.fingerprint,
        "identity": dataclasses.asdict(plan.identity),
        "classes": list(plan.config.classes),
        "started": now(),
        "seconds": 0.0,
        "images_per_second": 0.0,
    }


def spread(
    plan: Plan,
    run: Run,
    connect: Callable[[], None],
    load_model: LoadModel | None,
    tracked: tracking.Run,
) -> Run:
    """Label what is left on the cluster; return what run.json says with the throughput in it."""
    connect()
    from pipelines import cluster  # imports Ray
    from pipelines.weights import share_weights

    config = plan.config
    pool = cluster.choose_pool(config.workers, config.gpus_per_worker, num_tasks=len(plan.todo))
    logger.info(
        "Labelling %d images in %d shards with %d workers on %s",
        plan.num_images,
        len(plan.todo),
        pool.size,
        pool.device,
    )
    if config.keep_features:
        logger.info("Features: %s", size_in_words(plan.sizes, plan.num_images))
    stamp = {
        "vocabulary_id": plan.identity.vocabulary_id,
        "model_id": plan.identity.model_id,
        "rejection": plan.identity.rejection,
        "run_id": run["run_id"],
    }
    done_before = len(plan.manifest) - plan.num_images
    with marked(plan.output) as marker:
        progress = cluster.label_on_cluster(
            plan.todo,
            pool,
            load_model=load_model or share_weights(plan.model),
            classes=config.classes,
            rejection=plan.rejection,
            min_confidence=config.min_confidence,
            batch_size=config.batch_size,
            decode=first_step(plan),
            commit=Commit(plan.output, config.classes, stamp, config.keep_features, marker),
            observe=lambda progress: tracked.metrics(
                progress.metrics(), step=done_before + progress.done
            ),
        )
    seconds = progress.seconds
    return run | {
        "seconds": round(run["seconds"] + seconds, 3),
        "images_per_second": round((progress.labelled + progress.errors) / seconds, 3),
    }


def first_step(plan: Plan) -> Decode | ReadFeatures:
    """Return what reads the inputs of a shard."""
    if plan.config.features is not None:
        return ReadFeatures(plan.source)
    return Decode(
        plan.sizes.short_side,
        plan.sizes.long_side,
        plan.config.decode_seconds,
        open_buckets(plan.manifest["image_uri"]),
        plan.around,
    )


def finish(plan: Plan, run: Run) -> Run:
    """Count what is there, write the report, and return what run.json says from now on."""
    counts = {
        "inputs": len(plan.manifest),
        "labelled": shards.count_rows(plan.output, shards.LABELS),
        "errors": shards.count_rows(plan.output, shards.ERRORS),
        "skipped": plan.skipped,
    }
    assert counts["labelled"] + counts["errors"] == counts["inputs"], f"every input once: {counts}"
    classes = list(plan.config.classes)
    labels = report.summarise(plan.output, len(classes))
    run = run | {
        "status": outputs.DONE,
        "counts": counts,
        "collapsed_classes": [classes[index] for index in labels.collapsed],
        "manifest_sha256": plan.manifest_digest,
        "finished": now(),
    }
    if plan.config.keep_features:
        run["features_bytes"] = shards.size(plan.output, shards.FEATURES)
    report.write_report(plan.output, labels, classes=classes, run=run)
    return run


def record_input(tracked: tracking.Run, plan: Plan, run: Run) -> None:
    """Tell MLflow what goes in."""
    flat = {name: value for name, value in run["configuration"].items() if value is not None}
    facts = {"num_classes": len(run["classes"]), "num_images": len(plan.manifest)}
    tracked.params(flat | dataclasses.asdict(plan.identity) | facts)
    tracked.dataset("images", plan.identity.images, plan.manifest_digest, "labelling")


def record_result(tracked: tracking.Run, plan: Plan, run: Run) -> None:
    """Tell MLflow what came out."""
    counts = run["counts"] | {"collapsed_classes": len(run["collapsed_classes"])}
    speed = {"seconds": run["seconds"], "images_per_second": run["images_per_second"]}
    tracked.metrics({name: float(count) for name, count in counts.items()} | speed)
    with TemporaryDirectory() as folder:
        page = Path(folder) / "index.html"
        page.write_bytes(plan.output.at(outputs.REPORT, page.name).read())
        tracked.artifact(page, outputs.REPORT)


def configuration(plan: Plan) -> Run:
    """Return the flags of this start; the class names are kept apart."""
    config = dataclasses.asdict(plan.config)
    return {name: value for name, value in config.items() if name != "classes"}


def versions() -> dict[str, str]:
    """Return the versions of the packages that make the result."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
