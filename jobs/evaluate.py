"""Measure a model on labelled images: python -m jobs.evaluate --model nano --dataset scenes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

import sed
from jobs.session import SessionArgs, checking_input, connect, finish, parse, say
from pipelines import datasets as available
from pipelines import tracking
from pipelines.datasets import Labelled, load, split_spec
from pipelines.plan import check_gpus
from pipelines.results import Result, document, metrics, table
from pipelines.storage import locate
from sed.checkpoint import check_source, file_digest

Repeatable = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Compare the labels of a model with the masks of labelled images, every image once."""

    model: str = "nano"
    """nano (bundled), a checkpoint's path, or models:/NAME/VERSION."""

    dataset: Repeatable = ()
    """NAME or NAME=URI, one or several; this version has scenes, scenes-unseen, and labels=URI of
    what jobs.label wrote."""

    rejection: Repeatable = ()
    """Which classes to drop on the way; each of several is measured: none (default), topk:K,
    topk:K0,K1,K2, prob:T, fixed:K, FILE.json, or some joined by +."""

    output: str | None = None
    """Folder (local, s3:// or gs://) for evaluation.json with the scores of every class."""

    limit: int | None = None
    """At most this many images of each dataset; drawn ones have 512 by default."""

    seed: int = 0
    """Which series of scenes is drawn."""

    batch_size: int = 8
    """Images that go through the model together."""

    workers: int | None = None
    """Copies of the model; default: one for each GPU, else for every two CPUs."""

    gpus_per_worker: float | None = None
    """GPUs of each worker; default: 1 where the cluster has GPUs, else 0."""


@dataclass(frozen=True)
class Plan:
    """What the flags mean, checked."""

    datasets: list[tuple[str, str | None]]
    rejections: list[str]
    mlflow_uri: str
    checkpoint: str
    digest: str


def check(args: Args) -> Plan:
    """Check everything that can be known before anything starts.

    Raises:
        ValueError: A flag makes no sense; the message says which.
        OSError: There is no such model, or the output cannot be reached.
    """
    datasets = [split_spec(spec) for spec in dict.fromkeys(chain.from_iterable(args.dataset))]
    if not datasets:
        raise ValueError("no dataset given; try --dataset scenes")
    for name, uri in datasets:
        available.check(name, uri)
    for name, number in [("limit", args.limit), ("batch-size", args.batch_size)]:
        if number is not None and number < 1:
            raise ValueError(f"--{name} must be at least 1 image, got {number}")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    check_gpus(args.gpus_per_worker)
    if args.seed < 0:
        raise ValueError(f"--seed cannot be negative, got {args.seed}")
    if args.output is not None:
        locate(args.output)
    mlflow_uri = tracking.resolve_uri(args.mlflow_uri)
    rejections = [
        sed.Rejection.parse(tracking.resolve_rejection(text, mlflow_uri))
        for text in chain.from_iterable(args.rejection)
    ]
    checkpoint = tracking.resolve_model(args.model, mlflow_uri)
    digest = file_digest(check_source(checkpoint))
    texts = list(dict.fromkeys(map(str, rejections))) or ["none"]
    return Plan(datasets, texts, mlflow_uri, checkpoint, digest)


def main(args: Args) -> None:
    """Check, connect, evaluate, write, say."""
    with checking_input():
        plan = check(args)
    connect()
    results: list[Result] = []
    with tracking.run(plan.mlflow_uri, args.experiment, "evaluate", {"job": "evaluate"}) as run:
        run.params(parameters(args, plan))
        for name, uri in plan.datasets:
            data = load(name, uri, limit=args.limit, seed=args.seed)
            run.dataset(name, data.source, data.digest, "evaluation")
            results += measure(args, plan, data)
        run.metrics(metrics(results))
        found = {"model": args.model, "model_id": plan.digest, "run_id": run.id}
        write(found | {"datasets": document(results)}, args.output, run)
    for line in table(results):
        say(line)
    finish(found | {"datasets": [result.summary() for result in results]}, as_json=args.json)


def parameters(args: Args, plan: Plan) -> dict[str, object]:
    """Return what MLflow shall know of the flags."""
    flags = asdict(args)
    for name in ("mlflow_uri", "experiment", "json"):
        del flags[name]
    names = [name for name, _ in plan.datasets]
    return flags | {"dataset": names, "rejection": plan.rejections, "model_id": plan.digest}


def measure(args: Args, plan: Plan, data: Labelled) -> list[Result]:
    """Evaluate one dataset under every rejection."""
    from pipelines.cluster import choose_pool
    from pipelines.evaluate import evaluate
    from pipelines.weights import share_weights

    return evaluate(
        data,
        load_model=share_weights(plan.checkpoint),
        rejections=plan.rejections,
        pool=choose_pool(args.workers, args.gpus_per_worker),
        batch_size=args.batch_size,
    )


def write(found: Mapping[str, object], output: str | None, run: tracking.Run) -> None:
    """Write evaluation.json into the run's artifacts and into the output folder."""
    text = json.dumps(found, indent=1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evaluation.json"
        path.write_text(text, encoding="utf-8")
        run.artifact(path)
    if output is not None:
        location = locate(output).at("evaluation.json")
        location.write(text.encode())
        say(f"Scores of every class: {location.uri}")


if __name__ == "__main__":
    main(parse(Args))
