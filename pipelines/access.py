"""Whether what a job is to read may be read, asked before it starts."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import os
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem, LocalFileSystem

from pipelines.buckets import is_denied, raise_outage_of_all
from pipelines.storage import Location, locate

PROBES = 3
"""Inputs of a bucket that are tried before a job starts: the first, the last and one between."""

PROBE_BYTES = 4096
"""Read of each: pyarrow has room for no more of the answer, be it what the store refuses with."""


def check_readable(uris: pa.Array, filesystems: Mapping[str, FileSystem]) -> None:
    """Require that some of the inputs in each bucket can be read: it may allow listing alone.

    Args:
        uris: Of the inputs, sorted.
        filesystems: Of their buckets.

    Raises:
        OSError: All that were tried are forbidden; or the store does not know who asks.
    """
    for bucket in filesystems:
        inside = pc.starts_with(uris, bucket + "/")
        first, count = pc.index(inside, True).as_py(), pc.sum(inside).as_py()
        if not count:  # "s3://bucket" itself, which is no object
            continue
        tried = [first + row for row in spread(count)]
        # A few objects of a larger corpus that may not be read are rows of errors/.
        few = count < PROBES and count < len(uris)
        if not few and all(denies(locate(uris[row].as_py(), filesystems)) for row in tried):
            raise PermissionError(
                f"{bucket} can be listed but not read: {uris[first].as_py()} is denied, and so is "
                f"every other object that was tried ({len(tried)} of {count})"
            )


def spread(count: int) -> list[int]:
    """Return `PROBES` of so many rows, or all: the first, the last and what is between."""
    return sorted({(count - 1) * step // (PROBES - 1) for step in range(PROBES)} if count else ())


def denies(place: Location) -> bool:
    """Say whether a file may not be read; what else may be wrong with it is said later."""
    try:
        probe(place)
    except OSError as error:
        # What may be its own fault the first worker that reads it finds out.
        raise_outage_of_all(error, place.fs, place.path)
        return is_denied(error)
    except ValueError:  # a path that pyarrow does not take
        return False
    return False


def probe(place: Location) -> None:
    """Read the first bytes of a file, of a local one from the disk itself.

    Raises:
        OSError: They cannot be read.
        ValueError: It is a path that pyarrow does not take.
    """
    if isinstance(place.fs, LocalFileSystem):
        with open(place.path, "rb", buffering=0) as file:  # noqa: PTH123
            # What is in memory can still be read when the disk has failed.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read(PROBE_BYTES)
        return
    with place.fs.open_input_stream(place.path, compression=None) as stream:
        stream.read(PROBE_BYTES)
