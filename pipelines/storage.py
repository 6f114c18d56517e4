"""Files on any filesystem that pyarrow knows: a local path, file://, s3:// or gs://."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import os
import posixpath
import re
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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

from pipelines.buckets import bucket_filesystem
from pipelines.walking import walk

DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")
"""Name of a file that is being written."""

PROBE = f".writable.{0:032x}"
"""Name, like a draft's, of an object that shows that a bucket can be written to."""

BUCKET = r"(?:s3|gs)://[^/]+"
"""Start of a URI that points into a bucket."""


PIECE = 2**22
"""Bytes of a stream of unknown length that are read at a time."""


class TooManyBytesError(OSError):
    """A file is larger than what asks for it can hold."""


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
        """Yield the paths of all files below this folder, some together, as `walking.walk` does."""
        return walk(self.fs, self.path)

    def read(self) -> bytes:
        """Return the whole content."""
        with self.fs.open_input_stream(self.path, compression=None) as stream:
            return stream.read()

    def read_at_most(self, limit: int) -> bytes:
        """Return the whole content of a file of up to `limit` bytes.

        Raises:
            TooManyBytesError: It has more; of all but Google's none were read.
        """
        if isinstance(self.fs, GcsFileSystem):  # its files that know their size hang on an emulator
            return self.read_pieces(limit)
        with self.fs.open_input_file(self.path) as file:
            if file.size() > limit:
                raise TooManyBytesError(f"{file.size()} bytes; files of up to {limit} are read")
            return file.read()

    def read_pieces(self, limit: int) -> bytes:
        """Return the content piece by piece, as long as it is not more than `limit` bytes."""
        pieces, size = [], 0
        with self.fs.open_input_stream(self.path, compression=None) as stream:
            while piece := stream.read(PIECE):
                size += len(piece)
                if size > limit:
                    raise TooManyBytesError(f"more than {limit} bytes; no more are read")
                pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: bytes | pa.Buffer) -> None:
        """Write the whole content at once: a reader sees all of it or nothing.

        A local file gets its name when it is complete; an object store shows an object when its
        upload is complete.
        """
        if not isinstance(self.fs, LocalFileSystem):
            # An exception may leave Arrow's stream open, which then completes the upload with what
            # it has. In a thread no signal can raise one; Ray ends workers by signals.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(put, self.fs, self.path, data).result()
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
        """Make the folder where it is local; into a bucket, write a small object and delete it.

        Raises:
            OSError: It cannot be written to.
        """
        if isinstance(self.fs, LocalFileSystem):
            self.fs.create_dir(self.path, recursive=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(f"the folder {self.path} cannot be written to")
            return
        if self.fs.get_file_info(self.path.partition("/")[0]).type == FileType.NotFound:
            raise FileNotFoundError(f"there is no bucket for {self.uri}")
        probe = self.at(PROBE)
        try:
            probe.write(b"This object may be deleted.\n")
        except OSError as error:
            raise PermissionError(f"{self.uri} cannot be written to: {error}") from error
        with suppress(OSError):  # deleted by another job that starts; or deleting is forbidden
            self.fs.delete_file(probe.path)

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
