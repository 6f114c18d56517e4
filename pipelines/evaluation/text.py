"""What a person at the terminal reads of an evaluation."""

from collections.abc import Sequence

from pipelines.evaluation import published
from pipelines.evaluation.output import SCORES
from pipelines.evaluation.published import PaperTable
from pipelines.report import PAGE
from pipelines.results import Result, broken
from pipelines.storage import Location

COLUMNS = {
    "mIoU": "mIoU",
    "fwIoU": "fwIoU",
    "mACC": "mACC",
    "pACC": "pACC",
    "edge": "boundary_mIoU",
}
"""Scores of the table, under their heads."""

MAX_ERRORS = 20
"""Broken images of a dataset that are printed; evaluation.json lists all."""

FOOT = (
    "edge: boundary IoU; small, medium, large: IoU of connected components under 32 x 32, under",
    "96 x 96 and of more pixels; collapsed: classes of which not one pixel was found.",
)


def lines(
    results: Sequence[Result], beside: PaperTable | None, output: Location | None
) -> list[str]:
    """Return the tables, the broken images, and where everything is."""
    found = table(results) + (published.lines(beside) if beside else [])
    for name, errors in broken(results).items():
        if errors:
            found.append(f"{len(errors)} images of {name} could not be evaluated, in no score:")
        found += [f"  {error['image_id']}: {error['message']}" for error in errors[:MAX_ERRORS]]
        if len(errors) > MAX_ERRORS:
            found.append(f"  and {len(errors) - MAX_ERRORS} more")
    if output is not None:
        found.append(f"Scores of every class: {output.at(SCORES).uri}")
        found.append(f"Report: {output.at(*PAGE).uri}")
    return found


def table(results: Sequence[Result]) -> list[str]:
    """Return the lines of a table for a person, scores in percent."""
    name_width = max(14, *(len(result.data.name) for result in results))
    width = max(9, *(len(result.rejection) for result in results))
    head = f"{'dataset':<{name_width}} {'rejection':<{width}} {'images':>7}"
    sizes = list(results[0].summary()["sizes"])
    rows = [
        head
        + "".join(f"{name:>8}" for name in (*COLUMNS, *sizes))
        + f"{'collapsed':>11}{'classes left':>16}"
    ]
    for result in results:
        found = result.summary()
        scores = [found[name] for name in COLUMNS.values()]
        scores += [found["sizes"][size]["iou"] for size in sizes]
        rows.append(
            f"{result.data.name:<{name_width}} {result.rejection:<{width}} {result.images:>7}"
            + "".join(f"{'-' if score is None else f'{score:.2f}':>8}" for score in scores)
            + f"{len(found['collapsed_classes']):>11}"
            + f"{found['mean_candidates']:>9.1f} of {len(result.data.asked):<3}"
        )
        if found.get("mIoU_unseen") is not None:
            rows.append(
                f"  of these, the never-trained classes alone: mIoU {found['mIoU_unseen']:.2f}"
            )
    return [*rows, *FOOT]
