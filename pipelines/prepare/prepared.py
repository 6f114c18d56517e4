"""The folder that `prepare` writes: whose it is, and what is in it.

A folder for each split, with prepared.json and part-*.parquet, and errors/ for what was left out.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines import shards
from pipelines.outputs import DONE, RUNNING
from pipelines.storage import Location

SPLITS = ("train", "val", "all")
"""A user's folder without splits is "all"."""

RECORD_FILE = "prepared.json"
ERRORS = "errors"
FORMAT = "sed-prepared-1"

GROUP = 8
"""Images of a row group: what is read at once when the rows are shuffled."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What prepared.json says about a split."""

    dataset: str
    split: str
    source: str
    plan_id: str
    """Of the names that were found there, and of the classes."""

    classes: list[str]
    asked: list[str]
    pairs: int
    """Images with masks that were found."""

    status: str = RUNNING
    partial: bool = False
    """Whether fewer pairs than the authors ship, or errors, were allowed."""

    images: int = 0
    """Rows that were written."""

    errors: int = 0
    """Pairs that cannot be used."""

    parts: list[tuple[str, int]] = field(default_factory=list)
    """Files, and how many rows each has."""

    pixels: list[int] = field(default_factory=list)
    """Of each class, and at last those without one."""

    digest: str | None = None
    """SHA-256 of the names, images and masks."""

    remarks: list[str] = field(default_factory=list)
    """What was missing or unexpected."""

    @property
    def is_done(self) -> bool:
        """Say whether all of it is written."""
        return self.status == DONE


def read_record(output: Location, split: str) -> Record | None:
    """Return what prepared.json says about a split; None where there is none.

    Raises:
        ValueError: The file is none of ours.
    """
    place = output.at(split, RECORD_FILE)
    if not place.exists():
        return None
    try:
        found = json.loads(place.read())
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        parts = [(str(name), int(rows)) for name, rows in found.pop("parts")]
        return Record(**found, parts=parts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{place.uri} was not written by this version of prepare: {error}"
        ) from error


def write_record(output: Location, record: Record) -> None:
    """Write prepared.json of a split, all of it or nothing."""
    found: dict[str, Any] = {"format": FORMAT, **asdict(record)}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    output.at(record.split, RECORD_FILE).write(text.encode() + b"\n")


def is_prepared(place: Location) -> bool:
    """Say whether `prepare` wrote a folder, or began to."""
    return any(place.at(split, RECORD_FILE).exists() for split in SPLITS)


def open_split(name: str, place: Location, split: str) -> Record:
    """Return what was prepared of a split.

    Raises:
        ValueError: Another dataset was, or another split, or not all of it.
        OSError: It cannot be read.
    """
    found = {key: record for key in SPLITS if (record := read_record(place, key)) is not None}
    record = found.get(split) or found.get("all")
    if record is None:
        raise ValueError(f"{place.uri} holds the split {' and '.join(found)}, not {split!r}")
    if record.dataset != name:
        raise ValueError(f"{place.uri} holds the dataset {record.dataset!r}, not {name!r}")
    if not record.is_done:
        raise ValueError(
            f"the preparation of {place.uri} is not complete: the command that began it goes on"
        )
    check_parts(place, record)
    return record


def check_parts(place: Location, record: Record) -> None:
    """Require that all files of a split are there."""
    there = {info.base_name for info in shards.parts(place, record.split)}
    gone = [name for name, _ in record.parts if name not in there]
    if gone:
        raise ValueError(
            f"{len(gone)} of {len(record.parts)} files are gone from {place.at(record.split).uri}, "
            f"like {gone[0]}: prepare it again"
        )


def groups(parts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return the row groups of all files: part, group, rows."""
    return [
        {"part": name, "group": start // GROUP, "rows": min(GROUP, rows - start)}
        for name, rows in parts
        for start in range(0, rows, GROUP)
    ]
