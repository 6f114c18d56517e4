"""The images and the masks of a dataset as they lie on disk: which belong together, what is amiss.

Nothing here opens an image.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo

from pipelines.prepare.encodings import Encoding
from pipelines.storage import Location

SEGMENT = pa.struct(
    [
        ("category_id", pa.int32()),
        ("size", pa.list_(pa.int32())),
        ("counts", pa.string()),
    ]
)
"""Pixels of one category, as COCO's compressed run lengths."""

PAIR = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("image", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("mask", pa.string()),
        pa.field("mask_bytes", pa.int64()),
        pa.field("segments", pa.list_(SEGMENT)),
    ]
)
"""An image and its mask: paths below the root, and the sizes of the files.

`segments` is what the mask is painted from where it is no file of its own, else null.
"""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What was found of one split of a dataset."""

    name: str
    split: str
    root: Location
    table: pa.Table
    """`PAIR`, by image_id."""

    encoding: Encoding
    classes: list[str]
    asked: list[str]

    reduce_to: int | None = None
    """Longer short sides, in pixels, are reduced to this."""

    wrong: tuple[str, ...] = ()
    """What makes it another dataset than its name says: sentences."""

    unmatched: tuple[str, ...] = ()
    """Images without a mask, masks without an image, names in a list without a file: sentences."""

    fewer: tuple[str, ...] = ()
    """That there are more or fewer pairs than the authors ship: sentences."""

    notes: tuple[str, ...] = ()
    """What is unexpected and does no harm: sentences."""

    @property
    def plan_id(self) -> str:
        """Says whether these are the same names with the same meaning, whatever the files hold."""
        names = (self.table[name].to_pylist() for name in ("image_id", "image", "mask"))
        head = [self.name, self.split, self.encoding.name, str(self.reduce_to), *self.classes]
        return digest_lines([*head, *("\t".join(row) for row in zip(*names, strict=True))])

    @property
    def digest(self) -> str:
        """Says whether these are the same files, by their names and sizes."""
        names = ("image_id", "image_bytes", "mask_bytes")
        columns = [self.table[name].to_pylist() for name in names]
        lines = ("\t".join(map(str, row)) for row in zip(*columns, strict=True))
        return digest_lines([self.name, self.split, *self.classes, *lines])


def digest_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines, as "sha256:..."."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return "sha256:" + digest.hexdigest()


def pair_table(
    ids: Sequence[str],
    images: Mapping[str, FileInfo],
    masks: Mapping[str, FileInfo],
    root: Location,
) -> pa.Table:
    """Return `PAIR` of these images, each with the mask of the same name."""
    start = len(root.path.rstrip("/")) + 1
    return pa.table(
        [
            list(ids),
            [images[name].path[start:] for name in ids],
            [images[name].size for name in ids],
            [masks[name].path[start:] for name in ids],
            [masks[name].size for name in ids],
            [None] * len(ids),
        ],
        schema=PAIR,
    )


def segment_table(
    ids: Sequence[str],
    images: Mapping[str, FileInfo],
    segments: Mapping[str, list[dict[str, Any]]],
    mask: str,
    root: Location,
) -> pa.Table:
    """Return `PAIR` of these images, each with the segments of the same name.

    Args:
        ids: Names.
        images: Files by name.
        segments: Values of `SEGMENT` by name.
        mask: Name of the file that holds all segments.
        root: What the paths start from.
    """
    start = len(root.path.rstrip("/")) + 1
    sizes = [sum(len(segment["counts"]) for segment in segments[name]) for name in ids]
    return pa.table(
        [
            list(ids),
            [images[name].path[start:] for name in ids],
            [images[name].size for name in ids],
            [mask] * len(ids),
            sizes,
            [segments[name] for name in ids],
        ],
        schema=PAIR,
    )
