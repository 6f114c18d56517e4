"""Where an evaluation leaves what it found: a folder or bucket, and the MLflow run.

OUTPUT/evaluation.json     the scores of every class, and what was run
OUTPUT/report/index.html   what to look at
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines import tracking
from pipelines.evaluation import confusion
from pipelines.evaluation.strips import colours_of, write_strips
from pipelines.outputs import check_free
from pipelines.results import Result, metrics
from pipelines.storage import Location

SCORES = "evaluation.json"


def check_output(output: Location, identity: Mapping[str, Any]) -> None:
    """Require that a folder holds no evaluation, or an earlier one of the very same thing.

    Raises:
        ValueError: It holds another one, or something else.
        OSError: It cannot be reached.
    """
    output.check_writable()
    place = output.at(SCORES)
    if not place.exists():
        check_free(output, "evaluation")
        return
    try:
        known = json.loads(place.read())["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{place.uri} is not of this version of evaluate: use another --output"
        ) from error
    different = [name for name, value in identity.items() if known.get(name) != value]
    if different:
        raise ValueError(
            f"{output.uri} holds an evaluation with another {different[0]}: use another --output"
        )


def record(run: tracking.Run, results: Sequence[Result], scores: str, page: str) -> None:
    """Give an MLflow run the scores, the page, a confusion picture and the worst images of each."""
    run.metrics(metrics(results))
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SCORES).write_text(scores, encoding="utf-8")
        (folder / "evaluation.html").write_text(page, encoding="utf-8")
        for result in results:
            draw(result, folder)
        for path in sorted(folder.iterdir()):
            run.artifact(path, path.name if path.is_dir() else None)


def draw(result: Result, folder: Path) -> None:
    """Draw the pictures of a result."""
    title = f"{result.data.name}, {result.rejection}"
    name = re.sub(r"[^\w.-]+", "_", f"{result.data.name}-{result.rejection}")
    picture = confusion.confusion_picture(result.matrix)
    if picture.true:
        (folder / "confusion").mkdir(exist_ok=True)
        path = folder / "confusion" / f"{name}.png"
        confusion.draw(picture, result.data.classes, title, path)
    if result.worst.keys:
        write_strips(folder / "worst" / name, result.worst.sorted(), colours_of(result))
