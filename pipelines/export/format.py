"""What a format has to say: what it cannot hold, what becomes of a piece, and what comes last."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

from pipelines.export.corpus import Corpus, LabelledImage, Piece
from pipelines.export.files import writing
from pipelines.storage import Location

PARTS = "_parts"
"""Folder of what is not put together yet; gone when the export is done."""

DONE = "done"


@dataclass
class Tally:
    """What was counted over images."""

    images: int = 0
    segments: int = 0

    pixels: Counter[int] = field(default_factory=Counter)
    """Of each class."""

    seen: Counter[int] = field(default_factory=Counter)
    """Images that show each class."""

    def counting(self, images: Iterable[LabelledImage]) -> Iterator[LabelledImage]:
        """Count images that pass by."""
        for image in images:
            self.images += 1
            for segment in image.row["segments"]:
                self.segments += 1
                self.pixels[segment["category_id"]] += segment["pixels"]
                self.seen[segment["category_id"]] += 1
            yield image

    def plus(self, other: "Tally") -> "Tally":
        """Return the tally of both."""
        return Tally(
            self.images + other.images,
            self.segments + other.segments,
            self.pixels + other.pixels,
            self.seen + other.seen,
        )

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(
            {
                "images": self.images,
                "segments": self.segments,
                "pixels": sorted(self.pixels.items()),
                "seen": sorted(self.seen.items()),
            }
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Tally":
        """Read what `to_json` made."""
        found = json.loads(data)
        pixels, seen = Counter(dict(found["pixels"])), Counter(dict(found["seen"]))
        return cls(found["images"], found["segments"], pixels, seen)


@dataclass(frozen=True)
class Sink:
    """Where a worker puts what it made of a piece."""

    corpus: Corpus
    output: Location
    piece: Piece

    def file(self, path: str, data: bytes) -> None:
        """Write a file of the export."""
        self.output.at(path).write(data)

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a file of the export, to be written piece by piece."""
        return writing(self.output.at(path))

    def fragment(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open this piece's share of a file that `Format.finish` puts together."""
        return writing(fragment(self.output, name, self.piece))


def fragment(output: Location, name: str, piece: Piece) -> Location:
    """Return where a piece's share of something is until the end."""
    return output.at(PARTS, name, piece.name)


@dataclass(frozen=True)
class Export:
    """An export whose pieces are all written, before its last step."""

    corpus: Corpus
    output: Location
    pieces: list[Piece]
    tally: Tally

    def fragments(self, name: str) -> list[Location]:
        """Return the shares of all pieces, in order."""
        return [fragment(self.output, name, piece) for piece in self.pieces]

    def file(self, path: str, text: str) -> None:
        """Write a text file of the export."""
        self.output.at(path).write(text.encode())


class Format(ABC):
    """One way to write labels down."""

    owns: ClassVar[tuple[str, ...]]
    """Files and folders at the top of an export of this format, apart from export.json."""

    edition: ClassVar[int] = 1
    """One more when the format writes something else: what an older one began is begun anew."""

    images_per_piece: ClassVar[int] = 1
    """A piece has at least so many images, if there are; else it is one file of labels/."""

    def check(self, corpus: Corpus) -> None:  # noqa: B027 (most formats hold everything)
        """Require that the format can hold the labels.

        Raises:
            ValueError: It cannot; the message says why.
        """

    @abstractmethod
    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write a piece; the same again if a worker died half way."""

    @abstractmethod
    def finish(self, export: Export) -> None:
        """Write what is about all images."""


def describe(corpus: Corpus) -> dict[str, Any]:
    """Return where labels come from, for a format's own description."""
    identity = corpus.run["identity"]
    return {
        "description": "Labels of an open-vocabulary segmentation model, not checked by a person",
        "model": corpus.run["configuration"]["model"],
        "model_id": identity["model_id"],
        "vocabulary_id": identity["vocabulary_id"],
        "rejection": identity["rejection"],
        "run_id": corpus.run["run_id"],
    }
