"""What a person looks at after labelling: one HTML page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.page import render
from pipelines.report.panels import make_panels
from pipelines.report.statistics import read_errors, read_labels
from pipelines.storage import Location, locate

PAGE = ("report", "index.html")
"""Where the page lies in an output."""


def write_report(
    output: Location | str,
    *,
    classes: Sequence[str],
    run: Mapping[str, Any],
    samples: int = 24,
    uncertain: int = 8,
) -> Location:
    """Read what `label` wrote and write OUTPUT/report/index.html.

    Numbers cover all rows; pictures show a sample that depends on the images' URIs only.

    Args:
        output: Folder with labels/ and errors/.
        classes: Name of each class index.
        run: What run.json says; what the page does not know is left out.
        samples: Images to show.
        uncertain: Images with the lowest mean confidence to show.

    Returns:
        Where the page is.
    """
    output = locate(output) if isinstance(output, str) else output
    labels = read_labels(output, len(classes), samples=samples, uncertain=uncertain)
    errors = read_errors(output)
    panels = make_panels(output, labels)
    page = output.at(*PAGE)
    page.write(render(labels, errors, panels, classes=classes, run=run).encode())
    return page
