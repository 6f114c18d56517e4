"""First step of an evaluation: a photo and its mask are decoded and checked, on any CPU.

Rows: `rows.PREPARED` in, `READ` out, in the same order. No row is dropped: what cannot be evaluated
carries its error on, and so does a row that comes with one (the columns `rows.FAILURE`).

Shapes: H W pixels.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from pipelines.decoding import failure
from pipelines.evaluation.rows import READ
from pipelines.images import MAX_PIXELS, ImageError
from pipelines.masks import ignore_value
from pipelines.report.pictures import to_jpeg
from sed.metrics import check_labels
from sed.photo import to_rgb, upright
from sed.shortest_edge import resize_shortest_edge

THUMBNAIL = 360
"""Longer side of a picture of a report, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Decode photos and masks."""

    short_side: int
    """Wanted length of a photo's shorter side, in pixels."""

    long_side: int
    """Bound of its longer side, in pixels."""

    num_classes: int

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `READ` for each row."""
        return pa.Table.from_pylist([*map(self.read, batch.to_pylist())], schema=READ)

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what the model needs of an image, or why it cannot be evaluated."""
        found = {"image_id": row["image_id"]}
        if row.get("error_type") is not None:
            return found | {name: row[name] for name in ("error_type", "message")}
        try:
            photo, mask_HW = read_pair(row, self.num_classes)
        except ImageError as error:
            return found | failure(error.kind, error)
        pixels_HW3 = np.asarray(resize_shortest_edge(photo, self.short_side, self.long_side))
        height, width = mask_HW.shape
        return found | {
            "mask": row["mask"]["bytes"],
            "width": width,
            "height": height,
            "thumbnail": thumbnail(photo),
            "pixels": pixels_HW3.tobytes(),
            "pixels_width": pixels_HW3.shape[1],
            "pixels_height": pixels_HW3.shape[0],
        }


def read_pair(row: dict[str, Any], num_classes: int) -> tuple[Image.Image, np.ndarray]:
    """Return the photo of a row of `rows.PREPARED` and the class of each pixel, mask_HW.

    Raises:
        ImageError: One of them is broken, or they do not fit each other or the classes.
    """
    with explained("photo"):
        photo = decode_image(content(row["image"]))
    with explained("mask"):
        mask_HW = decode_mask(content(row["mask"]))
        check_mask(mask_HW, photo, num_classes)
    return photo, mask_HW


def check_mask(mask_HW: np.ndarray, photo: Image.Image, num_classes: int) -> None:
    """Require a mask of the photo's shape that holds classes.

    Raises:
        ValueError: It is none.
    """
    if mask_HW.ndim != 2:
        raise ValueError("it has several channels instead of an index for each pixel")
    height, width = mask_HW.shape
    # A mask that was made smaller may be off by the rounding of one side.
    if abs(height * photo.width - width * photo.height) > max(photo.size):
        raise ValueError(f"it is {width} x {height}, the photo {photo.width} x {photo.height}")
    ignore = ignore_value(num_classes)
    check_labels("it", mask_HW[mask_HW != ignore], num_classes)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever a bad file makes Pillow raise into an `ImageError` that says what is bad."""
    try:
        yield
    except UnidentifiedImageError as error:  # its own message is an address in memory
        reason = "Pillow cannot identify its image format"
        raise ImageError(f"Bad{what.capitalize()}", f"the {what}: {reason}") from error
    # A damaged or hostile file can make Pillow's parsers raise anything; it must not end a job.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"Bad{what.capitalize()}", f"the {what}: {reason}") from error


def content(file: dict[str, Any] | None) -> bytes:
    """Return the bytes of a file in a row.

    Raises:
        ValueError: There are none.
    """
    data = (file or {}).get("bytes")
    if not data:
        raise ValueError("the file is empty or missing")
    return data


def decode_image(data: bytes) -> Image.Image:
    """Return a photo as RGB and upright, at its own size.

    Raises:
        ValueError: It is too large. Whatever Pillow raises on a bad file comes through, too.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many to decode")
        image.load()  # what is RGB and upright already is returned as it is
        return to_rgb(upright(image))


def decode_mask(data: bytes) -> np.ndarray:
    """Return the class index of each pixel, mask_HW."""
    with Image.open(io.BytesIO(data)) as mask:
        return np.array(mask)


def thumbnail(photo: Image.Image) -> bytes:
    """Return a photo as a small JPEG."""
    small = photo.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return to_jpeg(np.asarray(small))
