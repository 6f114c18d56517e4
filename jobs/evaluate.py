"""Measure a model on labelled images: python -m jobs.evaluate --model nano --dataset scenes.

Exit status 1 with everything written: more images than --allow-errors could not be evaluated.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import sed
from jobs.session import SessionArgs, checking_input, connect, finish, parse, say, say_run
from pipelines import datasets as available
from pipelines import tracking
from pipelines.datasets import Labelled, load, split_spec
from pipelines.evaluation import published
from pipelines.evaluation.published import Measured, paper_table
from pipelines.plan import check_gpus
from pipelines.storage import Location, locate

if TYPE_CHECKING:
    from pipelines.results import Result  # takes seconds: after what the flags say is checked

logger = logging.getLogger(__name__)

Repeatable = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Compare the labels of a model with the masks of labelled images, every image once."""

    model: str = "nano"
    """nano (bundled), a checkpoint's path, or models:/NAME/VERSION."""

    dataset: Repeatable = ()
    """NAME or NAME=URI, one or several: scenes, scenes-unseen, labels=URI of what jobs.label wrote,
    or a benchmark's name (or folder, for your own) with the URI of what jobs.prepare wrote or its
    authors shipped."""

    rejection: Repeatable = ()
    """Which classes to drop on the way; each of several is measured: none (default), topk:K,
    topk:K0,K1,K2, prob:T, fixed:K, FILE.json, runs:/RUN/rejection.json, or some joined by +."""

    output: str | None = None
    """Folder (local, s3:// or gs://) for evaluation.json with the scores of every class, and for
    report/index.html."""

    limit: int | None = None
    """At most this many images of each dataset; drawn ones have 512 by default."""

    allow_errors: int = 0
    """Images that may be broken, or not fit their masks; more, and the exit status is 1 at the end.
    They are listed either way, and count in no score."""

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
    given: dict[str, str]
    """What was given, and where a copy of it lies if it is a file elsewhere."""

    mlflow_uri: str
    checkpoint: str
    digest: str
    identity: dict[str, Any]
    """What decides the scores: an output belongs to it."""

    output: Location | None


def check(args: Args) -> Plan:
    """Check everything that can be known before anything starts.

    Raises:
        ValueError: A flag makes no sense; the message says which.
        OSError: There is no such model, or the output cannot be reached.
    """
    datasets = [split_spec(spec) for spec in dict.fromkeys(chain.from_iterable(args.dataset))]
    if not datasets:
        raise ValueError("no dataset given; try --dataset scenes")
    names = [name for name, _ in datasets]
    for name, uri in datasets:
        if names.count(name) > 1:
            raise ValueError(f"the dataset {name!r} is given twice: evaluate one after the other")
        available.check(name, uri)
    check_numbers(args)
    mlflow_uri = tracking.resolve_uri(args.mlflow_uri)
    given = {
        text: tracking.resolve_rejection(text, mlflow_uri)
        for text in chain.from_iterable(args.rejection)
    }
    rejections = map(sed.Rejection.parse, given.values())
    texts = list(dict.fromkeys(map(str, rejections))) or ["none"]
    checkpoint = tracking.resolve_model(args.model, mlflow_uri)
    from pipelines.evaluation.output import check_output
    from sed.checkpoint import check_source, file_digest

    digest = file_digest(check_source(checkpoint))
    identity = {
        "model_id": digest,
        "dataset": [name if uri is None else f"{name}={uri}" for name, uri in datasets],
        "rejection": texts,
        "limit": args.limit,
        "seed": args.seed,
    }
    place = None if args.output is None else locate(args.output)
    if place is not None:
        check_output(place, identity)
    return Plan(datasets, texts, given, mlflow_uri, checkpoint, digest, identity, place)


def check_numbers(args: Args) -> None:
    """Require numbers that make sense.

    Raises:
        ValueError: One does not; the message says which.
    """
    for name, number in [("limit", args.limit), ("batch-size", args.batch_size)]:
        if number is not None and number < 1:
            raise ValueError(f"--{name} must be at least 1 image, got {number}")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    check_gpus(args.gpus_per_worker)
    for name, number in [("seed", args.seed), ("allow-errors", args.allow_errors)]:
        if number < 0:
            raise ValueError(f"--{name} cannot be negative, got {number}")


def main(args: Args) -> None:
    """Check, connect, evaluate, write, say."""
    with checking_input():
        plan = check(args)
    from pipelines.evaluation import output, text
    from pipelines.evaluation.page import render
    from pipelines.report import PAGE
    from pipelines.results import broken

    connect()
    results: list[Result] = []
    with tracking.run(plan.mlflow_uri, args.experiment, "evaluate", {"job": "evaluate"}) as run:
        run.params(parameters(args, plan))
        found = {"model": args.model, "model_id": plan.digest, "run_id": run.id}
        scores = ""
        for index, (name, uri) in enumerate(plan.datasets, 1):
            data = load(name, uri, limit=args.limit, seed=args.seed)
            run.dataset(name, data.source, data.digest, "evaluation")
            results += measure(args, plan, data, run)
            known = found | {"complete": index == len(plan.datasets)}
            scores = json.dumps(describe(known, plan, results), indent=1)
            if plan.output is not None:  # what is done is kept if a later dataset fails
                plan.output.at(output.SCORES).write(scores.encode())
        beside = paper_table(args.model, map(measured, results))
        page = render(results, beside, facts(args, plan, run))
        if plan.output is not None:
            plan.output.at(*PAGE).write(page.encode())
        output.record(run, results, scores, page)
    for line in text.lines(results, beside, plan.output):
        say(line)
    say_run(run.id, tracking.redacted(plan.mlflow_uri))
    finish(found | {"datasets": [result.summary() for result in results]}, as_json=args.json)
    if sum(map(len, broken(results).values())) > args.allow_errors:
        raise SystemExit(1)


def describe(found: dict[str, Any], plan: Plan, results: "list[Result]") -> dict[str, Any]:
    """Return what evaluation.json holds; what others published stays apart from what was found."""
    from pipelines.results import document

    paper = {"source": published.SOURCE, "columns": published.COLUMNS, "mIoU": published.PUBLISHED}
    return found | {
        "identity": plan.identity,
        "datasets": document(results),
        "published": paper,
    }


def measured(result: "Result") -> Measured:
    """Return a score for the paper's table."""
    miou = result.summary()["mIoU"]
    return Measured(result.data.name, result.rejection, miou, result.images)


def facts(args: Args, plan: Plan, run: tracking.Run) -> dict[str, Any]:
    """Return what the page says of how it came about."""
    return {
        "Model": args.model,
        "Model digest": plan.digest,
        "Datasets": ", ".join(plan.identity["dataset"]),
        "Rejection": ", ".join(plan.rejections),
        "At most": None if args.limit is None else f"{args.limit} images of each dataset",
        "Seed of scenes": args.seed,
        "MLflow run": run.id,
    }


def parameters(args: Args, plan: Plan) -> dict[str, object]:
    """Return what MLflow shall know of the flags."""
    flags = asdict(args)
    for name in ("mlflow_uri", "experiment", "json"):
        del flags[name]
    names = [name for name, _ in plan.datasets]
    return flags | {"dataset": names, "rejection": plan.rejections, "model_id": plan.digest}


def measure(args: Args, plan: Plan, data: Labelled, run: tracking.Run) -> "list[Result]":
    """Evaluate one dataset under every rejection."""
    from pipelines.cluster import choose_pool
    from pipelines.evaluate import evaluate
    from pipelines.sweep.tuned import check_tuned
    from pipelines.weights import share_weights

    num_batches = math.ceil(data.num_images / args.batch_size)
    for text, copy in plan.given.items():
        try:
            check_tuned(copy, model_id=plan.digest, classes=data.asked, given=text)
        except ValueError as error:  # it may be measured all the same
            logger.warning("%s: %s", data.name, error)
    return evaluate(
        data,
        load_model=share_weights(plan.checkpoint),
        rejections=plan.rejections,
        pool=choose_pool(args.workers, args.gpus_per_worker, num_tasks=num_batches),
        batch_size=args.batch_size,
        observe=lambda progress: run.metrics(progress.metrics()),
    )


if __name__ == "__main__":
    main(parse(Args))
