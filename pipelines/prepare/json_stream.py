"""Read a JSON object member by member: a file of a gigabyte never is in memory as a whole."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

CHUNK = 1 << 20
"""Bytes that are read at a time."""

BLANK = " \t\n\r"
AFTER_NUMBER = BLANK + ",]}"


def read_chunks(stream: BinaryIO, size: int = CHUNK) -> Iterator[str]:
    """Yield the text of a UTF-8 file in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while data := stream.read(size):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


class JsonStream:
    """The text of a JSON file, read as far as it is needed."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self.chunks = iter(chunks)
        self.decode = json.JSONDecoder().raw_decode
        self.text = ""
        self.place = 0

    def fill(self) -> bool:
        """Read on, at least as much as is not used yet; return False at the end of the file."""
        parts, wanted = [self.text[self.place :]], max(1, len(self.text) - self.place)
        while wanted > 0 and (chunk := next(self.chunks, None)) is not None:
            parts.append(chunk)
            wanted -= len(chunk)
        self.text, self.place = "".join(parts), 0
        return len(parts) > 1

    def peek(self) -> str:
        """Return the next character that is not blank.

        Raises:
            ValueError: The file ends.
        """
        while True:
            while self.place < len(self.text) and self.text[self.place] in BLANK:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.fill():
                raise ValueError("the JSON ends too early")

    def take(self, expected: str) -> None:
        """Skip a character.

        Raises:
            ValueError: Another one is there.
        """
        if self.peek() != expected:
            raise ValueError(f"the JSON has {self.peek()!r} where {expected!r} should be")
        self.place += 1

    def value(self) -> Any:  # noqa: ANN401
        """Return the next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.place)
            except json.JSONDecodeError:
                if not self.fill():
                    raise
                continue
            if self.is_whole(value, end):
                self.place = end
                return value
            if not self.fill():
                raise ValueError("the JSON ends too early")

    def is_whole(self, value: object, end: int) -> bool:
        """Say whether a value ends here; a number may go on in the next chunk."""
        if not isinstance(value, int | float):
            return True
        return end < len(self.text) and self.text[end] in AFTER_NUMBER

    def elements(self) -> Iterator[Any]:
        """Yield the elements of an array, one at a time."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.peek() == "]":
                self.take("]")
                return
            self.take(",")

    def members(self) -> Iterator[tuple[str, Iterator[Any]]]:
        """Yield the name of each member of an object, and the elements of its array.

        A member that is no array has one element: itself. What the reader leaves is skipped.
        """
        self.take("{")
        while self.peek() != "}":
            name = self.value()
            self.take(":")
            elements = self.elements() if self.peek() == "[" else iter([self.value()])
            yield name, elements
            for _ in elements:
                pass
            if self.peek() != "}":
                self.take(",")
        self.take("}")
