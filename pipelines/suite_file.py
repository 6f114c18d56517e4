"""What the table of speeds found, in a file: a row is there as soon as it is measured.

A later command that measures some rows again puts them among the others, if these are of the same
device, torch, model and allocator.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.storage import locate
from pipelines.suite import Row, compare

SAME = ("device", "torch", "model", "allocator")
"""Facts that rows of one file share."""

OWN = ("date", "command")
"""Facts that each row has of its own."""


class SuiteFile:
    """The rows of the table, what approximations cost, and what failed."""

    def __init__(self, file: Path, facts: Mapping[str, Any], order: Sequence[str]) -> None:
        """Take over the rows that a file holds, if they go together with what is measured now.

        Args:
            file: JSON. If its rows are of another device, it is kept as NAME.previous-1.json, or
                the next number that is free.
            facts: What the figures must be read with.
            order: Names of all rows of the table; others are left out.
        """
        self.file, self.facts, self.order = file, facts, order
        self.rows: dict[str, dict[str, Any]] = {}
        self.accuracy: list[dict[str, Any]] = []
        self.errors: dict[str, str] = {}
        earlier = read(file)
        if all(earlier.get(name) == facts[name] for name in SAME):
            self.rows = {row["name"]: row for row in earlier["rows"]}
            self.accuracy, self.errors = earlier["accuracy"], earlier["errors"]
        elif file.exists():
            file.replace(free_name(file))

    def put_row(self, row: Mapping[str, Any]) -> None:
        """Put a row in the place of an earlier one of its name, and write the file.

        One that failed takes the place of none that did not: that it failed is noted.
        """
        name = row["name"]
        self.errors.pop(name, None)
        if row["error"] and name in self.rows and not self.rows[name]["error"]:
            self.errors[name] = row["error"]
        else:
            self.rows[name] = {**row, **{fact: self.facts[fact] for fact in OWN}}
        self.write()

    def compare_again(self, table: Sequence[Row]) -> None:
        """Compare the rows anew, and write: what one is compared with may have been measured since.

        Args:
            table: All rows.
        """
        for row in table:
            one, before = self.rows.get(row.name), self.rows.get(row.speedup_of)
            if one is not None and before is not None and not one["error"]:
                one |= compare(row, one["case"], before)
        self.write()

    def put_accuracy(self, accuracy: Iterable[Mapping[str, Any]]) -> None:
        """Put what approximations cost in the place of what was found earlier, and write."""
        self.accuracy = [{**one, **{name: self.facts[name] for name in OWN}} for one in accuracy]
        self.write()

    def put_error(self, part: str, error: str | None) -> None:
        """Note why a part beside the rows failed, or that it did not, and write the file."""
        self.errors.pop(part, None)
        if error is not None:
            self.errors[part] = error
        self.write()

    def failed(self, names: Iterable[str]) -> list[str]:
        """Return which of some rows and parts failed."""
        errors = {name: row["error"] for name, row in self.rows.items()} | self.errors
        return [name for name in names if errors.get(name)]

    def in_order(self) -> list[dict[str, Any]]:
        """Return the rows that there are, as the table has them."""
        return [self.rows[name] for name in self.order if name in self.rows]

    def result(self) -> dict[str, Any]:
        """Return what the file holds."""
        found = {"rows": self.in_order(), "accuracy": self.accuracy, "errors": self.errors}
        return {**self.facts, **found}

    def write(self) -> None:
        """Write the file at once: one who reads it, or a kill, finds all of it or the earlier."""
        text = json.dumps(self.result(), indent=1)
        locate(str(self.file)).write(text.encode())


def free_name(file: Path) -> Path:
    """Return a name for what is set aside that no file has yet."""
    names = (file.with_suffix(f".previous-{number}.json") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def read(file: Path) -> dict[str, Any]:
    """Return what an earlier command wrote; nothing if this one cannot go on with it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and {"rows", "accuracy", "errors"} <= found.keys()
    return found if whole else {}
