"""The paths of all files below a folder, a bounded number at a time."""

import itertools
import logging
import os
from collections.abc import Iterator

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from pipelines.buckets import PatientS3
from pipelines.keys import bucket_keys

CHUNK = 65_536
"""Paths that are Python strings at a time."""

Ancestors = frozenset[tuple[int, int]]
"""Device and number of every folder on the way to a folder."""

logger = logging.getLogger(__name__)


def walk(fs: FileSystem, folder: str) -> Iterator[list[str]]:
    """Yield the paths of all files below a folder, in no order, up to `CHUNK` together.

    Of a local folder nothing more is in memory, and of a bucket of S3 some pages of its keys. Of
    Google's all keys of the prefix are together, since pyarrow has no pages: 35 bytes of a key took
    300 (measured with as many files on disk), ten million keys take 3 GB; a list of the keys
    (`--images keys.parquet`) does not.
    """
    if isinstance(fs, LocalFileSystem):
        paths = local_files(folder)
    elif isinstance(fs, PatientS3):
        paths = itertools.chain.from_iterable(bucket_keys(fs, folder))
    else:
        paths = iter(listed_at_once(fs, folder))
    while chunk := list(itertools.islice(paths, CHUNK)):
        yield chunk


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


def listed_at_once(fs: FileSystem, folder: str) -> list[str]:
    """Return the files below a folder that pyarrow lists; none where there is nothing."""
    found = fs.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return [info.path for info in found if info.type == FileType.File]
