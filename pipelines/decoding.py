"""First step of labelling: a shard's URIs become decoded images.

Rows: `rows.SHARD` in, `rows.DECODED` out. No row is dropped: an unreadable image
carries its error on.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow.fs import FileSystem

from pipelines import rows
from pipelines.decoder_process import Pending, child
from pipelines.images import ImageError
from pipelines.storage import is_outage, locate

READ_AHEAD = 8
"""Files of a shard that are fetched while another one is decoded."""

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

    def __call__(self, shard: pa.Table) -> Iterator[pa.Table]:
        """Yield a row of `rows.DECODED` for each image."""
        for row in shard.to_pylist():
            uris = row["image_uris"]
            origin = {"shard": row["shard"], "shard_size": len(uris)}
            with ThreadPoolExecutor(READ_AHEAD) as pool:
                started = (self.start(fetched) for fetched in ahead(pool, self.fetch, uris))
                for uri, finish in zip(uris, one_ahead(started), strict=True):
                    decoded = origin | {"image_uri": uri} | finish()
                    yield pa.Table.from_pylist([decoded], schema=rows.DECODED)

    def fetch(self, uri: str) -> bytes | OSError:
        """Return the content of a file, or why it cannot be read; an outage ends the job."""
        try:
            return locate(uri, self.filesystems).read()
        except ValueError as error:  # a scheme that is not known here
            return OSError(str(error))
        except OSError as error:
            if is_outage(error):
                raise
            return error

    def start(self, fetched: bytes | OSError) -> Callable[[], Row]:
        """Begin to decode a file; return what waits for its pixels and what is known about it."""
        if isinstance(fetched, OSError):
            kind = "NotFound" if isinstance(fetched, FileNotFoundError) else "Unreadable"
            return partial(failure, kind, fetched)
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
            "pixels": photo.pixels_HW3.tobytes(),
            "pixels_width": width,
            "pixels_height": height,
        }


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield function(item) in order, a bounded number of calls ahead of the reader."""
    pending = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > READ_AHEAD:
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
