"""Whether a dataset on disk is what its name says, before anything starts."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipelines.prepare.catalogue import FOLDER
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.pairs import Pairs
from pipelines.prepare.reading import PairError, ReadPair, Row
from pipelines.storage import Location

SAMPLED = 64
"""So many pairs of a benchmark are read before anything starts."""

OWN_SAMPLED = 1024
"""So many of a user's own, which nobody else has used before."""

THREADS = 8
"""Pairs that are read at a time."""


def find_checked(name: str, source: Location, split: str, *, allow_partial: bool) -> Pairs:
    """Find the pairs of a split.

    Raises:
        ValueError: They are not those of the dataset.
    """
    pairs = find_pairs(name, source, split)
    problems = [*pairs.wrong]
    if not allow_partial:
        problems += [*pairs.unmatched, *pairs.fewer]
    if problems:
        advice = "" if pairs.wrong else " (--allow-partial takes what is there)"
        raise ValueError(f"{name} in {pairs.root.uri}: {'; '.join(problems)}{advice}")
    check_not_empty(pairs)
    check_labels(pairs, allow_partial=allow_partial)
    return pairs


def check_not_empty(pairs: Pairs) -> None:
    """Require a pair."""
    if not len(pairs.table):
        raise ValueError(f"{pairs.name} in {pairs.root.uri}: no image has a mask")


def check_labels(pairs: Pairs, *, allow_partial: bool) -> None:
    """Read some masks: has one labels beyond the class list, nothing need start.

    Raises:
        ValueError: One has; or, where some may be left out, all have.
    """
    errors = sample(pairs)
    wrong = [error for error in errors if error and error.kind in ("UnknownLabels", "NotAMask")]
    if wrong and (not allow_partial or len(wrong) == len(errors)):
        raise ValueError(f"{pairs.name} in {pairs.root.uri}: {first_of(wrong, len(errors))}")


def check_sample(pairs: Pairs) -> None:
    """Read some pairs, which must all be right.

    Raises:
        ValueError: One is not.
    """
    errors = sample(pairs)
    wrong = [error for error in errors if error is not None]
    if wrong:
        raise ValueError(f"{pairs.name} in {pairs.root.uri}: {first_of(wrong, len(errors))}")


def first_of(wrong: Sequence[PairError], tried: int) -> str:
    """Return the first of some errors, and how many there are."""
    return f"{wrong[0]} ({len(wrong)} of {tried} pairs that were tried are wrong)"


def sample(pairs: Pairs) -> list[PairError | None]:
    """Return what is wrong with each of some pairs, taken evenly from all."""
    read = replace(ReadPair.of(pairs), reduce_to=None)
    most = OWN_SAMPLED if pairs.name == FOLDER else SAMPLED
    step = math.ceil(len(pairs.table) / most)
    found = (pairs.table.slice(index, 1) for index in range(0, len(pairs.table), step))
    chosen = [row for table in found for row in table.to_pylist()]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda pair: attempt(read, pair), chosen))


def attempt(read: ReadPair, pair: Row) -> PairError | None:
    """Return what is wrong with a pair."""
    try:
        read.row(pair)
    except PairError as error:
        return error
    return None
