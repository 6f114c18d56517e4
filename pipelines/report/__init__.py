"""What a person looks at after labelling: one HTML page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.choice import make_panels
from pipelines.report.page import render
from pipelines.report.statistics import LabelStatistics, read_errors, read_labels
from pipelines.storage import Location

PAGE = ("report", "index.html")
"""Where the page lies in an output."""


def summarise(
    output: Location, num_classes: int, *, samples: int = 24, uncertain: int = 8
) -> LabelStatistics:
    """Count all rows that `label` wrote, and choose what a report shows.

    Args:
        output: Folder with labels/ and errors/.
        num_classes: Names in the vocabulary.
        samples: Images to show.
        uncertain: Images with the lowest mean confidence to show.
    """
    return read_labels(output, num_classes, samples=samples, uncertain=uncertain)


def write_report(
    output: Location,
    labels: LabelStatistics,
    *,
    classes: Sequence[str],
    run: Mapping[str, Any],
    rare_classes: int = 6,
    confused_pairs: int = 6,
) -> Location:
    """Write OUTPUT/report/index.html.

    Numbers cover all rows; pictures show a sample that depends on the images' URIs only.

    Args:
        output: Folder with labels/ and errors/.
        labels: From `summarise`.
        classes: Name of each class index.
        run: What run.json says; what the page does not know is left out.
        rare_classes: Classes that the fewest images show, to show an image of each; at most a third
            of those that occur, and none that more than a quarter of the images show.
        confused_pairs: Pairs of classes that contest the most pixels, to show an image of each.

    Returns:
        Where the page is.
    """
    errors = read_errors(output)
    panels = make_panels(output, labels, classes, rare_classes, confused_pairs)
    page = output.at(*PAGE)
    page.write(render(labels, errors, panels, classes=classes, run=run).encode())
    return page
