"""The paths of all files below a folder, a bounded number at a time."""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pyarrow.fs import FileSystem, LocalFileSystem

from pipelines import amazon_keys, google_keys
from pipelines.buckets import PatientS3
from pipelines.keys import Ask, Page, bucket_keys

CHUNK = 65_536
"""Paths that are Python strings at a time."""

SECONDS_BETWEEN_LINES = 10.0
"""Of the log, while a folder is listed."""

Ancestors = frozenset[tuple[int, int]]
"""Device and number of every folder on the way to a folder."""

logger = logging.getLogger(__name__)


def walk(fs: FileSystem, folder: str) -> Iterator[list[str]]:
    """Yield the paths of all files below a folder, in no order, up to `CHUNK` together.

    Of a local folder nothing more is in memory, and of a bucket some pages of its keys. Every
    `SECONDS_BETWEEN_LINES` the log says how many were found.

    Raises:
        OSError: It cannot be listed.
    """
    if isinstance(fs, LocalFileSystem):
        paths = local_files(folder)
    else:
        paths = itertools.chain.from_iterable(bucket_keys(page_lister(fs), folder))
    paths = counted(paths, folder)
    while chunk := list(itertools.islice(paths, CHUNK)):
        yield chunk


def counted(paths: Iterable[str], folder: str) -> Iterator[str]:
    """Yield paths; say from time to time how many there are by then."""
    said = time.monotonic()
    for count, path in enumerate(paths, 1):
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            logger.info("Listing %s: %d files so far", folder, count)
            said = time.monotonic()
        yield path


def page_lister(fs: FileSystem) -> Callable[[Ask], Page]:
    """Return what lists a page of a bucket where and as whom the filesystem reads it."""
    if isinstance(fs, PatientS3):
        return partial(amazon_keys.list_page, client=amazon_keys.connect(fs))
    return partial(google_keys.list_page, client=google_keys.connect())


def local_files(top: str) -> Iterator[str]:
    """Yield the files below a local folder; links are followed, but not to a folder around them.

    A link to nothing counts as a file: it is somebody's image that is missing. Sockets, pipes and
    devices are no files. A name that is not UTF-8 has its bytes as surrogates.
    """
    waiting: list[tuple[str, Ancestors]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)  # noqa: PTH116
        this = (status.st_dev, status.st_ino)
        if this in above:
            logger.warning("%s leads back to a folder around it: it is not listed again", folder)
            continue
        around = above | {this}
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_folder(entry):
                    waiting.append((entry.path, around))
                elif is_file(entry):
                    yield entry.path


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a file, or a link to one or to nothing."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry))  # noqa: PTH110
    except OSError:
        return True
