"""What is wrong with a row of labels/: its photo, its mask and segments, and who made it.

Shapes: H W pixels.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from pipelines.masks import ignore_value
from sed.photo import SIDEWAYS, read_orientation

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for a mask or photo that it cannot read."""

Row = Mapping[str, Any]


def stamp_problem(row: Row, stamp: Mapping[str, Any]) -> str | None:
    """Return where a row says another origin than run.json, if anywhere."""
    for name, value in stamp.items():
        if name in row and row[name] != value:
            return f"{name} is {row[name]!r}, in run.json {value!r}"
    return None


def photo_problem(row: Row, data: bytes) -> str | None:
    """Return how a photo differs from what its row says, if at all."""
    try:
        size = upright_size(data)
    except UNREADABLE as error:
        return f"the image cannot be read any more: {error}"
    if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        return "the image has changed since it was labelled"
    if size != (row["width"], row["height"]):
        return f"the image is {size}, the row says {(row['width'], row['height'])}"
    return None


def upright_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a photo as it is looked at."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        turned = image.format != "TIFF" and read_orientation(image) in SIDEWAYS
    return (height, width) if turned else (width, height)


def mask_problem(row: Row, classes: Sequence[str]) -> str | None:
    """Return what is wrong with a mask and the segments that describe it, if anything."""
    data = (row["mask"] or {}).get("bytes")
    if data is None:
        return "there is no mask"
    try:
        with Image.open(io.BytesIO(data)) as image:
            mask_HW = np.array(image)
    except UNREADABLE as error:
        return f"the mask cannot be read: {error}"
    if mask_HW.shape != (row["height"], row["width"]):
        return f"the mask is {mask_HW.shape[::-1]}, the image {(row['width'], row['height'])}"
    shown = set(np.unique(mask_HW).tolist()) - {ignore_value(len(classes))}
    if any(value >= len(classes) for value in shown):
        return f"the mask has a value beyond its {len(classes)} classes: {max(shown)}"
    if row["segments"] is None or None in row["segments"]:
        return "there are no segments" if row["segments"] is None else "a segment is null"
    described = [segment["category_id"] for segment in row["segments"]]
    if sorted(described, key=str) != sorted(shown, key=str):
        return f"the segments are of the classes {described}, the mask of {sorted(shown)}"
    return next(segment_problems(row["segments"], mask_HW, classes), None)


def segment_problems(
    segments: Sequence[Row], mask_HW: np.ndarray, classes: Sequence[str]
) -> Iterator[str]:
    """Yield how segments differ from the pixels of their classes."""
    for segment in segments:
        index = segment["category_id"]
        for name, value in describe(mask_HW == index).items():
            if segment[name] != value:
                yield f"the segment of class {index} has another {name} than the mask"
        if segment["category"] != classes[index]:
            yield f"the segment of class {index} is named {segment['category']!r}"


def describe(own_HW: np.ndarray) -> dict[str, Any]:
    """Return what the segment of a class says about its pixels.

    They are encoded here, by other means than `masks.segments` does it, and no run lengths of a
    file are decoded: where these end early, pycocotools leaves pixels as the memory was.
    """
    columns, lines = np.flatnonzero(own_HW.any(axis=0)), np.flatnonzero(own_HW.any(axis=1))
    left, top = int(columns[0]), int(lines[0])
    rle: Any = coco.encode(np.asfortranarray(own_HW, dtype=np.uint8))
    return {
        "pixels": int(own_HW.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(lines[-1]) + 1 - top],
        "rle": {"size": list(own_HW.shape), "counts": rle["counts"].decode()},
    }
