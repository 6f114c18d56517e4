"""First step of labelling: a shard's URIs become decoded images.

Rows: `rows.SHARD` in, `rows.DECODED` out. No row is dropped: an unreadable image
carries its error on.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow.fs import FileSystem

from pipelines import rows
from pipelines.buckets import may_be_of_one
from pipelines.decoder_process import Pending, child
from pipelines.faults import Surroundings, raise_fault, read_again
from pipelines.images import ImageError
from pipelines.storage import Location, TooManyBytesError, locate

READ_AHEAD = 8
"""Files of a shard that are fetched while another one is decoded."""

MAX_BYTES = 2**30
"""A larger file is refused before it is read; `READ_AHEAD` of this size are in memory at most."""

Row = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Decode:
    """Read and decode the images of one shard."""

    short_side: int
    """Wanted length of the shorter side, in pixels."""

    long_side: int
    """Bound of the longer side, in pixels."""

    seconds: float = 60.0
    """Time that decoding one image may take."""

    filesystems: Mapping[str, FileSystem] = field(default_factory=dict)
    """Of the buckets that the images are in, from `storage.open_buckets`."""

    around: Surroundings = field(default_factory=Surroundings)
    """What tells one image that cannot be read from an outage."""

    def __call__(self, shard: pa.Table) -> Iterator[pa.Table]:
        """Yield the images of each shard, a row of `rows.DECODED` for each."""
        for row in shard.to_pylist():
            yield self.decode(row["shard"], row["image_uris"])

    def decode(self, shard: int, uris: list[str]) -> pa.Table:
        """Return the rows of one shard."""
        pixels, found = Pixels(len(uris)), []
        fetch = partial(self.fetch, beside=uris)
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            started = (self.start(fetched) for fetched in ahead(pool, fetch, uris))
            for uri, finish in zip(uris, one_ahead(started), strict=True):
                origin = {"shard": shard, "shard_size": len(uris), "image_uri": uri}
                decoded = origin | finish()
                pixels.add(decoded.pop("pixels", None))
                found.append(decoded)
        table = pa.Table.from_pylist(found, schema=rows.DECODED)
        place = rows.DECODED.get_field_index("pixels")
        return table.set_column(place, rows.DECODED.field(place), pixels.column())

    def fetch(self, uri: str, beside: Sequence[str] = ()) -> bytes | OSError:
        """Return the content of a file, or why it cannot be read; an outage ends the job.

        Args:
            uri: Of the file.
            beside: The URIs of its shard; where one of them can be read, it is no outage that this
                one alone cannot.
        """
        try:
            place = locate(uri, self.filesystems)
        except ValueError as error:  # a scheme that is not known here
            return OSError(str(error))
        try:
            return place.read_at_most(MAX_BYTES)
        except OSError as error:
            return self.judge(error, place, beside)
        except ValueError as error:  # a path that pyarrow does not take
            return OSError(str(error))

    def judge(self, error: OSError, place: Location, beside: Sequence[str]) -> bytes | OSError:
        """Return why a file cannot be read, or its content after all; an outage ends the job."""
        try:
            raise_fault(error, place, self.around)
        except OSError as outage:
            if not may_be_of_one(outage):
                raise
            others = self.known_places([*beside, *self.around.samples])
            return read_again(outage, place, others, MAX_BYTES)
        return error

    def known_places(self, uris: Iterable[str]) -> Iterator[Location]:
        """Yield where these URIs point, except those of a scheme that is not known here."""
        for uri in uris:
            with suppress(ValueError):
                yield locate(uri, self.filesystems)

    def start(self, fetched: bytes | OSError) -> Callable[[], Row]:
        """Begin to decode a file; return what waits for its pixels and what is known about it."""
        if isinstance(fetched, OSError):
            kinds = {FileNotFoundError: "NotFound", TooManyBytesError: "TooLarge"}
            return partial(failure, kinds.get(type(fetched), "Unreadable"), fetched)
        pending = child(self.short_side, self.long_side).submit(fetched, self.seconds)
        return partial(self.finish, pending, hashlib.sha256(fetched).hexdigest())

    def finish(self, pending: Pending, digest: str) -> Row:
        """Return the pixels of a file and what is known about it, or the error."""
        known = {"image_sha256": digest}
        try:
            photo = pending.result()
        except ImageError as error:
            return known | failure(error.kind, error)
        height, width = photo.pixels_HW3.shape[:2]
        return known | {
            "width": photo.width,
            "height": photo.height,
            "pixels": photo.pixels_HW3,
            "pixels_width": width,
            "pixels_height": height,
        }


class Pixels:
    """The column of pixels of a shard, copied once from where they were decoded.

    All lie in one large array: memory that is touched for the first time costs more than the copy,
    and the least in large pieces.
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.data = np.empty(0, np.uint8)
        self.offsets = [0]
        self.known: list[bool] = []

    def add(self, pixels: np.ndarray | None) -> None:
        """Append the pixels of an image, or that there are none."""
        start = self.offsets[-1]
        if pixels is not None:
            self.make_room(start + pixels.size, pixels.size)
            self.data[start : start + pixels.size] = pixels.reshape(-1)
        self.known.append(pixels is not None)
        self.offsets.append(start + (pixels.size if pixels is not None else 0))

    def make_room(self, needed: int, usual: int) -> None:
        """Have room for so many bytes, and for the images to come if they are like this one."""
        if needed > len(self.data):
            to_come = (self.num_images - len(self.known)) * usual
            larger = np.empty(self.offsets[-1] + to_come, np.uint8)
            larger[: self.offsets[-1]] = self.data[: self.offsets[-1]]
            self.data = larger

    def column(self) -> pa.Array:
        """Return a large binary for each image, null where there is none."""
        _, known = pa.array(self.known, pa.bool_()).buffers()
        offsets = pa.py_buffer(np.array(self.offsets, np.int64))
        data = pa.py_buffer(self.data[: self.offsets[-1]])
        buffers = [known, offsets, data]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self.known), buffers)


def ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    count: int = READ_AHEAD,
) -> Iterator[Result]:
    """Yield function(item) in order, so many calls ahead of the reader."""
    pending = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def one_ahead(items: Iterable[Item]) -> Iterator[Any]:
    """Yield items, each after the next one was asked for."""
    for item, _ in itertools.pairwise(itertools.chain(items, [None])):
        yield item


def failure(kind: str, error: Exception) -> Row:
    """Return the columns that say what went wrong with an image."""
    return {"error_type": kind, "message": " ".join(str(error).split()) or type(error).__name__}
