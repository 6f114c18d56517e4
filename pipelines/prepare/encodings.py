"""How each dataset's authors write a mask down, and which class each of their values is.

Shapes: H W pixels, V values.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

IGNORED = -1
"""Of a value that means "no class"."""

UNKNOWN = -2
"""Of a value that this dataset does not have."""

LISTED = 5
"""So many wrong values are named."""

Read = Callable[[Any], np.ndarray]
"""From the bytes of a mask's file, or its segments, to the authors' values."""


class MaskError(ValueError):
    """A mask that is not as its dataset's masks are; `kind` says why in a word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """From a mask as it is shipped to class indices."""

    name: str
    """What it is, in a few words."""

    read: Read
    """Returns the authors' values, values_HW."""

    class_V: np.ndarray
    """Class index of each value, `IGNORED` or `UNKNOWN`; so are values beyond its end."""

    hint: str = ""
    """What unknown values probably mean."""

    from_segments: bool = False
    """Whether `read` takes the segments of an image rather than a file."""

    def decode(self, data: bytes | list[dict[str, Any]], ignore: int) -> np.ndarray:
        """Return the class index of each pixel, mask_HW.

        Args:
            data: A file, or segments.
            ignore: Value of pixels without a class.

        Raises:
            MaskError: It is not as this dataset's masks are.
        """
        values_HW = self.read(data)
        top = len(self.class_V)
        mask_HW = np.append(self.class_V, UNKNOWN)[np.minimum(values_HW, top)]
        if mask_HW.size and mask_HW.min() == UNKNOWN:
            wrong = np.unique(values_HW[mask_HW == UNKNOWN]).tolist()
            shown = ", ".join(map(str, wrong[:LISTED])) + (", ..." if len(wrong) > LISTED else "")
            raise MaskError(
                "UnknownLabels", f"values that {self.name} does not have: {shown}{self.hint}"
            )
        return np.where(mask_HW == IGNORED, ignore, mask_HW).astype(np.uint16)


def grey(data: bytes) -> np.ndarray:
    """Return the values of an image with one channel; of a palette, its indices."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
            raise MaskError("NotAMask", f"a mask has one channel, not {image.mode}")
        values_HW = np.array(image).astype(np.int32)
    if values_HW.size and values_HW.min() < 0:
        raise MaskError("UnknownLabels", f"a mask has no negative values: {values_HW.min()}")
    return values_HW


def ade_objects(data: bytes) -> np.ndarray:
    """Return the object numbers of an ADE20K *_seg.png: floor(R / 10) * 256 + G."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode != "RGB":
            raise MaskError("NotAMask", f"a *_seg.png of ADE20K is RGB, not {image.mode}")
        red_HW, green_HW = (np.array(image.getchannel(band)).astype(np.int32) for band in "RG")
    return red_HW // 10 * 256 + green_HW


def matlab(data: bytes) -> np.ndarray:
    """Return the variable LabelMap of a MATLAB file."""
    from scipy.io import loadmat

    values_HW = loadmat(io.BytesIO(data), variable_names=["LabelMap"]).get("LabelMap")
    if values_HW is None or values_HW.ndim != 2:
        raise MaskError("NotAMask", "the file has no two-dimensional LabelMap")
    return values_HW.astype(np.int64)


def painted(segments: list[dict[str, Any]]) -> np.ndarray:
    """Return the category of each pixel, 0 for none: segments in order, a later one wins."""
    sizes = {tuple(segment["size"]) for segment in segments}
    if len(sizes) != 1:
        raise MaskError("NotAMask", f"segments of one size are needed, got {sorted(sizes)}")
    values_HW = np.zeros(sizes.pop(), np.int32)
    for segment in segments:
        rle: Any = {"size": segment["size"], "counts": segment["counts"].encode()}
        values_HW[coco.decode(rle).astype(bool)] = segment["category_id"]
    return values_HW


def table(
    values: Sequence[int],
    *,
    ignored: Sequence[int] = (),
    others: int = UNKNOWN,
    size: int | None = None,
) -> np.ndarray:
    """Return class_V of values that are the classes 0, 1, 2 ...

    Args:
        values: The authors' values, in the order of the classes.
        ignored: Those that mean "no class".
        others: What the rest are.
        size: All values are below this; default: none is above those given.
    """
    class_V = np.full(size or max(*values, *ignored) + 1, others, np.int32)
    class_V[list(values)] = np.arange(len(values))
    class_V[list(ignored)] = IGNORED
    return class_V


def from_one(num_classes: int, *, ignored: Sequence[int] = (0,)) -> np.ndarray:
    """Return class_V of values that are the class index + 1."""
    return table(range(1, num_classes + 1), ignored=ignored)


def original_values(name: str) -> list[int]:
    """Return the authors' value of each class of a dataset, in the order of the classes."""
    text = Path(__file__).with_name("label_maps.json").read_text(encoding="utf-8")
    return json.loads(text)[name]


def indices(num_classes: int, ignored: Sequence[int], name: str) -> Encoding:
    """Return the encoding of masks whose values are class indices already."""
    class_V = table(range(num_classes), ignored=ignored)
    return Encoding(name=name, read=grey, class_V=class_V)


def converted(num_classes: int, *ignored: int) -> Encoding:
    """Return the encoding of masks that the official preparation wrote."""
    return indices(num_classes, ignored, "annotations_detectron2")
