"""Train a model: python -m jobs.train --dataset scenes --model nano --output DIR."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jobs.session import SessionArgs, checking_input, connect, finish, parse, say

RUN_FILE = "train.json"
KNOWN_DATASETS = ("scenes",)


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Train a model on Ray Train; the same command after a crash continues.

    This version trains on the bundled synthetic scenes. The real datasets come with the recipe of
    the published models.
    """

    dataset: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ("scenes",)
    """What to train on: scenes."""

    validation: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What to evaluate the trained model on: scenes, scenes-unseen; may be given twice."""

    model: str = "nano"
    """Model to train: nano (from nothing), or the path of a nano checkpoint to go on from."""

    output: str
    """Folder or bucket prefix for checkpoints and the trained model.safetensors."""

    max_steps: int = 2300
    """Steps of the optimizer."""

    align_steps: int = 900
    """First steps, which train only the encoders (each cell against every class name)."""

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
    """Check what can be checked without torch and Ray.

    Raises:
        ValueError: A flag that does not fit; one sentence.
    """
    for name in args.dataset:
        if name not in KNOWN_DATASETS:
            raise ValueError(
                f"cannot train on dataset {name!r}: this version trains on "
                f"{', '.join(KNOWN_DATASETS)} only"
            )
    for name in args.validation:
        if name not in ("scenes", "scenes-unseen"):
            raise ValueError(f"unknown validation {name!r}; known: scenes, scenes-unseen")
    if args.model in ("base", "large"):
        raise ValueError(
            f"--model {args.model} cannot be trained on scenes: this version trains nano"
        )
    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    if args.batch_size % args.workers:
        raise ValueError(
            f"--batch-size {args.batch_size} must be a multiple of --workers {args.workers}"
        )


def main(args: Args) -> None:
    """Check, train, write the model, evaluate and register it as asked."""
    with checking_input():
        check(args)
        from pipelines import tracking
        from pipelines.curriculum import Curriculum
        from pipelines.storage import locate
        from pipelines.train import Tracker, TrainConfig, train

        curriculum = Curriculum(align_steps=min(args.align_steps, args.max_steps))
        config = TrainConfig(
            model=args.model,
            max_steps=args.max_steps,
            batch_size=args.batch_size,
            precision=args.precision,
            seed=args.seed,
            curriculum=curriculum,
        )
        output = locate(args.output)
        claimed = claim(output.at(RUN_FILE), config.digest, asdict(config))
    uri = tracking.resolve_uri(args.mlflow_uri)
    started = time.monotonic()
    with tracking.run(uri, args.experiment, "train", run_id=claimed.get("run_id")) as run:
        run.params({"dataset": "scenes", "digest": config.digest, **asdict(config)})
        run.dataset("scenes", "pipelines.scenes", f"seed-{config.seed}", "training")
        run_id = run.id
    claimed["run_id"] = run_id
    output.at(RUN_FILE).write(json.dumps(claimed).encode())
    connect()
    tracker = Tracker(uri, args.experiment, run_id)
    path = train(config, output, workers=args.workers, use_gpu=args.use_gpu, tracker=tracker)
    with tracking.run(uri, args.experiment, "train", run_id=run_id) as run:
        run.artifact(path, "model")
        if args.register:
            tracking.register_model(run, path, args.register)
        validation = [validate(name, path) for name in args.validation]
        for row in validation:
            run.metrics({f"{row['name']}/mIoU": row["mIoU"]})
    result = {
        "model": output.at("model.safetensors").uri,
        "steps": config.max_steps,
        "run_id": run_id,
        "seconds": round(time.monotonic() - started, 1),
        "validation": validation,
    }
    say(f"Trained model: {result['model']}")
    for row in validation:
        say(f"{row['name']}: mIoU {row['mIoU']:.2f} over {row['images']} images")
    finish(result, as_json=args.json)


def claim(record, digest: str, recipe: dict) -> dict:  # noqa: ANN001
    """Make the output belong to this recipe; return what its record says.

    Raises:
        ValueError: It belongs to another one.
    """
    if record.exists():
        found = json.loads(record.read())
        if found.get("digest") != digest:
            raise ValueError(
                f"{record.uri} belongs to a training with other settings: choose another --output"
            )
        return found
    claimed = {"digest": digest, "recipe": recipe}
    record.write(json.dumps(claimed).encode())
    return claimed


def validate(name: str, path: Path) -> dict:
    """Evaluate the trained model on one dataset."""
    raise NotImplementedError


if __name__ == "__main__":
    main(parse(Args))
