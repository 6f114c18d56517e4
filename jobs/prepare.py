"""Datasets with masks become Parquet: python -m jobs.prepare NAME --source DIR --output URI."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from jobs import session


@dataclass(frozen=True, kw_only=True)
class Args(session.SessionArgs):
    """Check a dataset as its authors ship it, and write it as Parquet that training reads fast.

    Exit status 0: done, now or before; 1: some pairs cannot be used, and a list says which; 2: the
    dataset is not what its name says, and nothing was started.
    """

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """coco-stuff, ade20k-150, ade20k-847, pascal-context-59, pascal-context-459, pascal-voc-20,
    pascal-voc-20b, or folder: your own images/ and masks/ with classes.json."""

    source: str | None = None
    """Folder or bucket prefix that holds the dataset, unpacked: its own folder or the one above."""

    output: str | None = None
    """Folder or bucket prefix to write: new, or an earlier --output, which is continued."""

    split: Literal["train", "val"] | None = None
    """One split only; default: those of the published protocol (both of coco-stuff, val of the
    others), or those that a folder has."""

    allow_partial: bool = False
    """Take what is there though the authors ship more, and leave out what cannot be used."""

    list: bool = False
    """Show the datasets, their sizes, licences, and where to get each."""


def main(args: Args) -> None:
    """Check, write, list what is wrong, say where the result is."""
    from pipelines.prepare.catalogue import BENCHMARKS

    if args.list:
        found = [benchmark.describe() for benchmark in BENCHMARKS.values()]
        for each in found:
            describe(each)
        session.say("folder: your own images/ and masks/ (each perhaps with train/ and val/), and")
        session.say("  classes.json, a list of names: a mask's value is the index of its class")
        session.finish({"datasets": found}, as_json=args.json)
        return
    with session.checking_input():
        plans = check(args)
    from pipelines.prepare.prepare import list_errors, prepare

    results = []
    for plan in plans:
        record = prepare(plan, session.connect)
        errors = list_errors(plan)
        results.append(summary(record, errors, plan.output.at(plan.split).uri))
        say_result(results[-1])
    session.finish({"splits": results}, as_json=args.json)
    if any(result["errors"] and not args.allow_partial for result in results):
        raise SystemExit(1)


def check(args: Args) -> Any:  # noqa: ANN401
    """Return the plans of the splits; nothing is started.

    Raises:
        ValueError: Something in the arguments is wrong.
        OSError: Something that they name cannot be read or written.
    """
    from pipelines.prepare.plan import NAMES, make_plans

    if args.name is None:
        raise ValueError(f"name a dataset ({', '.join(NAMES)}), or --list them")
    for flag, value in (("source", args.source), ("output", args.output)):
        if value is None:
            raise ValueError(f"--{flag} is needed")
    assert args.source is not None, "as checked above"
    assert args.output is not None, "as checked above"
    return make_plans(
        args.name, args.source, args.output, split=args.split, allow_partial=args.allow_partial
    )


def summary(record: Any, errors: Any, uri: str) -> dict[str, Any]:  # noqa: ANN401
    """Return what a person or a script wants to know of a split."""
    names = ("dataset", "split", "images", "errors", "digest", "remarks")
    known = {name: getattr(record, name) for name in names}
    return known | {"output": uri, "classes": len(record.classes), "problems": errors}


def say_result(result: dict[str, Any]) -> None:
    """Say in a few lines what was written."""
    for problem in result["problems"]:
        session.say("{image_id}: {error_type}: {message}".format(**problem))
    for remark in result["remarks"]:
        session.say(f"note: {remark}")
    session.say(
        "{dataset} {split}: {images} images with {classes} classes, {errors} errors; "
        "{digest}".format(**result)
    )
    session.say("Written to {output}".format(**result))


def describe(found: dict[str, Any]) -> None:
    """Say what a dataset is and where to get it."""
    counts = ", ".join(
        f"{split} {' or '.join(map(str, counts))}" for split, counts in found["counts"].items()
    )
    asked = f" (asked: {found['asked']})" if found["asked"] != found["classes"] else ""
    session.say(f"{found['name']}: {found['title']}")
    session.say(f"  {found['classes']} classes{asked}; images: {counts}")
    session.say(f"  licence: {found['licence']}")
    session.say(f"  files: {found['layout']}")
    for place in found["places"]:
        session.say(f"  get: {place}")
    for remark in found["remarks"]:
        session.say(f"  note: {remark}")


if __name__ == "__main__":
    main(session.parse(Args))
