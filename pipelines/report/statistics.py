"""Count what labels/ and errors/ hold, file by file, without reading a mask.

Shapes: N classes.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.decoding import ahead
from pipelines.shards import ERRORS, LABELS, parts
from pipelines.storage import Location

COLUMNS = [
    "image_uri",
    "width",
    "height",
    "segments.list.element.category_id",
    "segments.list.element.pixels",
    "segments.list.element.mean_confidence",
    "ignored_fraction",
    "mean_confidence",
    "candidates",
    "rivals",
]
"""All that the numbers need; the masks stay where they are."""

READERS = 16
"""Files that are fetched at the same time."""

CONFIDENCE_BINS = 20

MAX_ERRORS = 200
"""Errors that the page lists; all are counted."""


@dataclass(frozen=True)
class Pick:
    """A row to show: the file it is in and its place there."""

    file: str
    index: int


@dataclass
class Lowest:
    """Keep the `size` rows of lowest rank out of any number."""

    size: int
    kept: list[tuple[float, str, int]] = field(default_factory=list)
    """A heap, the highest rank first: (-rank, file, -index)."""

    def add(self, rank: float, file: str, index: int) -> None:
        """Offer a row."""
        item = (-rank, file, -index)
        if len(self.kept) < self.size:
            heapq.heappush(self.kept, item)
        elif self.size:
            heapq.heappushpop(self.kept, item)

    def picks(self) -> list[Pick]:
        """Return what was kept, lowest first."""
        return [Pick(file, -index) for _, file, index in sorted(self.kept, reverse=True)]


@dataclass
class Largest:
    """For each class the row where it has the most pixels."""

    pixels_N: np.ndarray
    picks: dict[int, Pick] = field(default_factory=dict)

    def add(self, index: np.ndarray, pixels: np.ndarray, row: np.ndarray, file: str) -> None:
        """Offer segments: their classes, their sizes and the rows of a file that they are in."""
        order = np.lexsort((-row, pixels, index))
        last = order[np.flatnonzero(np.diff(index[order], append=-1))]
        for place in last[pixels[last] > self.pixels_N[index[last]]].tolist():
            self.pixels_N[index[place]] = pixels[place]
            self.picks[int(index[place])] = Pick(file, int(row[place]))


@dataclass(frozen=True)
class Confusion:
    """Two classes that the model hesitates between, whichever of them won."""

    first: int
    second: int
    pixels: float
    """Contested pixels."""

    images: int
    pick: Pick
    """The image with the most contested pixels."""

    @property
    def pair(self) -> tuple[int, int]:
        """Both classes."""
        return self.first, self.second


@dataclass
class Contest:
    """What is counted of a pair of classes."""

    pixels: float = 0.0
    images: int = 0
    most: float = 0.0
    """Contested pixels of the image with the most."""

    pick: Pick | None = None


@dataclass
class LabelStatistics:
    """What all rows of labels/ add up to."""

    num_classes: int
    sample: Lowest
    uncertain: Lowest
    images: int = 0
    pixels: int = 0
    ignored_pixels: float = 0.0
    confidence_sum: float = 0.0
    candidates_sum: int = 0
    pixels_N: np.ndarray = field(init=False)
    images_N: np.ndarray = field(init=False)
    confidence_N: np.ndarray = field(init=False)
    """Confidence summed over the pixels of a class."""

    candidates: np.ndarray = field(init=False)
    """Number of images by number of surviving classes, 0 to N."""

    confidence: np.ndarray = field(init=False)
    """Number of images by mean confidence."""

    largest: Largest = field(init=False)
    contested: dict[int, Contest] = field(default_factory=dict)
    """By pair of classes, first * N + second."""

    def __post_init__(self) -> None:
        self.pixels_N = np.zeros(self.num_classes, np.int64)
        self.images_N = np.zeros(self.num_classes, np.int64)
        self.confidence_N = np.zeros(self.num_classes)
        self.candidates = np.zeros(self.num_classes + 1, np.int64)
        self.confidence = np.zeros(CONFIDENCE_BINS, np.int64)
        self.largest = Largest(np.zeros(self.num_classes))

    @property
    def mean_confidence(self) -> float:
        """Mean over images."""
        return self.confidence_sum / max(self.images, 1)

    @property
    def mean_candidates(self) -> float:
        """Mean number of classes that survived rejection."""
        return self.candidates_sum / max(self.images, 1)

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that have the ignore value."""
        return self.ignored_pixels / max(self.pixels, 1)

    @property
    def collapsed(self) -> list[int]:
        """Classes that won no pixel anywhere."""
        return np.flatnonzero(self.images_N == 0).tolist()

    def rarest(self, count: int) -> list[tuple[int, Pick]]:
        """Return the classes that the fewest images show, and the row that shows most of each."""
        shown = np.flatnonzero(self.images_N)
        order = shown[np.lexsort((self.pixels_N[shown], self.images_N[shown]))]
        return [(index, self.largest.picks[index]) for index in order[:count].tolist()]

    def confusions(self, count: int) -> list[Confusion]:
        """Return the pairs of classes that contest the most pixels, most first."""
        pairs = sorted(self.contested.items(), key=lambda item: (-item[1].pixels, item[0]))[:count]
        return [
            Confusion(*divmod(pair, self.num_classes), found.pixels, found.images, found.pick)
            for pair, found in pairs
            if found.pick is not None
        ]

    def add(self, batch: pa.RecordBatch, file: str, offset: int) -> None:
        """Count the rows of a batch that starts at row `offset` of a file."""
        sizes = batch["width"].to_numpy().astype(np.int64) * batch["height"].to_numpy()
        confidences = np.nan_to_num(numbers(batch["mean_confidence"]))
        self.images += batch.num_rows
        self.pixels += int(sizes.sum())
        self.ignored_pixels += float((numbers(batch["ignored_fraction"]) * sizes).sum())
        self.confidence_sum += float(confidences.sum())
        bins = (confidences.clip(0, 1) * CONFIDENCE_BINS).astype(int).clip(max=CONFIDENCE_BINS - 1)
        self.confidence += np.bincount(bins, minlength=CONFIDENCE_BINS)
        kept = numbers(batch["candidates"].value_lengths()).astype(int)
        self.candidates_sum += int(kept.sum())
        self.candidates += np.bincount(kept, minlength=self.num_classes + 1)
        self.add_segments(batch["segments"], file, offset)
        self.add_rivals(batch["rivals"], sizes, file, offset)
        uris = batch["image_uri"].to_pylist()
        for index, (uri, confidence) in enumerate(zip(uris, confidences, strict=True), offset):
            self.sample.add(spread(uri), file, index)
            self.uncertain.add(float(confidence), file, index)

    def add_segments(self, lists: pa.ListArray, file: str, offset: int) -> None:
        """Count the segments of a batch; a class has at most one in an image."""
        segments = lists.flatten()
        index, pixels = numbers(segments.field("category_id")), numbers(segments.field("pixels"))
        weights = np.nan_to_num(numbers(segments.field("mean_confidence"))) * pixels
        index = index.astype(int)
        self.images_N += np.bincount(index, minlength=self.num_classes)
        self.pixels_N += np.bincount(index, pixels, self.num_classes).astype(np.int64)
        self.confidence_N += np.bincount(index, weights, self.num_classes)
        self.largest.add(index, pixels, offset + pc.list_parent_indices(lists).to_numpy(), file)

    def add_rivals(self, lists: pa.ListArray, sizes: np.ndarray, file: str, offset: int) -> None:
        """Count the contested pixels of a batch whose images have so many pixels."""
        rivals, image = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
        won = numbers(rivals.field("category_id")).astype(int)
        lost = numbers(rivals.field("rival_id")).astype(int)
        pairs = np.minimum(won, lost) * self.num_classes + np.maximum(won, lost)
        contested = numbers(rivals.field("area_fraction")) * sizes[image]
        # A pair is twice in an image where each of the two wins somewhere.
        keys, place = np.unique(pairs * len(sizes) + image, return_inverse=True)
        areas = np.bincount(place, contested, len(keys))
        for key, area in zip(keys.tolist(), areas.tolist(), strict=True):
            pair, row = divmod(key, len(sizes))
            found = self.contested.setdefault(pair, Contest())
            found.pixels += area
            found.images += 1
            if area > found.most:
                found.most, found.pick = area, Pick(file, offset + row)


@dataclass
class ErrorStatistics:
    """What errors/ holds: all counted, some listed."""

    kinds: Counter[str] = field(default_factory=Counter)
    listed: list[dict[str, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of inputs that could not be labelled."""
        return self.kinds.total()


def read_labels(
    output: Location, num_classes: int, *, samples: int, uncertain: int
) -> LabelStatistics:
    """Count all rows of labels/ and choose which to show."""
    statistics = LabelStatistics(num_classes, Lowest(samples), Lowest(uncertain))
    files = [info.path for info in parts(output, LABELS)]
    with ThreadPoolExecutor(READERS) as pool:
        read = partial(all_batches, output, columns=COLUMNS)
        contents = ahead(pool, read, files, READERS)
        for file, found in zip(files, contents, strict=True):
            offset = 0
            for batch in found:
                statistics.add(batch, file, offset)
                offset += batch.num_rows
    return statistics


def all_batches(output: Location, file: str, columns: list[str]) -> list[pa.RecordBatch]:
    """Return the columns of one file."""
    return list(batches(output, file, columns))


def read_errors(output: Location) -> ErrorStatistics:
    """Count all rows of errors/ and list the first."""
    statistics = ErrorStatistics()
    columns = ["image_uri", "error_type", "message"]
    files = [info.path for info in parts(output, ERRORS)]
    with ThreadPoolExecutor(READERS) as pool:
        read = partial(all_batches, output, columns=columns)
        for found in ahead(pool, read, files, READERS):
            for batch in found:
                statistics.kinds.update(batch["error_type"].to_pylist())
                wanted = MAX_ERRORS - len(statistics.listed)
                statistics.listed += batch.slice(0, wanted).to_pylist()
    return statistics


def read_rows(
    output: Location, picks: list[Pick], columns: list[str]
) -> dict[Pick, dict[str, Any]]:
    """Return the chosen rows; of each file that holds one, a few rows are in memory at a time."""
    found: dict[Pick, dict[str, Any]] = {}
    for file in sorted({pick.file for pick in picks}):
        wanted = {pick.index: pick for pick in picks if pick.file == file}
        offset = 0
        for batch in batches(output, file, columns, size=8):
            for index in wanted.keys() & range(offset, offset + batch.num_rows):
                found[wanted[index]] = batch.slice(index - offset, 1).to_pylist()[0]
            offset += batch.num_rows
    return found


def batches(
    output: Location, file: str, columns: list[str], size: int = 4096
) -> Iterator[pa.RecordBatch]:
    """Yield the columns of one file; where its footer says that it has no rows, nothing is read."""
    with output.fs.open_input_file(file) as source:
        content = pq.ParquetFile(source)
        if content.metadata.num_rows:
            yield from content.iter_batches(batch_size=size, columns=columns)


def numbers(array: pa.Array) -> np.ndarray:
    """Return an Arrow array as floats; null is NaN."""
    return array.to_numpy(zero_copy_only=False).astype(np.float64)


def spread(uri: str) -> float:
    """Return a number in [0, 1) that depends on the URI only: the lowest are a fair sample."""
    return int.from_bytes(hashlib.sha256(uri.encode()).digest()[:8], "big") / 2**64
