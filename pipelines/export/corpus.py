"""An output of `label` as an export sees it: which images there are, in which order, named how.

Shapes: H W pixels, N classes.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines import outputs, shards
from pipelines.export import names
from pipelines.masks import IGNORE_8_BIT, ignore_value
from pipelines.storage import Location

PART = pa.struct(
    [
        ("name", pa.string()),
        ("num_images", pa.int64()),
        ("num_segments", pa.int64()),
        ("first_image", pa.int64()),
        ("first_segment", pa.int64()),
    ]
)
PIECE = pa.schema([("number", pa.int64()), ("parts", pa.list_(PART))])
"""A piece on its way to a worker."""


@dataclass(frozen=True)
class Part:
    """A file of labels/: its images are numbered on from those of the files before it."""

    name: str
    num_images: int
    num_segments: int
    first_image: int = 0
    first_segment: int = 0


@dataclass(frozen=True)
class Piece:
    """Files of labels/ that are exported together, by one worker."""

    number: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"part-{self.number:05d}"

    @property
    def num_images(self) -> int:
        """Images in it."""
        return sum(part.num_images for part in self.parts)

    def to_row(self) -> dict[str, Any]:
        """Return it as a row of `PIECE`."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Piece":
        """Read what `to_row` made."""
        return cls(row["number"], tuple(Part(**part) for part in row["parts"]))


@dataclass(frozen=True)
class Corpus:
    """What a worker needs to know of all images to export one of them."""

    labels: Location
    run: Mapping[str, Any]
    classes: tuple[str, ...]

    root: str
    """URI of the folder that image names are relative to."""

    twins: frozenset[int]
    """Digests of names that several images would have."""

    parts: tuple[Part, ...]
    """Files of labels/ that hold an image, by name; a worker does without."""

    @property
    def num_images(self) -> int:
        """Images that are labelled."""
        return sum(part.num_images for part in self.parts)

    @property
    def num_segments(self) -> int:
        """Pairs of an image and a class that is in it."""
        return sum(part.num_segments for part in self.parts)

    @property
    def is_wide(self) -> bool:
        """Say whether masks have 16 bits, for 8 do not hold the classes and "no class"."""
        return len(self.classes) > IGNORE_8_BIT

    @property
    def is_complete(self) -> bool:
        """Say whether the job that labels is done."""
        return self.run["status"] == outputs.DONE

    def pieces(self, num_images: int) -> list[Piece]:
        """Split the corpus into pieces of at least so many images, or of one file each."""
        groups: list[list[Part]] = []
        for part in self.parts:
            if not groups or sum(p.num_images for p in groups[-1]) >= num_images:
                groups.append([])
            groups[-1].append(part)
        return [Piece(number, tuple(group)) for number, group in enumerate(groups)]

    def read(self, piece: Piece) -> Iterator["LabelledImage"]:
        """Yield the images of a piece in order; one file is in memory at a time."""
        for part in piece.parts:
            table = self.read_part(part)
            segment = part.first_segment
            for index, row in enumerate(table.to_pylist()):
                yield LabelledImage(self, row, part.first_image + index, segment)
                segment += len(row["segments"])

    def read_part(self, part: Part) -> pa.Table:
        """Return a file of labels/."""
        data = self.labels.at(shards.LABELS, part.name).read()
        table = pq.read_table(pa.BufferReader(data))
        assert len(table) == part.num_images, f"{part.name} has changed since the export began"
        return table

    def name(self, image_uri: str) -> str:
        """Return the unique name of an image: its path under `root` without its ending."""
        return names.unique_name(image_uri, self.root, self.twins)


@dataclass(frozen=True)
class LabelledImage:
    """A row of labels/ on its way into another format."""

    corpus: Corpus
    row: Mapping[str, Any]

    index: int
    """Place among all images, from 0."""

    first_segment: int
    """Place of its first segment among all segments, from 0."""

    @property
    def uri(self) -> str:
        """Where the photo is."""
        return self.row["image_uri"]

    @cached_property
    def name(self) -> str:
        """Its unique name, without an ending."""
        return self.corpus.name(self.uri)

    @property
    def path(self) -> str:
        """The path of the photo under the folder of all photos."""
        return names.relative(self.uri, self.corpus.root)

    def label_map(self) -> np.ndarray:
        """Return class indices, labels_HW; the ignore value where there is none."""
        with Image.open(io.BytesIO(self.row["mask"]["bytes"])) as image:
            return np.asarray(image)

    def numbered_from_one(self) -> np.ndarray:
        """Return class index + 1, 0 where there is no class, labels_HW; 8 bits if they suffice."""
        dtype = np.uint16 if self.corpus.is_wide else np.uint8
        table = np.zeros(ignore_value(len(self.corpus.classes)) + 1, dtype)
        table[: len(self.corpus.classes)] = np.arange(1, len(self.corpus.classes) + 1)
        return table[self.label_map()]
