"""Which of many URIs were met, how often, and which others.

The URIs stay in an Arrow array: a set of Python strings takes five times as much memory.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa


class SortedURIs:
    """URIs that can be looked up.

    Args:
        uris: Large strings, sorted, each once.
    """

    def __init__(self, uris: pa.Array) -> None:
        self.uris = uris
        self.next = 0

    def at(self, place: int) -> str | None:
        """Return the URI in a place; None after the last."""
        return self.uris[place].as_py() if place < len(self.uris) else None

    def find(self, uri: str) -> int | None:
        """Return the place of a URI; None where it is not among them.

        Most come in order: what follows the last one found is looked at first.
        """
        if self.at(self.next) != uri:
            places = range(len(self.uris))
            self.next = bisect_left(places, uri, key=lambda place: self.uris[place].as_py())
            if self.at(self.next) != uri:
                return None
        self.next += 1
        return self.next - 1


class RollCall:
    """Count how often each of these URIs is met.

    Args:
        expected: Large strings, sorted, each once.
    """

    def __init__(self, expected: pa.Array) -> None:
        self.expected = SortedURIs(expected)
        self.times = np.zeros(len(expected), np.int32)
        """Of each that is expected."""

        self.unknown = Counter[str]()
        """How often each of the others was met."""

    def meet(self, uris: Iterable[str]) -> None:
        """Count these."""
        for uri in uris:
            place = self.expected.find(uri)
            if place is None:
                self.unknown[uri] += 1
            else:
                self.times[place] += 1

    def repeated(self) -> list[tuple[str, int]]:
        """Return the URIs that were met more than once, sorted, and how often."""
        known = ((uri, int(self.times[place])) for place, uri in self.where(self.times > 1))
        unknown = ((uri, times) for uri, times in self.unknown.items() if times > 1)
        return sorted([*known, *unknown])

    def missing(self) -> Iterator[str]:
        """Yield the URIs that were not met, in order."""
        return (uri for _, uri in self.where(self.times == 0))

    def where(self, chosen: np.ndarray) -> Iterator[tuple[int, str]]:
        """Yield the places that are chosen, and the URIs in them."""
        for place in np.flatnonzero(chosen):
            yield int(place), self.expected.uris[place].as_py()


def absent(uris: pa.Array, there: pa.Array) -> Iterator[str]:
    """Yield the URIs of the first array that the second, sorted, each once, does not have."""
    known = SortedURIs(there)
    for uri in uris:
        if known.find(uri.as_py()) is None:
            yield uri.as_py()
