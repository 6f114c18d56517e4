"""Draw a corpus, label it, see how good the labels are: python -m jobs.demo (or make demo)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jobs import session


@dataclass(frozen=True, kw_only=True)
class Args(session.SessionArgs):
    """Draw scenes with known masks, label them on a local Ray as `jobs.label` does, and compare.

    The same command again continues where the last one stopped.
    """

    output: str = "out/demo"
    """Folder for photos, masks and the result."""

    images: int = 64
    """How many scenes to draw: half of them show objects in combinations never trained on."""

    model: str = "nano"
    """Weights: nano (bundled), PATH, or models:/NAME/VERSION."""

    rejection: str = "topk:8"
    """Classes to drop early, as `jobs.label` takes it."""

    batch_size: int = 8
    """Images that go through the model together."""


def main(args: Args) -> None:
    """Draw, label, compare, say."""
    import sed
    from pipelines import demo, tracking
    from pipelines.storage import locate

    with session.checking_input():
        folder = locate(args.output)
        demo.check_folder(folder, args.images)
        uri = tracking.resolve_uri(args.mlflow_uri)
        sed.Rejection.parse(args.rejection)
        if args.batch_size < 1:
            raise ValueError(f"--batch-size is at least 1, got {args.batch_size}")
        model = tracking.resolve_model(args.model, uri)
        sed.check_source(model)  # loads torch: after what is wrong without it
    session.say(f"Drawing {args.images} scenes with known masks into {folder.uri}")
    demo.draw_corpus(folder, args.images)
    with session.checking_input():
        plan = make_plan(args, model, folder)
    from pipelines.label import label

    if plan.is_done:
        session.say("These were labelled before by this model: nothing is left to do.")
    else:
        session.say(f"Labelling {plan.num_images} of them on Ray")
    run = label(plan, connect=session.connect, tracking_uri=uri, experiment=args.experiment)
    scores = demo.score(folder, plan.output)
    if not plan.is_done:
        with tracking.run(uri, args.experiment, "demo", run_id=run["mlflow"]["run_id"]) as tracked:
            tracked.metrics({f"demo/{name}/mIoU": found.mean_iou for name, found in scores.items()})
    report(run, scores, as_json=args.json)


def make_plan(args: Args, model: str, folder: Any) -> Any:  # noqa: ANN401  typed where imported
    """Plan the labelling; a result of another model, or of other settings, is made anew.

    Raises:
        ValueError: The settings are wrong, or the folder for the result holds something else.
    """
    from pipelines import plan, scenes

    config = {
        "images": folder.at("images").uri,
        "output": folder.at("result").uri,
        "classes": scenes.vocabulary(),
        "model": model,
        "rejection": args.rejection,
        "batch_size": args.batch_size,
    }
    try:
        return plan.make_plan(plan.LabelConfig(**config))
    except ValueError:
        return plan.make_plan(plan.LabelConfig(**config, overwrite=True))


def report(run: dict[str, Any], scores: dict[str, Any], *, as_json: bool) -> None:
    """Say how good the labels are and where everything is."""
    meaning = {"seen": "combinations it was trained on", "unseen": "never-trained combinations"}
    for name, found in scores.items():
        session.say(
            f"{meaning[name].capitalize():<31} mIoU {percent(found.mean_iou)}   "
            f"pixels right {percent(found.pixel_accuracy)}   ({found.images} scenes)"
        )
    counts, page = run["counts"], f"{run['output']}/report/index.html"
    session.say(f"Speed   {run['images_per_second']:.1f} images/s; {counts['errors']} errors")
    session.say(f"Report  {page}")
    session.say(f"MLflow  {run['mlflow']['uri']} (run {run['mlflow']['run_id']})")
    session.say(
        "These scenes are drawn, and so was all that nano has ever seen: it knows no photo."
    )
    result = {
        "output": run["output"],
        "report": page,
        "mlflow_uri": run["mlflow"]["uri"],
        "run_id": run["mlflow"]["run_id"],
        "images_per_second": run["images_per_second"],
        "scores": {name: asdict(found) for name, found in scores.items()},
    }
    session.finish(result, as_json=as_json)


def percent(score: float) -> str:
    """Return a score; none where there was nothing to measure."""
    return "   -  " if math.isnan(score) else f"{score:5.1f} %"


if __name__ == "__main__":
    main(session.parse(Args))
