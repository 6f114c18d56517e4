"""How labels are written down: index PNG, confidence PNG, and a COCO segment for each class.

Shapes: H W pixels, N classes.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

IGNORE_8_BIT = 255
IGNORE_16_BIT = 65535

TILE = 128
"""Pixels a side that are transposed at a time: in the nearest cache, six times as fast."""

PNG_LEVEL = 3
"""Of zlib: twice as fast as its default of 6, for files up to a third larger."""


def ignore_value(num_classes: int) -> int:
    """Return the mask value that means "no class": 255, or 65535 where 8 bits are too few."""
    return IGNORE_8_BIT if num_classes <= IGNORE_8_BIT else IGNORE_16_BIT


def index_png(labels_HW: np.ndarray, num_classes: int) -> bytes:
    """Return a PNG whose values are class indices, 8 bit up to 255 classes, else 16 bit."""
    wide = ignore_value(num_classes) == IGNORE_16_BIT
    return to_png(labels_HW.astype(np.uint16 if wide else np.uint8))


def confidence_png(confidence_HW: np.ndarray) -> bytes:
    """Return probabilities in [0, 1] as an 8-bit PNG: 255 is certain."""
    return to_png((confidence_HW.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def to_png(values_HW: np.ndarray) -> bytes:
    """Return an array of uint8 or uint16 as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(values_HW).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def segments(
    labels_HW: np.ndarray, confidence_HW: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Describe each class that is in an image: size, place, certainty and mask.

    Args:
        labels_HW: Class indices; any other value is ignored.
        confidence_HW: Probability of each pixel's class.
        classes: Names.

    Returns:
        One record for each class that has a pixel, in the order of `classes`.
    """
    # All classes in one pass: down the columns, the map is cut where its value changes.
    flat = down_the_columns(labels_HW)
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(starts, append=flat.size)
    values = flat[starts]
    sums = np.add.reduceat(down_the_columns(confidence_HW), starts, dtype=np.float64)
    found = []
    for index in np.unique(values[values < len(classes)]).tolist():
        own = values == index
        pixels = int(lengths[own].sum())
        segment = {
            "category_id": index,
            "category": classes[index],
            "pixels": pixels,
            "area_fraction": pixels / flat.size,
            "mean_confidence": sums[own].sum() / pixels,
            **place(run_lengths(starts[own], lengths[own], flat.size), labels_HW.shape),
        }
        found.append(segment)
    return found


def down_the_columns(map_HW: np.ndarray) -> np.ndarray:
    """Return the values of a map column by column, as COCO counts pixels."""
    height, width = map_HW.shape
    columns_WH = np.empty((width, height), map_HW.dtype)
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = slice(y, y + TILE), slice(x, x + TILE)
            columns_WH[tile[::-1]] = map_HW[tile].T
    return columns_WH.ravel()


def run_lengths(starts: np.ndarray, lengths: np.ndarray, size: int) -> list[int]:
    """Return the lengths of runs without and with a class, in turn, as pycocotools writes them.

    Args:
        starts: Where each run of the class begins.
        lengths: Its pixels.
        size: Pixels of the image.
    """
    cuts = np.stack([starts, starts + lengths], axis=1).ravel()
    counts = np.diff(cuts, prepend=0, append=size).tolist()
    return counts if counts[-1] else counts[:-1]


def place(counts: list[int], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the box (x, y, width, height) and the compressed run lengths of a mask."""
    plain: Any = {"size": list(shape), "counts": counts}
    rle: Any = coco.frPyObjects(plain, *shape)
    return {
        "bbox": [int(side) for side in coco.toBbox(rle)],
        "rle": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()},
    }
