"""Checkpoints of a training: written in the background, whole or not at all, the best one kept.

A checkpoint is a folder, step-0000200/, with the files of a state and, written last, a record
of their sizes and digests: a folder without it, or whose files differ from it, does not count.
"""

import hashlib
import json
import logging
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileType

from pipelines.storage import Location

logger = logging.getLogger(__name__)

RECORD = "checkpoint.json"
FOLDER = re.compile(r"step-(\d+)")

Write = Callable[[Path], object]
"""Writes one file."""


@dataclass(frozen=True)
class Saved:
    """One whole checkpoint."""

    place: Location
    step: int
    """Steps that were taken."""

    facts: dict[str, Any] = field(default_factory=dict)
    """What else is known of it: scores, losses."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Size and digest of each file."""

    @property
    def score(self) -> float | None:
        """Its mIoU on the first validation set, if it was measured."""
        return self.facts.get("score")

    def is_whole(self) -> bool:
        """Read its files, and say whether they are what was written."""
        for name, file in self.files.items():
            place = self.place.at(name)
            with place.fs.open_input_stream(place.path, compression=None) as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != file["sha256"]:
                    logger.warning("%s is damaged: its checkpoint is passed over", place.uri)
                    return False
        return True

    def fetch(self, folder: Path, names: list[str] | None = None) -> None:
        """Copy its files into a local folder.

        Raises:
            ValueError: A file is not what was written.
        """
        for name in names or self.files:
            data = self.place.at(name).read()
            if digest_of(data) != self.files[name]["sha256"]:
                raise ValueError(f"{self.place.at(name).uri} is damaged")
            (folder / name).write_bytes(data)


class Store:
    """The checkpoints of one output."""

    def __init__(self, place: Location, keep: int = 2) -> None:
        self.place = place
        self.keep = keep
        self.writer: threading.Thread | None = None
        self.error: BaseException | None = None

    def saved(self) -> list[Saved]:
        """Return the whole checkpoints, oldest first."""
        found = [self.open(step, place) for step, place in self.folders()]
        return [one for one in found if one is not None]

    def folders(self) -> list[tuple[int, Location]]:
        """Return the folders of checkpoints, whole or not, by their steps."""
        names = {
            info.path.removeprefix(self.place.path).lstrip("/").partition("/")[0]
            for info in self.place.files(recursive=True)
        }
        matches = [match for name in names if (match := FOLDER.fullmatch(name))]
        return sorted((int(match[1]), self.place.at(match[0])) for match in matches)

    def open(self, step: int, place: Location) -> Saved | None:
        """Return the checkpoint in a folder; None where a kill left a part, or one was cut."""
        if not place.at(RECORD).exists():
            return None
        record = json.loads(place.at(RECORD).read())
        for name, file in record["files"].items():
            info = place.at(name).info()
            if info.type != FileType.File or info.size != file["bytes"]:
                logger.warning("The checkpoint in %s is damaged: passed over", place.uri)
                return None
        return Saved(place, step, record["facts"], record["files"])

    def newest(self) -> Saved | None:
        """Return the checkpoint to go on from, the last one whose files are what was written.

        None where there is none.
        """
        for step, place in reversed(self.folders()):
            if (found := self.open(step, place)) is not None and found.is_whole():
                return found
        return None

    def best(self) -> Saved | None:
        """Return the checkpoint with the highest mIoU; None where none was measured."""
        scored = [one for one in self.saved() if one.score is not None]
        return max(scored, key=lambda one: one.score or 0.0, default=None)

    def save(self, step: int, files: Mapping[str, Write], facts: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint, once the one before is written.

        Raises:
            OSError: The one before could not be written.
        """
        self.wait()

        def work() -> None:
            try:
                self.write(step, files, facts)
            except BaseException as error:  # raised at the next checkpoint
                self.error = error

        self.writer = threading.Thread(target=work, name=f"checkpoint {step}")
        self.writer.start()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written; raise what went wrong."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def write(self, step: int, files: Mapping[str, Write], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint and remove those that are no longer kept."""
        place = self.place.at(f"step-{step:07d}")
        place.at(RECORD).remove()
        sizes = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, write in files.items():
                write(Path(folder) / name)
                sizes[name] = upload(Path(folder) / name, place.at(name))
        record = {"step": step, "facts": dict(facts), "files": sizes}
        place.at(RECORD).write(json.dumps(record).encode())
        self.prune()

    def prune(self) -> None:
        """Remove all but the newest checkpoints and the best one; parts of others, too."""
        saved = self.saved()
        if not saved:
            return
        best = self.best()
        kept = {one.step for one in saved[-self.keep :]} | ({best.step} if best else set())
        for step, place in self.folders():
            if step not in kept and step < saved[-1].step:
                place.at(RECORD).remove()
                place.remove()


def upload(path: Path, place: Location) -> dict[str, Any]:
    """Copy a local file to its place; return its size and digest."""
    with pa.memory_map(str(path)) as source:
        data = source.read_buffer()
        place.write(data)
        return {"bytes": data.size, "sha256": digest_of(data)}


def digest_of(data: bytes | pa.Buffer) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()
