"""Files on any filesystem that pyarrow knows: a local path, file://, s3:// or gs://."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import os
import posixpath
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import (
    FileInfo,
    FileSelector,
    FileSystem,
    FileType,
    GcsFileSystem,
    LocalFileSystem,
)

from pipelines.buckets import bucket_filesystem, is_denied, raise_outage

DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")
"""Name of a file that is being written."""

BUCKET = r"(?:s3|gs)://[^/]+"
"""Start of a URI that points into a bucket."""

PROBES = 3
"""Inputs of a bucket that are tried before a job starts: the first, the last and one between."""

PROBE_BYTES = 4096
"""Read of each: pyarrow has room for no more of the answer, be it what the store refuses with."""


@dataclass(frozen=True)
class Location:
    """A file or folder, and the filesystem it is on; travels to workers as it is."""

    fs: FileSystem
    path: str
    root: str = ""
    """What stands before `path` in a URI: "" for a local file, else like "s3://"."""

    @property
    def uri(self) -> str:
        """The location as a person writes it; a local path is absolute."""
        return self.root + self.path

    def at(self, *names: str) -> "Location":
        """Return a location under this one."""
        return Location(self.fs, posixpath.join(self.path, *names), self.root)

    def info(self) -> FileInfo:
        """Say what is there."""
        return self.fs.get_file_info(self.path)

    def is_empty(self) -> bool:
        """Say whether nothing is in this folder, or there is no such folder.

        What a `write` left that was killed does not count.
        """
        # Google has no folders that a listing of one level could show.
        deep = isinstance(self.fs, GcsFileSystem)
        selector = FileSelector(self.path, recursive=deep, allow_not_found=True)
        found = self.fs.get_file_info(selector)
        return all(DRAFT.fullmatch(info.base_name) for info in found)

    def exists(self) -> bool:
        """Say whether a file or folder is there."""
        return self.info().type != FileType.NotFound

    def files(self, *, recursive: bool = False) -> list[FileInfo]:
        """Return the files in this folder, by path; none where there is no such folder."""
        selector = FileSelector(self.path, recursive=recursive, allow_not_found=True)
        found = [info for info in self.fs.get_file_info(selector) if info.type == FileType.File]
        return sorted(found, key=lambda info: info.path)

    def walk(self) -> Iterator[list[str]]:
        """Yield the paths of all files below this folder, those of each folder in it together.

        What lies directly in the folder comes first, then one folder after the other: no more than
        the largest of them is in memory. Google knows no folders: there all comes together.
        """
        if isinstance(self.fs, GcsFileSystem):
            yield [info.path for info in self.files(recursive=True)]
            return
        found = self.fs.get_file_info(FileSelector(self.path))
        yield [info.path for info in found if info.type == FileType.File]
        folders = sorted(info.path for info in found if info.type == FileType.Directory)
        del found
        for folder in folders:
            inside = self.fs.get_file_info(FileSelector(folder, recursive=True))
            yield [info.path for info in inside if info.type == FileType.File]

    def read(self) -> bytes:
        """Return the whole content."""
        with self.fs.open_input_stream(self.path, compression=None) as stream:
            return stream.read()

    def write(self, data: bytes | pa.Buffer) -> None:
        """Write the whole content at once: a reader sees all of it or nothing.

        A local file gets its name when it is complete; an object store shows an object when its
        upload is complete.
        """
        if not isinstance(self.fs, LocalFileSystem):
            put(self.fs, self.path, data)
            return
        folder, name = posixpath.split(self.path)
        self.fs.create_dir(folder, recursive=True)
        draft = posixpath.join(folder, f".{name}.{uuid.uuid4().hex}")
        try:
            put(self.fs, draft, data)
            self.fs.move(draft, self.path)
        except BaseException:
            if self.fs.get_file_info(draft).type == FileType.File:
                self.fs.delete_file(draft)
            raise

    def check_writable(self) -> None:
        """Make the folder where it is local; a bucket must be there.

        Raises:
            OSError: It cannot be written to.
        """
        if isinstance(self.fs, LocalFileSystem):
            self.fs.create_dir(self.path, recursive=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(f"the folder {self.path} cannot be written to")
        elif self.fs.get_file_info(self.path.partition("/")[0]).type == FileType.NotFound:
            raise FileNotFoundError(f"there is no bucket for {self.uri}")

    def remove(self) -> None:
        """Delete the file, or the folder with all that is in it; nothing there is no error."""
        kind = self.info().type
        if kind == FileType.Directory:
            try:
                self.fs.delete_dir(self.path)
            except FileNotFoundError:  # Google had no marker of the folder itself
                if self.exists():
                    raise
        elif kind != FileType.NotFound:
            self.fs.delete_file(self.path)


def put(fs: FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    """Write a file; it is closed only when all of it was written."""
    stream = fs.open_output_stream(path, compression=None)
    stream.write(data)
    stream.close()


def locate(uri: str, filesystems: Mapping[str, FileSystem] | None = None) -> Location:
    """Return where a URI points; an S3-compatible endpoint comes from AWS_ENDPOINT_URL.

    Args:
        uri: A path, file://, s3://bucket/... or gs://bucket/...
        filesystems: From `open_buckets`: use these and ask no variable of this machine.

    Raises:
        ValueError: A scheme that is not known here.
        OSError: The bucket cannot be reached.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Location(LocalFileSystem(), local_path(uri))
    if scheme == "file":
        return Location(LocalFileSystem(), local_path(unquote(urlsplit(uri).path)))
    bucket = bucket_of(uri)
    if bucket is None:
        raise ValueError(f"{uri!r} is no path, file://, s3://bucket/... or gs://bucket/...")
    fs = filesystems[bucket] if filesystems is not None else bucket_filesystem(bucket)
    return Location(fs, rest.rstrip("/"), f"{scheme}://")


def local_path(path: str) -> str:
    """Return an absolute path, without touching the links in it."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def bucket_of(uri: str) -> str | None:
    """Return "s3://bucket" or "gs://bucket" of a URI that starts so, else None."""
    match = re.match(BUCKET, uri)
    return match[0] if match else None


def open_buckets(uris: pa.Array | pa.ChunkedArray) -> dict[str, FileSystem]:
    """Return the filesystem of every bucket that these URIs name.

    They hold the endpoint and, where the environment has them, the keys of this machine: sent to a
    worker, they read there what can be read here.
    """
    starts = pc.unique(pc.struct_field(pc.extract_regex(uris, f"^(?P<bucket>{BUCKET})"), "bucket"))
    buckets = sorted(bucket for bucket in starts.to_pylist() if bucket)
    return {bucket: bucket_filesystem(bucket) for bucket in buckets}


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
        tried = sorted({first + (count - 1) * step // (PROBES - 1) for step in range(PROBES)})
        # A few objects of a larger corpus that may not be read are rows of errors/.
        few = count < PROBES and count < len(uris)
        if not few and all(denies(locate(uris[row].as_py(), filesystems)) for row in tried):
            raise PermissionError(
                f"{bucket} can be listed but not read: {uris[first].as_py()} is denied, and so is "
                f"every other object that was tried ({len(tried)} of {count})"
            )


def denies(place: Location) -> bool:
    """Say whether a file may not be read; what else may be wrong with it is said later."""
    try:
        with place.fs.open_input_file(place.path) as file:
            file.read(PROBE_BYTES)
    except OSError as error:
        raise_outage(error, place.fs, place.path)
        return is_denied(error)
    return False
