"""Find the fastest rejection that costs no accuracy: python -m jobs.sweep --dataset scenes ..."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from jobs.session import SessionArgs, checking_input, connect, finish, parse, say, say_run

if TYPE_CHECKING:
    from pipelines.sweep.plan import Plan, SweepConfig


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Try many rejection policies on labelled images, and keep the fastest that is good enough.

    The images are encoded once; each trial decodes a growing part of them and stops early when
    others are better. The output holds rejection.json (for --rejection of the other jobs),
    sweep.json, report/index.html and sweep.png. The same command again continues a killed
    sweep.
    """

    model: str = "nano"
    """nano (bundled), a checkpoint's path, or models:/NAME/VERSION."""

    dataset: str
    """NAME or NAME=URI, as in jobs.evaluate: the validation set."""

    output: str
    """Folder or bucket prefix to write; on several machines, one that all of them reach."""

    space: str | None = None
    """YAML or JSON file of the policies to try; default: all kinds of policies, joined ones too."""

    search: Literal["optuna", "random", "grid"] = "optuna"
    """How policies are chosen: by Optuna from two objectives, at random, or all of a grid."""

    trials: int = 24
    """Policies to try; topk with one K of 1, 2, 4, 8, 16 comes first and counts."""

    concurrency: int | None = None
    """Trials at a time; default: as many as CPUs, at most 8, or as GPUs and --gpus-per-trial."""

    gpus_per_trial: float | None = None
    """GPUs of each trial, 0 for none, a fraction to share one; default: 1 if there are any."""

    max_miou_drop: float = 0.2
    """Points of mIoU that the choice may lose against none; negative: what it has to gain."""

    classes: tuple[str, ...] = ()
    """Names that the model chooses from, those of the later job; classes of the masks that are not
    among them are not counted. Default: all classes of the dataset."""

    vocabulary: str | None = None
    """The same as a benchmark's classes (like ade150) or a file, as in jobs.label."""

    extra_names: tuple[str, ...] = ()
    """Vocabularies (like coco171) or files whose names are added: names that no mask holds."""

    batch_size: int = 8
    """Images that go through the decoder together, as in the later job."""

    limit: int = 256
    """At most this many images: the first ones of the dataset, as in jobs.evaluate."""

    seed: int = 0
    """Of the search, and of the scenes that are drawn."""


def main(args: Args) -> None:
    """Check, connect, search, write, say."""
    with checking_input():
        config, uri, checkpoint, model_id = check(args)
    connect()
    with checking_input():
        plan = make_plan(args, config, model_id)
    result = run(args, plan, uri, checkpoint)
    describe(result, plan.output.uri, uri)
    finish({**result, "output": plan.output.uri}, as_json=args.json)


def run(args: Args, plan: "Plan", uri: str, checkpoint: str) -> dict[str, Any]:
    """Search; a validation set that turns out to be of no use ends the program with status 2."""
    from pipelines.sweep.record import recorded_sweep
    from pipelines.sweep.validation import UnusableSetError
    from pipelines.weights import share_weights

    try:
        return recorded_sweep(
            plan,
            share_weights(checkpoint),
            tracking_uri=uri,
            experiment=args.experiment,
            params=parameters(args),
        )
    except UnusableSetError:
        with checking_input():
            raise


def check(args: Args) -> "tuple[SweepConfig, str, str, str]":
    """Return how to search, the tracking server, the checkpoint and its digest; start nothing.

    Raises:
        ValueError: A flag makes no sense; the message says which.
        OSError: Something that it names cannot be read or written.
    """
    from pipelines import datasets, tracking
    from pipelines.classes import choose_classes, read_vocabulary
    from pipelines.storage import locate
    from pipelines.sweep.plan import SweepConfig, read_state
    from pipelines.sweep.space import read_space

    if args.limit < 1:
        raise ValueError(f"--limit must be at least 1 image, got {args.limit}")
    datasets.check(*datasets.split_spec(args.dataset))
    own = args.classes or args.vocabulary is not None
    config = SweepConfig(
        output=args.output,
        model=args.model,
        vocabulary=choose_classes(args.classes, args.vocabulary) if own else None,
        extra_names=[name for one in args.extra_names for name in read_vocabulary(one)],
        space=None if args.space is None else read_space(args.space),
        search=args.search,
        trials=args.trials,
        concurrency=args.concurrency,
        gpus_per_trial=args.gpus_per_trial,
        max_miou_drop=args.max_miou_drop,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    read_state(locate(args.output))
    uri = tracking.resolve_uri(args.mlflow_uri)
    checkpoint = tracking.resolve_model(args.model, uri)
    from sed.checkpoint import check_source, file_digest  # loads torch: after what needs none

    return config, uri, checkpoint, file_digest(check_source(checkpoint))


def make_plan(args: Args, config: "SweepConfig", model_id: str) -> "Plan":
    """Open the validation set and check what is asked of it, and the output.

    Raises:
        ValueError: The vocabulary, the grid or the output does not fit.
        OSError: Something cannot be read or written.
    """
    from pipelines.datasets import load, split_spec
    from pipelines.sweep import plan
    from pipelines.sweep.question import make_question

    name, uri = split_spec(args.dataset)
    data = load(name, uri, limit=args.limit, seed=args.seed)
    question = make_question(data, config.vocabulary, config.extra_names)
    return plan.make_plan(config, data, question, model_id)


def parameters(args: Args) -> dict[str, object]:
    """Return what MLflow shall know of the flags."""
    hidden = ("mlflow_uri", "experiment", "json")
    return {name: value for name, value in asdict(args).items() if name not in hidden}


def describe(result: dict[str, Any], output: str, mlflow_uri: str) -> None:
    """Say what was found and where it is."""
    from pipelines.sweep.words import doubt, failures, gain_sentence, sentence, table
    from pipelines.tracking import redacted

    for line in table(result):
        say(line)
    for words in (sentence(result), doubt(result), gain_sentence(result), failures(result)):
        if words is not None:
            say(words)
    if result["chosen"] is not None:
        say(f"For other jobs: --rejection {output}/rejection.json")
    say(f"Report: {output}/report/index.html")
    say_run(result["run_id"], redacted(mlflow_uri))


if __name__ == "__main__":
    main(parse(Args))
