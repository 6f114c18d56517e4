"""Files that are written piece by piece, so that no file has to fit into memory."""

import json
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from pyarrow.fs import FileType, LocalFileSystem

from pipelines.decoding import ahead
from pipelines.storage import Location

SEPARATOR = b",\n"
"""Between two records of a JSON list."""

CHUNK = 1 << 20

READERS = 16
"""Files that are opened at the same time."""


@contextmanager
def writing(place: Location) -> Iterator[BinaryIO]:
    """Open a new file; where the block fails there is none.

    A local file gets its name when it is complete; an object store shows an object when its upload
    is complete.
    """
    folder, name = posixpath.split(place.path)
    draft = place
    if isinstance(place.fs, LocalFileSystem):
        place.fs.create_dir(folder, recursive=True)
        draft = Location(place.fs, posixpath.join(folder, f".{name}.{uuid.uuid4().hex}"))
    stream = place.fs.open_output_stream(draft.path, compression=None)
    try:
        yield cast(BinaryIO, stream)
        stream.close()
        if draft is not place:
            place.fs.move(draft.path, place.path)
    except BaseException:
        # Closed first: an object that is still open would appear when its stream is forgotten.
        stream.close()
        if draft.info().type == FileType.File:
            draft.remove()
        raise


class Records:
    """JSON records on their way into a file, with a comma between any two."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.empty = True

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one more."""
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        self.stream.write((b"" if self.empty else SEPARATOR) + text.encode())
        self.empty = False


class Lines:
    """Lines of text on their way into a file."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def add(self, line: str) -> None:
        """Write one more."""
        self.stream.write(line.encode() + b"\n")


def append(stream: BinaryIO, pieces: Iterable[Location], *, separator: bytes = b"") -> None:
    """Copy files to the end of a stream, one after the other; empty ones leave no separator.

    While one is copied the next ones are opened, and their first bytes read: all of most.
    """
    between = b""
    with ThreadPoolExecutor(READERS) as pool:
        for source, begin in ahead(pool, opened, pieces, READERS):
            with source:
                if begin:
                    stream.write(between + begin)
                    shutil.copyfileobj(source, stream, CHUNK)
                    between = separator


def opened(piece: Location) -> tuple[BinaryIO, bytes]:
    """Open a file; return the stream and its first bytes, none of an empty one."""
    source = cast(BinaryIO, piece.fs.open_input_stream(piece.path, compression=None))
    return source, source.read(CHUNK)


def contents(places: Iterable[Location]) -> Iterator[bytes]:
    """Yield the contents of small files in order; the next ones are read meanwhile."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from ahead(pool, Location.read, places, READERS)


def write_json(
    place: Location, head: Mapping[str, Any], lists: Mapping[str, list[Location]]
) -> None:
    """Write one JSON object: small entries, and lists whose records are in files of `Records`."""
    with writing(place) as stream:
        stream.write(b"{\n")
        for index, (name, value) in enumerate(head.items()):
            stream.write(SEPARATOR if index else b"")
            stream.write(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}".encode())
        for index, (name, pieces) in enumerate(lists.items()):
            stream.write(SEPARATOR if head or index else b"")
            stream.write(f"{json.dumps(name)}: [\n".encode())
            append(stream, pieces, separator=SEPARATOR)
            stream.write(b"\n]")
        stream.write(b"\n}\n")
