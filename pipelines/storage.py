"""Files on any filesystem that pyarrow knows: a local path, file://, s3:// or gs://."""

import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow.fs import (
    FileInfo,
    FileSelector,
    FileSystem,
    FileType,
    LocalFileSystem,
    S3FileSystem,
    resolve_s3_region,
)

CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 60.0

OUTAGE_SIGNS = ("NETWORK_CONNECTION", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE")
"""In the messages of pyarrow, which has tried several times by then."""


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
        """Say whether nothing is in this folder, or there is no such folder."""
        return not self.fs.get_file_info(FileSelector(self.path, allow_not_found=True))

    def exists(self) -> bool:
        """Say whether a file or folder is there."""
        return self.info().type != FileType.NotFound

    def files(self, *, recursive: bool = False) -> list[FileInfo]:
        """Return the files in this folder, by path; none where there is no such folder."""
        selector = FileSelector(self.path, recursive=recursive, allow_not_found=True)
        found = [info for info in self.fs.get_file_info(selector) if info.type == FileType.File]
        return sorted(found, key=lambda info: info.path)

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
            self.fs.delete_dir(self.path)
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
    match = re.match(r"(s3|gs)://[^/]+", uri)
    return match[0] if match else None


def open_buckets(uris: Iterable[str]) -> dict[str, FileSystem]:
    """Return the filesystem of every bucket that these URIs name.

    They hold the endpoint and, where the environment has them, the keys of this machine: sent to a
    worker, they read there what can be read here.
    """
    buckets = {bucket for uri in uris if (bucket := bucket_of(uri))}
    return {bucket: bucket_filesystem(bucket) for bucket in sorted(buckets)}


@lru_cache(maxsize=256)
def bucket_filesystem(bucket: str) -> FileSystem:
    """Return the filesystem of "s3://bucket" or "gs://bucket", as its vendor's variables say."""
    if bucket.startswith("gs://"):
        return FileSystem.from_uri(bucket)[0]
    env = os.environ
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    keys = {}
    if "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env:
        keys["access_key"] = env["AWS_ACCESS_KEY_ID"]
        keys["secret_key"] = env["AWS_SECRET_ACCESS_KEY"]
        keys["session_token"] = env.get("AWS_SESSION_TOKEN")
    return S3FileSystem(
        **keys,
        endpoint_override=endpoint,
        region=region or ("us-east-1" if endpoint else resolve_s3_region(bucket[5:])),
        connect_timeout=CONNECT_TIMEOUT,
        request_timeout=REQUEST_TIMEOUT,
    )


def is_outage(error: OSError) -> bool:
    """Say whether an object store did not answer, rather than refuse one object."""
    return any(sign in str(error) for sign in OUTAGE_SIGNS)
