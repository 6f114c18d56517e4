"""Labels for other tools: python -m jobs.export --labels URI --format NAME --output URI."""

from dataclasses import dataclass
from typing import Literal

from jobs import session
from jobs.interrupt import interruptible


@dataclass(frozen=True, kw_only=True)
class Args(session.SessionArgs):
    """Write an output of jobs.label in the format of another tool.

    Exit status 0: done, now or before; 1: it failed, and the same command continues; 2: there is
    nothing to export, the format cannot hold it, or the output holds something else.
    """

    labels: str
    """Output of jobs.label: a folder or bucket prefix; of one that is not finished, what is there
    is exported."""

    format: Literal[
        "ade20k", "coco", "coco-panoptic", "huggingface", "fiftyone", "label-studio", "cvat"
    ]
    """Format to write; ade20k and fiftyone have 16-bit masks from 256 classes on, cvat takes at
    most 255 classes."""

    output: str
    """Folder or bucket prefix to write to: empty, or an earlier export of the same labels to the
    same format, which is continued, or brought up to date if there are more labels now."""


def main(args: Args) -> None:
    """Check, export, say where it is."""
    with interruptible("nothing was started"), session.checking_input():
        from pipelines.export import make_plan

        plan = make_plan(args.labels, args.format, args.output)
    with interruptible("the same command continues where this one stopped"):
        from pipelines.export import export

        result = export(plan, connect=session.connect)
    session.say(
        f"{result['images']} images, {result['segments']} segments as {args.format}: "
        f"{result['output']}"
    )
    session.finish(result, as_json=args.json)


if __name__ == "__main__":
    main(session.parse(Args))
