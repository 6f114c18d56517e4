"""Train a model: python -m jobs.train --dataset scenes --model nano --output DIR."""

import json
import os
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jobs.session import SessionArgs, checking_input, connect, finish, parse, say

if TYPE_CHECKING:
    from ray.data import Dataset

    from pipelines.storage import Location
    from pipelines.train import TrainConfig

RUN_FILE = "train.json"


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Train a model on Ray Train; the same command after a crash continues.

    On the bundled synthetic scenes nano learns from nothing. On what jobs.label wrote
    (labels=URI) nano, or a checkpoint of any size, goes on learning by the published recipe.
    """

    dataset: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """What to train on: scenes, or labels=URI, an output of jobs.label."""

    validation: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """What to evaluate the trained model on: scenes, scenes-unseen, labels=URI; several may be
    given."""

    model: str = "nano"
    """Model to train: nano (on scenes from nothing, on labels from the bundled weights), or the
    path of a checkpoint to go on from."""

    output: str
    """Folder or bucket prefix for checkpoints and the trained model.safetensors."""

    max_steps: int | None = None
    """Steps of the optimizer; default: 3600 on scenes, 80000 on labels."""

    text_steps: int = 160
    """Steps before the first that give the class names directions of their own, without images."""

    align_steps: int = 1400
    """First steps, which train only the encoders (each cell against every class name), on scenes
    of half the side and four times as many."""

    deep_weight: float = 0.3
    """Weight of an extra loss at strides 8 and 16 through layers that are thrown away; 0: none."""

    decode_every: int = 1
    """After the align steps, train the decoder in one step of so many; the others are like the
    align steps."""

    asked: tuple[int, ...] = (6, 8, 10, 12)
    """Classes that the decoder is asked for; each batch draws one of these numbers."""

    likely_share: float = 0.0
    """Share of the classes asked for but not shown that each image is most easily taken for."""

    overlap_weight: float = 0.0
    """Weight of a Dice loss, which counts a small object as much as a large one; 0: none."""

    learning_rate: float | None = None
    """Peak learning rate; default: 0.002 on scenes, 0.0002 on labels (the image encoder has a
    hundredth of it)."""

    scene_size: int = 256
    """Side of the training scenes, in pixels; a multiple of 64."""

    batch_size: int | None = None
    """Images per step, over all workers; default: 16 on scenes, 4 on labels."""

    workers: int = 1
    """Training processes."""

    use_gpu: bool = False
    """Give each worker a GPU."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the hardware has it."""

    seed: int = 0
    """Seed of the weights and of the data."""

    register: str | None = None
    """Register the trained model in MLflow under this name."""


def check(args: Args) -> None:
    """Check the flags that need nothing else to be known.

    Raises:
        ValueError: A flag that does not fit; one sentence.
    """
    if len([*chain.from_iterable(args.dataset)]) != 1:
        raise ValueError("one dataset is needed; try --dataset scenes")
    if args.model in ("base", "large"):
        raise ValueError(
            f"--model {args.model}: this version has no weights to start from; give the path of a "
            "checkpoint"
        )
    for flag, number, least in (
        ("--workers", args.workers, 1),
        ("--max-steps", args.max_steps, 1),
        ("--batch-size", args.batch_size, 1),
        ("--text-steps", args.text_steps, 0),
        ("--align-steps", args.align_steps, 0),
        ("--decode-every", args.decode_every, 1),
        ("--seed", args.seed, 0),
        ("--scene-size", args.scene_size, 64),
    ):
        if number is not None and number < least:
            raise ValueError(f"{flag} must be at least {least}, got {number}")
    check_curriculum(args)


def check_curriculum(args: Args) -> None:
    """Check the flags that say what a small model is asked while it learns."""
    if not args.asked or min(args.asked) < 1:
        raise ValueError(f"--asked must be numbers of at least 1, got {args.asked}")
    if not 0 <= args.likely_share <= 1:
        raise ValueError(f"--likely-share must be between 0 and 1, got {args.likely_share}")
    if args.overlap_weight < 0:
        raise ValueError(f"--overlap-weight must be at least 0, got {args.overlap_weight}")
    if args.scene_size % 64:
        raise ValueError(f"--scene-size must be a multiple of 64, got {args.scene_size}")


@dataclass(frozen=True)
class Plan:
    """What the flags mean, checked."""

    config: "TrainConfig"
    output: "Location"
    dataset: str
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
    from pipelines.datasets import check as check_dataset
    from pipelines.datasets import split_spec
    from pipelines.storage import locate
    from sed.checkpoint import check_source

    validation = [*chain.from_iterable(args.validation)]
    (dataset,) = chain.from_iterable(args.dataset)
    for spec in (dataset, *validation):
        check_dataset(*split_spec(spec))
    check_source(args.model)
    config = scenes_config(args) if dataset == "scenes" else labels_config(args, dataset)
    if config.batch_size % args.workers:
        raise ValueError(
            f"--batch-size {config.batch_size} must be a multiple of --workers {args.workers}"
        )
    output = locate(args.output)
    uri = tracking.resolve_uri(args.mlflow_uri)
    record = claim(output.at(RUN_FILE), config.digest, asdict(config))
    return Plan(config, output, dataset, validation, uri, record)


def given(args: Args) -> dict[str, Any]:
    """Return the settings that every recipe has, without those that are left to it."""
    names = ("model", "max_steps", "batch_size", "learning_rate", "precision", "seed")
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def scenes_config(args: Args) -> "TrainConfig":
    """Return the recipe that teaches a small model the scenes."""
    from pipelines.curriculum import Curriculum
    from pipelines.train import TrainConfig

    curriculum = Curriculum(
        align_steps=args.align_steps,
        deep_weight=args.deep_weight,
        decode_every=args.decode_every,
        scene_size=args.scene_size,
        asked=args.asked,
        likely_share=args.likely_share,
        overlap_weight=args.overlap_weight,
    )
    return TrainConfig(**given(args), text_steps=args.text_steps, curriculum=curriculum)


def labels_config(args: Args, spec: str) -> "TrainConfig":
    """Return the published recipe on an output of label.

    Raises:
        ValueError: It is none, or it is not meant to be trained on.
        OSError: It cannot be read.
    """
    from pipelines.datasets import LABELS, labels_digest, split_spec
    from pipelines.finetune import FinetuneConfig
    from pipelines.labelled import open_labels
    from pipelines.outputs import DONE
    from sed.checkpoint import source_config

    name, uri = split_spec(spec)
    if name != LABELS or uri is None:
        raise ValueError(f"this version trains on scenes and on labels=URI, not on {spec!r}")
    output = open_labels(uri)
    if output.run.get("status") != DONE:
        raise ValueError(
            f"the labels in {uri!r} are not complete: the command that made them goes on"
        )
    config = FinetuneConfig(
        **given(args),
        dataset=spec,
        data_digest=labels_digest(output, None),
        classes=tuple(output.classes),
        crop_size=source_config(args.model).image_size,
    )
    if output.num_images < config.batch_size:
        raise ValueError(
            f"{spec} has {output.num_images} images, fewer than --batch-size {config.batch_size}"
        )
    return config


def rows_to_train(planned: Plan) -> "Dataset | None":
    """Plan what Ray Data streams to the workers; scenes are drawn beside them instead."""
    from pipelines.datasets import split_spec
    from pipelines.finetune import FinetuneConfig, training_rows
    from pipelines.labelled import open_labels

    config = planned.config
    if not isinstance(config, FinetuneConfig):
        return None
    _, uri = split_spec(config.dataset)
    assert uri is not None, "labels are somewhere"
    return training_rows(open_labels(uri), config.crop_size, config.seed)


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
    # A worker and what reads for it need more than two logical CPUs.
    connect(None if planned.dataset == "scenes" else max(4, os.cpu_count() or 4))
    run_id = begin_run(args, planned)
    tracker = Tracker(planned.mlflow_uri, args.experiment, run_id)
    path = train(
        planned.config,
        planned.output,
        workers=args.workers,
        use_gpu=args.use_gpu,
        tracker=tracker,
        rows=rows_to_train(planned),
    )
    validation = [validate(name, path) for name in planned.validation]
    finish_run(args, planned, run_id, path, validation)
    result = {
        "model": planned.output.at("model.safetensors").uri,
        "steps": planned.config.max_steps,
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
        facts = {"dataset": planned.dataset, "digest": planned.config.digest}
        run.params({**record["recipe"], **facts})
        source, digest = data_of(planned)
        run.dataset(planned.dataset.partition("=")[0], source, digest, "training")
    planned.output.at(RUN_FILE).write(json.dumps(record | {"run_id": run.id}).encode())
    return run.id


def data_of(planned: Plan) -> tuple[str, str]:
    """Return where the training images come from, and what says which they are."""
    from pipelines.finetune import FinetuneConfig

    if isinstance(planned.config, FinetuneConfig):
        return planned.dataset.partition("=")[2], planned.config.data_digest
    return "pipelines.scenes", f"seed-{planned.config.seed}"


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
    from pipelines.datasets import load, split_spec
    from pipelines.evaluate import evaluate
    from pipelines.weights import share_weights

    (result,) = evaluate(
        load(*split_spec(name)),
        load_model=share_weights(str(path)),
        rejections=["none"],
        pool=choose_pool(None, None),
        batch_size=8,
    )
    return result.summary()


if __name__ == "__main__":
    main(parse(Args))
