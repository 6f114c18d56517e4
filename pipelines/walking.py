"""The paths of all files below a folder, a bounded number at a time."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pyarrow.fs import FileSelector, FileSystem, FileType, GcsFileSystem, LocalFileSystem

CHUNK = 65_536
"""Paths that are Python strings at a time."""

LISTINGS = 16
"""Folders of a bucket that are listed at a time."""

Ancestors = frozenset[tuple[int, int]]
"""Device and number of every folder on the way to a folder."""

logger = logging.getLogger(__name__)


def walk(fs: FileSystem, folder: str) -> Iterator[list[str]]:
    """Yield the paths of all files below a folder, in no order, up to `CHUNK` together.

    Of a local folder nothing more is in memory. Of a bucket of S3 up to `LISTINGS` folders
    are, each whole: pyarrow has no pages. A key of 35 bytes took 300 bytes (measured
    with as many files on disk), so a prefix of ten million keys without folders in it takes 3 GB; a
    list of the keys (`--images keys.parquet`) does not. Google knows no folders: there all keys of
    the prefix are in memory together.
    """
    if isinstance(fs, LocalFileSystem):
        paths = local_files(folder)
    elif isinstance(fs, GcsFileSystem):
        paths = iter(listed(fs, folder, recursive=True)[0])
    else:
        paths = itertools.chain.from_iterable(bucket_folders(fs, folder))
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


def bucket_folders(fs: FileSystem, top: str) -> Iterator[list[str]]:
    """Yield the files of each folder of a bucket, several folders being listed at a time."""
    waiting, running = [top], deque()
    with ThreadPoolExecutor(LISTINGS) as pool:
        while waiting or running:
            while waiting and len(running) < LISTINGS:
                running.append(pool.submit(bucket_folder, fs, waiting.pop()))
            files, folders = running.popleft().result()
            waiting += folders
            yield files


def bucket_folder(fs: FileSystem, folder: str) -> tuple[list[str], list[str]]:
    """Return the files and the folders in a folder of a bucket.

    A folder without a name ("a//b") looks to pyarrow like the folder that it is in: there, all is
    listed at once.
    """
    files, folders = listed(fs, folder, recursive=False)
    if any(inner.rstrip("/") == folder.rstrip("/") for inner in folders):
        return listed(fs, folder, recursive=True)[0], []
    return files, folders


def listed(fs: FileSystem, folder: str, *, recursive: bool) -> tuple[list[str], list[str]]:
    """Return the files and the folders that pyarrow lists; none where there is nothing."""
    selector = FileSelector(folder, recursive=recursive, allow_not_found=True)
    files: list[str] = []
    folders: list[str] = []
    for info in fs.get_file_info(selector):
        if info.type in (FileType.File, FileType.Directory):
            (files if info.type == FileType.File else folders).append(info.path)
    return files, folders
