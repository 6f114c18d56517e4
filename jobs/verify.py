"""Check an output of label: python -m jobs.verify --labels URI --images URI."""

from dataclasses import dataclass

from jobs import session
from jobs.interrupt import interruptible


@dataclass(frozen=True, kw_only=True)
class Args(session.SessionArgs):
    """Check that every input was labelled once, and that masks and segments fit their images.

    All rows must be of the run that run.json describes, and of the images as they are now.

    Exit status 0: all is right; 1: it is not, and a list says what; 2: there is nothing to check.
    """

    labels: str
    """Output of jobs.label: a folder or bucket prefix."""

    images: str
    """What it was made from: the --images of that job; for an output of --features, those of the
    job that kept them."""


def main(args: Args) -> None:
    """Check, list what is wrong."""
    with interruptible("nothing was started"), session.checking_input():
        from pipelines.verify import open_output

        output = open_output(args.labels, args.images)
    session.say(f"Checked against the {len(output.image_uris)} {output.inputs}")
    with interruptible("the check did not finish; the same command begins it again"):
        from pipelines.verify import verify

        verdict = verify(output, connect=session.connect)
    for problem in verdict.problems:
        session.say(problem)
    session.say(
        f"{verdict.labelled} images labelled, {verdict.errors} in errors/, "
        f"{len(verdict.problems)} problems"
    )
    result = {
        "labels": args.labels,
        "inputs": f"{len(output.image_uris)} {output.inputs}",
        "labelled": verdict.labelled,
        "errors": verdict.errors,
        "problems": verdict.problems,
    }
    session.finish(result, as_json=args.json)
    if verdict.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main(session.parse(Args))
