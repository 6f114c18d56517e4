"""Train a model: python -m jobs.train --dataset scenes --model nano --output DIR."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jobs.session import SessionArgs, checking_input, connect, finish, parse, say

if TYPE_CHECKING:
    from pipelines.storage import Location
    from pipelines.train import TrainConfig

RUN_FILE = "train.json"


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Train a model on Ray Train; the same command after a crash continues.

    This version trains on the bundled synthetic scenes. The real datasets come with the recipe of
    the published models.
    """

    dataset: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """What to train on: scenes."""

    validation: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """What to evaluate the trained model on: scenes, scenes-unseen; several may be given."""

    model: str = "nano"
    """Model to train: nano (from nothing), or the path of a nano checkpoint to go on from."""

    output: str
    """Folder or bucket prefix for checkpoints and the trained model.safetensors."""

    max_steps: int = 2300
    """Steps of the optimizer."""

    text_steps: int = 160
    """Steps before the first that give the class names directions of their own, without images."""

    align_steps: int = 900
    """First steps, which train only the encoders (each cell against every class name)."""

    deep_weight: float = 0.0
    """Weight of an extra loss at strides 8 and 16 through layers that are thrown away; 0: none."""

    decode_every: int = 1
    """After the align steps, train the decoder in one step of so many."""

    scene_size: int = 256
    """Side of the training scenes, in pixels; a multiple of 32."""

    batch_size: int = 16
    """Images per step, over all workers."""

    workers: int = 1
    """Training processes."""

    use_gpu: bool = False
    """Give each worker a GPU."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the forward pass."""

    seed: int = 0
    """Seed of the weights and of the data."""

    register: str | None = None
    """Register the trained model in MLflow under this name."""


def check(args: Args) -> None:
    """Check the flags that need nothing else to be known.

    Raises:
        ValueError: A flag that does not fit; one sentence.
    """
    check_names("--dataset", chain.from_iterable(args.dataset), ("scenes",))
    check_names("--validation", chain.from_iterable(args.validation), ("scenes", "scenes-unseen"))
    if not args.dataset:
        raise ValueError("no dataset given; try --dataset scenes")
    if args.model in ("base", "large"):
        raise ValueError(f"--model {args.model}: this version trains nano only")
    for flag, number, least in (
        ("--workers", args.workers, 1),
        ("--max-steps", args.max_steps, 1),
        ("--text-steps", args.text_steps, 0),
        ("--align-steps", args.align_steps, 0),
        ("--decode-every", args.decode_every, 1),
        ("--scene-size", args.scene_size, 32),
    ):
        if number < least:
            raise ValueError(f"{flag} must be at least {least}, got {number}")
    if args.scene_size % 32:
        raise ValueError(f"--scene-size must be a multiple of 32, got {args.scene_size}")
    if args.batch_size % args.workers:
        raise ValueError(
            f"--batch-size {args.batch_size} must be a multiple of --workers {args.workers}"
        )


def check_names(flag: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Require that this version knows every dataset."""
    for name in names:
        if name not in known:
            raise ValueError(
                f"{flag} {name!r} is not part of this version, which has {', '.join(known)}"
            )


@dataclass(frozen=True)
class Plan:
    """What the flags mean, checked."""

    config: "TrainConfig"
    output: "Location"
    validation: list[str]
    mlflow_uri: str
    record: dict[str, Any]


def plan(args: Args) -> Plan:
    """Check everything that can be known before anything starts.

    Raises:
        ValueError: A flag makes no sense, or the output belongs to another training.
        OSError: There is no such model, or the output cannot be reached.
    """
    check(args)
    from pipelines import tracking
    from pipelines.curriculum import Curriculum
    from pipelines.storage import locate
    from pipelines.train import TrainConfig
    from sed.checkpoint import check_source
    from sed.config import PRESETS

    if args.model not in PRESETS:
        check_source(args.model)
    config = TrainConfig(
        model=args.model,
        max_steps=args.max_steps,
        text_steps=args.text_steps,
        batch_size=args.batch_size,
        precision=args.precision,
        seed=args.seed,
        curriculum=Curriculum(
            align_steps=args.align_steps,
            deep_weight=args.deep_weight,
            decode_every=args.decode_every,
            scene_size=args.scene_size,
        ),
    )
    output = locate(args.output)
    record = claim(output.at(RUN_FILE), config.digest, asdict(config))
    uri = tracking.resolve_uri(args.mlflow_uri)
    return Plan(config, output, list(chain.from_iterable(args.validation)), uri, record)


def claim(file: "Location", digest: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Make the output belong to this recipe; return its record.

    Raises:
        ValueError: It belongs to another one.
    """
    if not file.exists():
        record = {"digest": digest, "recipe": recipe}
        file.write(json.dumps(record).encode())
        return record
    record = json.loads(file.read())
    if record.get("digest") != digest:
        raise ValueError(
            f"{file.uri} belongs to a training with other settings: choose another --output"
        )
    return record


def main(args: Args) -> None:
    """Check, train, write the model, evaluate and register it as asked."""
    with checking_input():
        planned = plan(args)
    from pipelines.train import Tracker, train

    started = time.monotonic()
    connect()
    run_id = begin_run(args, planned)
    tracker = Tracker(planned.mlflow_uri, args.experiment, run_id)
    path = train(
        planned.config, planned.output, workers=args.workers, use_gpu=args.use_gpu, tracker=tracker
    )
    validation = [validate(name, path) for name in planned.validation]
    finish_run(args, planned, run_id, path, validation)
    result = {
        "model": planned.output.at("model.safetensors").uri,
        "steps": args.max_steps,
        "run_id": run_id,
        "seconds": round(time.monotonic() - started, 1),
        "validation": validation,
    }
    say(f"Trained model: {result['model']}")
    for row in validation:
        say(f"{row['name']}: mIoU {row['mIoU']:.2f} over {row['images']} images")
    finish(result, as_json=args.json)


def begin_run(args: Args, planned: Plan) -> str | None:
    """Record the recipe in MLflow, in the run of this output; return its id."""
    from pipelines import tracking

    record = planned.record
    with tracking.run(
        planned.mlflow_uri, args.experiment, "train", run_id=record.get("run_id")
    ) as run:
        run.params({"dataset": "scenes", "digest": planned.config.digest, **record["recipe"]})
        run.dataset("scenes", "pipelines.scenes", f"seed-{planned.config.seed}", "training")
    planned.output.at(RUN_FILE).write(json.dumps(record | {"run_id": run.id}).encode())
    return run.id


def finish_run(
    args: Args, planned: Plan, run_id: str | None, path: Path, validation: list[dict[str, Any]]
) -> None:
    """Record the trained model and its scores in MLflow; register it if asked."""
    from pipelines import tracking

    with tracking.run(planned.mlflow_uri, args.experiment, "train", run_id=run_id) as run:
        run.artifact(path, "model")
        if args.register:
            tracking.register_model(run, path, args.register)
        for row in validation:
            run.metrics({f"{row['name']}/mIoU": row["mIoU"]})


def validate(name: str, path: Path) -> dict[str, Any]:
    """Evaluate the trained model on one dataset."""
    from pipelines.cluster import choose_pool
    from pipelines.datasets import load
    from pipelines.evaluate import evaluate
    from sed import load_model

    (result,) = evaluate(
        load(name),
        load_model=partial(load_model, path),
        rejections=["none"],
        pool=choose_pool(None, None),
        batch_size=8,
    )
    return result.summary()


if __name__ == "__main__":
    main(parse(Args))
