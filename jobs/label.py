"""Label images: python -m jobs.label --images URI --output URI --classes NAME ..."""

import logging
from dataclasses import dataclass
from typing import Any

from jobs import session
from jobs.interrupt import interruptible

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Args(session.SessionArgs):
    """Label every pixel of every image of a folder or bucket with one of your classes.

    The output holds labels/ and errors/ (Parquet), run.json and report/index.html. The same command
    again continues where the last one stopped; if that was the end, it changes nothing.
    """

    images: str | None = None
    """Folder or bucket prefix (recursive), a Parquet, CSV or JSONL list of URIs, or one image; on
    several machines, where all of them see it."""

    features: str | None = None
    """Instead of --images: an --output made with --keep-features, whose images are labelled again
    with other classes or another rejection. The encoder does not run."""

    keep_features: bool = False
    """Write features/ too, for --features: half precision, nano 0.11 and base 1.77 MB an image."""

    output: str
    """Folder or bucket prefix to write; on several machines, one that all of them reach."""

    images_column: str = "image_uri"
    """Column of URIs where --images is a list; relative ones start at the list's folder."""

    classes: tuple[str, ...] = ()
    """Class names; "a, b" is one class with two synonyms. Either this or --vocabulary."""

    vocabulary: str | None = None
    """Benchmark's classes (like ade150), scenes (what nano knows), or a file: a text with a name a
    line, or a JSON list."""

    model: str = "nano"
    """Weights: nano (bundled; knows only the synthetic scenes), PATH, or models:/NAME/VERSION."""

    rejection: str = "none"
    """Classes to drop early: none, topk:K, topk:K0,K1,K2, prob:T, fixed:K (+ joins), or what
    jobs.sweep wrote: FILE.json or runs:/RUN/rejection.json."""

    min_confidence: float = 0.0
    """Pixels whose probability (0 to 1) is under this get the ignore value."""

    batch_size: int = 8
    """Images that go through the model together; at most those of a shard, 64 in a large corpus."""

    workers: int | None = None
    """Copies of the model; default: one a GPU, without GPUs one for two CPUs."""

    gpus_per_worker: float | None = None
    """GPUs of each copy, 0 for none, a fraction to share one; default: 1 if there are any."""

    decode_seconds: float = 60.0
    """Seconds that decoding one image may take; one that takes longer ends in errors/."""

    limit: int | None = None
    """Label only so many images, the first in the order of their URIs; default: all."""

    overwrite: bool = False
    """Remove what an earlier run wrote to the output, and start from nothing."""


def main(args: Args) -> None:
    """Check the input, label what is left, say where the result is."""
    with interruptible("nothing was started"), session.checking_input():
        uri, plan = check(args)
    again = "the same command without --overwrite" if args.overwrite else "the same command"
    with interruptible(f"{again} continues where this one stopped"):
        from pipelines.label import label

        run = label(plan, connect=session.connect, tracking_uri=uri, experiment=args.experiment)
    result = summary(run, resumed=plan.earlier is not None)
    describe(result, nothing_left=plan.is_done)
    session.finish(result, as_json=args.json)


def check(args: Args) -> tuple[str, Any]:
    """Return the tracking server and the plan of the job; nothing is started.

    Raises:
        ValueError: Something in the arguments is wrong.
        OSError: Something that they name cannot be read or written.
    """
    from pipelines import tracking
    from pipelines.classes import choose_classes
    from pipelines.plan import LabelConfig, make_plan

    uri = tracking.resolve_uri(args.mlflow_uri)
    config = LabelConfig(
        images=args.images,
        features=args.features,
        keep_features=args.keep_features,
        images_column=args.images_column,
        output=args.output,
        classes=choose_classes(args.classes, args.vocabulary),
        model=args.model,
        rejection=tracking.resolve_rejection(args.rejection, uri),
        min_confidence=args.min_confidence,
        batch_size=args.batch_size,
        workers=args.workers,
        gpus_per_worker=args.gpus_per_worker,
        decode_seconds=args.decode_seconds,
        limit=args.limit,
        overwrite=args.overwrite,
    )
    return uri, make_plan(config, checkpoint=tracking.resolve_model(args.model, uri))


def summary(run: dict[str, Any], *, resumed: bool) -> dict[str, Any]:
    """Return what a person or a script wants to know of a run."""
    return {
        "output": run["output"],
        **run["counts"],
        "images_per_second": run["images_per_second"],
        "seconds": run["seconds"],
        "report": f"{run['output']}/report/index.html",
        "run_id": run["run_id"],
        "mlflow_uri": run["mlflow"]["uri"],
        "mlflow_run_id": run["mlflow"]["run_id"],
        "resumed": resumed,
    }


def describe(result: dict[str, Any], *, nothing_left: bool = False) -> None:
    """Say in a few lines what was done, now or before, and where it is."""
    counts = (
        "{labelled} of {inputs} images labelled, {errors} in errors/, {skipped} other objects "
        "skipped".format(**result)
    )
    if nothing_left:
        session.say(f"Nothing was left to do; done before: {counts}")
    elif result["images_per_second"]:
        session.say("{}; {images_per_second} images/s".format(counts, **result))
    else:  # an earlier start labelled the last image, and was ended before it counted them
        session.say(counts)
    session.say("Labels: {output}".format(**result))
    session.say("Report: {report}".format(**result))
    session.say_run(result["mlflow_run_id"], result["mlflow_uri"])


if __name__ == "__main__":
    main(session.parse(Args))
