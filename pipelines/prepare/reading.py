"""An image and its mask, as they are shipped, become a row.

Rows: `pairs.PAIR` in, `rows.MASKED` out.

Shapes: H W pixels.
"""

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines import rows
from pipelines.buckets import raise_outage
from pipelines.images import MAX_PIXELS
from pipelines.masks import ignore_value, index_png
from pipelines.prepare.encodings import Encoding, MaskError
from pipelines.prepare.pairs import Pairs
from pipelines.storage import Location
from sed.photo import SIDEWAYS, read_orientation, to_rgb, upright

logger = logging.getLogger(__name__)

JPEG_QUALITY = 95
"""Of images that were reduced."""

ADVICE = "python -m jobs.prepare lists all that cannot be used, and can leave it out"

Row = dict[str, Any]


class PairError(ValueError):
    """An image or mask that is not as it should be; `kind` says why in a word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["PairError"], tuple[str, str]]:
        """Let it travel between processes with its kind."""
        return type(self), (self.kind, str(self))


@dataclass(frozen=True)
class ReadPair:
    """Read images with their masks."""

    root: Location
    encoding: Encoding
    num_classes: int
    reduce_to: int | None = None
    """Longer short sides, in pixels, are reduced to this."""

    whole: bool = False
    """Decode all of each image, to be sure that it can be."""

    @classmethod
    def of(cls, pairs: Pairs, *, whole: bool = False) -> "ReadPair":
        """Return what reads these pairs."""
        size = len(pairs.classes)
        return cls(pairs.root, pairs.encoding, size, pairs.reduce_to, whole)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `rows.MASKED` for each pair; one that cannot be used has an error."""
        found = [self.row_or_error(pair) for pair in batch.to_pylist()]
        return pa.Table.from_pylist(found, schema=rows.MASKED)

    def row_or_error(self, pair: Mapping[str, Any]) -> Row:
        """Return what `row` does, or why it cannot."""
        try:
            return self.row(pair)
        except PairError as error:
            logger.warning("%s", error)
            return {
                "image_id": pair["image_id"],
                "error_type": error.kind,
                "message": f"{error} ({ADVICE})",
            }

    def row(self, pair: Mapping[str, Any]) -> Row:
        """Return the row of an image with its mask; the bytes of the image are those of its file.

        Raises:
            PairError: It cannot be read, or the mask does not fit; the message names the file.
        """
        image = self.read(pair["image"])
        size = self.image_size(pair["image"], image)
        mask_HW = self.mask(pair)
        if mask_HW.shape[::-1] != size:
            raise PairError(
                "SizesDiffer",
                f"{pair['image']} has {size[0]} x {size[1]} pixels, {pair['mask']} has "
                f"{mask_HW.shape[1]} x {mask_HW.shape[0]}{self.turned(image, mask_HW)}",
            )
        if self.reduce_to is not None and min(size) > self.reduce_to:
            image, mask_HW = reduce(image, mask_HW, self.reduce_to)
        height, width = mask_HW.shape
        return {
            "image": {"bytes": image, "path": pair["image"].rpartition("/")[2]},
            "mask": {
                "bytes": index_png(mask_HW, self.num_classes),
                "path": f"{pair['image_id'].rpartition('/')[2]}.png",
            },
            "image_id": pair["image_id"],
            "width": width,
            "height": height,
        }

    def read(self, path: str) -> bytes:
        """Return the content of a file; an outage of the store is no fault of the file."""
        place = self.root.at(path)
        try:
            return place.read()
        except OSError as error:
            raise_outage(error, place.fs, place.path)
            raise PairError("Unreadable", f"{path}: {error}") from error

    def image_size(self, path: str, data: bytes) -> tuple[int, int]:
        """Return width and height of an image when it is upright."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ValueError(f"{width} x {height} pixels are too many")
                if self.whole:
                    image.load()
                return (height, width) if read_orientation(image) in SIDEWAYS else (width, height)
        # A damaged file can make Pillow's parsers raise anything; it must not end a job.
        except Exception as error:
            raise PairError("DamagedImage", f"{path}: {words(error)}") from error

    def mask(self, pair: Mapping[str, Any]) -> np.ndarray:
        """Return the class index of each pixel, mask_HW."""
        segmented = self.encoding.from_segments
        data = pair["segments"] if segmented else self.read(pair["mask"])
        path = f"{pair['mask']} ({pair['image_id']})" if segmented else pair["mask"]
        try:
            return self.encoding.decode(data, ignore_value(self.num_classes))
        except MaskError as error:
            raise PairError(error.kind, f"{path}: {error}") from error
        # As above: whatever Pillow, scipy or pycocotools stumble over.
        except Exception as error:
            raise PairError("DamagedMask", f"{path}: {words(error)}") from error

    def turned(self, image: bytes, mask_HW: np.ndarray) -> str:
        """Say that a mask fits the image as it lies in its file, not as it is seen."""
        with Image.open(io.BytesIO(image)) as photo:
            orientation = read_orientation(photo)
            if orientation not in SIDEWAYS or photo.size != mask_HW.shape[::-1]:
                return ""
        return f" (the mask does not follow the image's EXIF orientation, {orientation})"


def words(error: Exception) -> str:
    """Return what an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def reduce(image: bytes, mask_HW: np.ndarray, short_side: int) -> tuple[bytes, np.ndarray]:
    """Reduce an image and its mask so that the short side has so many pixels.

    As the published protocol does it: bilinear without a low-pass, the nearest pixel of the mask,
    and the image is a JPEG again.
    """
    import torch  # takes seconds, and only the pairs that are reduced need it
    import torch.nn.functional as F

    old_height, old_width = mask_HW.shape
    scale = short_side / min(old_width, old_height)
    height, width = round(old_height * scale), round(old_width * scale)
    with Image.open(io.BytesIO(image)) as photo:
        pixels_HW3 = torch.from_numpy(np.array(to_rgb(upright(photo))))
    planes_13HW = pixels_HW3.permute(2, 0, 1).unsqueeze(0).float()
    small_13HW = F.interpolate(planes_13HW, (height, width), mode="bilinear", align_corners=False)
    small_HW3 = small_13HW[0].permute(1, 2, 0).add(0.5).to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(small_HW3).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    rows_H = np.arange(height) * old_height // height
    columns_W = np.arange(width) * old_width // width
    return buffer.getvalue(), mask_HW[rows_H[:, None], columns_W[None, :]]
