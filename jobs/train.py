"""Train a model: python -m jobs.train --dataset scenes --model nano --output DIR."""

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from jobs.session import SessionArgs, checking_input, connect, finish, leave_out, parse, say
from pipelines.train_flags import TrainFlags

if TYPE_CHECKING:
    from pipelines.train import Trained
    from pipelines.train_plan import Plan
    from pipelines.worker import Setup

Repeatable = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Args(TrainFlags, SessionArgs):
    """Train a model on Ray Train; the same command after a crash continues.

    On the bundled synthetic scenes nano learns from nothing. On photos with masks base and large
    learn from CLIP's weights, and nano or a checkpoint of any size goes on learning, by the
    published recipe.
    """

    dataset: Repeatable = ()
    """What to train on: scenes, labels=URI (an output of jobs.label), or a dataset with masks."""

    validation: Repeatable = ()
    """What to evaluate the model on while it trains and at the end: scenes, scenes-unseen,
    labels=URI, or a dataset with masks; several may be given, the first decides which is best."""


def main(args: Args) -> None:
    """Check, train, write the model, say how good it is, and register it as asked."""
    with checking_input():
        from pipelines.train_plan import make_plan

        plan = make_plan(args, args.mlflow_uri)
    from pipelines.train import train

    started = time.monotonic()
    # A worker and what reads for it need more than two logical CPUs.
    cpus = None if plan.source is None else max(4, os.cpu_count() or 4)
    connect(cpus, {"worker_process_setup_hook": leave_out_watcher})
    run_id = begin_run(args, plan)
    trained = train(make_setup(args, plan, run_id), plan.crew)
    version = finish_run(args, plan, run_id, trained)
    report(args, plan, run_id, trained, version, time.monotonic() - started)
    if args.register and version is None:
        sys.stderr.write(
            f"error: the model is trained, but could not be registered as {args.register}; the "
            "same command tries it again\n"
        )
        raise SystemExit(1)


def leave_out_watcher() -> None:
    """Keep out of a worker's log that Ray Train asks a dashboard that a local Ray does not have.

    It would say so every second, of an actor that removes what a killed training leaves behind: a
    local Ray ends with the training.
    """
    watcher = "ray.train.v2._internal.execution.controller.placement_group_cleaner"
    leave_out(watcher, "Failed to query Ray Train Controller actor state.")


def make_setup(args: Args, plan: "Plan", run_id: str | None) -> "Setup":
    """Return what the workers are told."""
    import ray

    from pipelines.datasets import load, split_spec
    from pipelines.journal import Tracker
    from pipelines.weights import share_file
    from pipelines.worker import Setup

    here = ray.get_runtime_context().get_node_id()
    return Setup(
        config=plan.config,
        output=plan.output,
        tracker=Tracker(plan.mlflow_uri, args.experiment, run_id, here),
        upkeep=plan.upkeep,
        weights=share_file(plan.weights) if plan.weights is not None else None,
        ingest=plan.ingest,
        validation=[load(*split_spec(name)) for name in plan.validation],
    )


def begin_run(args: Args, plan: "Plan") -> str | None:
    """Record the recipe in MLflow, in the run of this output; return its id."""
    from pipelines import tracking
    from pipelines.train_plan import RUN_FILE

    record = plan.record
    with tracking.run(
        plan.mlflow_uri, args.experiment, "train", run_id=record.get("run_id")
    ) as run:
        facts = {
            "dataset": plan.dataset,
            "validation": plan.validation,
            "digest": plan.config.digest,
            "code_digest": tracking.code_digest(),
            "workers": args.workers,
        }
        run.params({**record["recipe"], **facts})
        run.dataset(plan.dataset.partition("=")[0], *plan.data_facts, "training")
    run_id = run.id or record.get("run_id")  # a server that is away loses no run
    plan.output.at(RUN_FILE).write(json.dumps(record | {"run_id": run_id}).encode())
    return run_id


def finish_run(args: Args, plan: "Plan", run_id: str | None, trained: "Trained") -> str | None:
    """Record the trained model in MLflow; register it if asked, and return its version."""
    from pipelines import tracking

    with tracking.run(plan.mlflow_uri, args.experiment, "train", run_id=run_id) as run:
        run.artifact(trained.path, "model")
        if args.register:
            return tracking.register_model(run, trained.path, args.register, plan.classes)
    return None


def report(
    args: Args,
    plan: "Plan",
    run_id: str | None,
    trained: "Trained",
    version: str | None,
    seconds: float,
) -> None:
    """Say what came out."""
    validation = trained.last.facts["validation"]
    result = {
        "model": plan.output.at("model.safetensors").uri,
        "steps": plan.config.max_steps,
        "run_id": run_id,
        "registered": version,
        "seconds": round(seconds, 1),
        "validation": validation,
        "best": trained.best and {"steps": trained.best.step, "mIoU": trained.best.score},
    }
    if not trained.steps:
        say(f"Nothing was left to do: all {plan.config.max_steps} steps were taken before")
    say(f"Trained model: {result['model']}")
    for row in validation:
        score = "nothing to compare" if row["mIoU"] is None else f"mIoU {row['mIoU']:.2f}"
        say(f"{row['name']}: {score} over {row['images']} images")
    finish(result, as_json=args.json)


if __name__ == "__main__":
    main(parse(Args))
