"""The folder that `label` writes: whose it is, what its run.json says, and starting it anew."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileType

from pipelines.shards import ERRORS, FEATURES, LABELS, MANIFEST
from pipelines.storage import Location, locate

RUN_FILE = "run.json"
REPORT = "report"
OURS = (LABELS, ERRORS, FEATURES, REPORT, MANIFEST, RUN_FILE)
"""All that `label` writes; run.json comes last, so that half a removal can be done again."""

FORMAT = "sed-labels-1"

RUNNING = "running"
DONE = "done"
REMOVING = "removing"
"""Status of an output whose earlier labels `--overwrite` is removing: some may be gone."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What all rows of one output have in common; anything else can change between two starts."""

    images: str
    """Absolute URI of the images."""

    model_id: str
    """SHA-256 of the weights."""

    vocabulary_id: str
    """SHA-256 of the class names."""

    rejection: str
    """Canonical text of the rejection policy."""

    min_confidence: float
    """Pixels under this probability get the ignore value."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all of it."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


WORDS = {
    "images": "images",
    "model_id": "model",
    "vocabulary_id": "vocabulary",
    "rejection": "rejection",
    "min_confidence": "minimum confidence",
}


class DamagedRunError(ValueError):
    """A run.json that cannot be read."""


def read_run(output: Location) -> dict[str, Any] | None:
    """Return what run.json says; None where there is none.

    Raises:
        ValueError: The file is none of ours.
    """
    place = output.at(RUN_FILE)
    if not place.exists():
        return None
    try:
        run = json.loads(place.read())
    except ValueError as error:
        raise DamagedRunError(
            f"{place.uri} is damaged ({error}): use another --output, or --overwrite to start from "
            "nothing"
        ) from error
    if not isinstance(run, dict) or run.pop("format", None) != FORMAT:
        raise ValueError(f"{place.uri} was not written by this version of label")
    return run


def open_run(uri: str) -> tuple[Location, dict[str, Any]]:
    """Return where an output of `label` is, and what its run.json says.

    Raises:
        ValueError: There is none.
        OSError: It cannot be read.
    """
    place = locate(uri)
    run = read_run(place)
    if run is None:
        raise ValueError(f"there is no output of label at {uri!r}")
    return place, run


def write_run(output: Location, run: dict[str, Any]) -> None:
    """Write run.json, all of it or nothing."""
    text = json.dumps({"format": FORMAT, **run}, indent=2, ensure_ascii=False)
    output.at(RUN_FILE).write(text.encode() + b"\n")


def check_output(output: Location, identity: Identity, *, overwrite: bool) -> dict[str, Any] | None:
    """Check that this job may write here; return the run.json of an earlier start, if any.

    Raises:
        ValueError: The place holds something else, or labels of another model, vocabulary,
            rejection, minimum confidence or of other images, or what a removal left; the message
            says what to do.
    """
    kind = output.info().type
    if kind == FileType.File:
        raise ValueError(f"the output {output.uri} is a file, not a folder")
    try:
        run = read_run(output)
    except DamagedRunError:
        if overwrite:
            return None
        raise
    if run is None:
        check_free(output, "labels of this tool")
        return None
    if overwrite:
        return None
    check_same(output, run, identity)
    return run


def check_same(output: Location, run: dict[str, Any], identity: Identity) -> None:
    """Require that an earlier start was of the same job, and that all it wrote is still there.

    Raises:
        ValueError: It was not.
    """
    if run.get("status") == REMOVING:
        raise ValueError(
            f"what is in the output {output.uri} was being removed when that was interrupted: "
            "give --overwrite again"
        )
    differences = [
        f"{another(word)} ({show(run['identity'][name])}, now {show(value)})"
        for name, word in WORDS.items()
        if run["identity"][name] != (value := getattr(identity, name))
    ]
    if differences:
        raise ValueError(
            f"the output {output.uri} was made with {' and '.join(differences)}: "
            "use another --output, or --overwrite to start from nothing"
        )


def check_free(output: Location, what: str) -> None:
    """Require that nothing is in a folder that does not hold what a job writes.

    Args:
        output: Where the job is to write.
        what: What it would hold, for the message.

    Raises:
        ValueError: Something is there.
    """
    if not output.is_empty():
        raise ValueError(
            f"the output {output.uri} is not empty and holds no {what}: use another --output"
        )


def another(word: str) -> str:
    """Return "another model" or, of what is not counted, "other images"."""
    return f"other {word}" if word in ("images", "data") else f"another {word}"


def show(value: object) -> str:
    """Return a value short enough for a sentence."""
    text = str(value)
    return text[:19] + "..." if text.startswith("sha256:") else text


def start_anew(output: Location) -> None:
    """Remove what an earlier run wrote, and nothing else.

    Until it is done no job may take what is left for its own.
    """
    try:
        run = read_run(output)
    except DamagedRunError:
        run = None
    if run is not None:
        write_run(output, run | {"status": REMOVING})
    for name in OURS:
        output.at(name).remove()
