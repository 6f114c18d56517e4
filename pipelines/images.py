"""From the bytes of an image file to pixels for the model: every kind of file, one image at a time.

Shapes: H W pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sed.photo import SIDEWAYS, read_orientation, to_rgb, upright
from sed.shortest_edge import enlarges, resize_shortest_edge, shortest_edge_size

MAX_PIXELS = 150_000_000
"""A larger image is refused: decoding this many takes 0.7 GB as RGB, 1.2 GB where a photo is turned
upright, 1 GB of 16-bit grey, 1.7 GB of floats and 2.3 GB where it is transparent and turned (each
six times what was measured with 25 million)."""


class ImageError(ValueError):
    """The bytes are no image that can be labelled; `kind` says why in a word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Let it travel between processes with its kind."""
        return type(self), (self.kind, str(self))


@dataclass(frozen=True)
class Photo:
    """A decoded image, upright and no larger than the model needs it."""

    pixels_HW3: np.ndarray
    """RGB, uint8."""

    width: int
    """Width of the upright photo before it was resized, in pixels."""

    height: int
    """Height of the upright photo before it was resized, in pixels."""


def decode(data: bytes, *, short_side: int, long_side: int, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode an image file, turn it upright, make it RGB and resize it where that shrinks it.

    Enlarging it is left to the model's device (`sed.resize.fit_shortest_edge`): a small photo
    travels as it is. Of an animation the first frame counts. Transparent pixels become white.

    Args:
        data: The file.
        short_side: Wanted length of the shorter side, in pixels.
        long_side: Bound of the longer side, in pixels.
        max_pixels: More than these are refused before they are decoded.

    Raises:
        ImageError: Empty, no image, damaged, or too large; the message says which.
    """
    if not data:
        raise ImageError("EmptyFile", "the file is empty (0 bytes)")
    try:
        return decode_file(data, short_side, long_side, max_pixels)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("TooLarge", str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            "NotAnImage", f"Pillow knows no image format that fits these {len(data)} bytes"
        ) from error
    # A damaged or hostile file can make Pillow's parsers raise anything; it must not end a job.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("DamagedImage", reason) from error


def decode_file(data: bytes, short_side: int, long_side: int, max_pixels: int) -> Photo:
    """Decode; raise whatever Pillow raises."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                "TooLarge", f"{width} x {height} pixels; at most {max_pixels} are decoded"
            )
        reduce_while_decoding(image, short_side, long_side)
        image.load()
        orientation = read_orientation(image)
        if orientation in SIDEWAYS:
            width, height = height, width
        photo = to_rgb(upright(image))
        if not enlarges(*photo.size, short_side, long_side):
            photo = resize_shortest_edge(photo, short_side, long_side)
    return Photo(np.asarray(photo), width, height)


def reduce_while_decoding(image: Image.Image, short_side: int, long_side: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 where that leaves twice the pixels needed a side."""
    if image.format == "JPEG":
        width, height = shortest_edge_size(*image.size, short_side, long_side)
        image.draft(None, (2 * width, 2 * height))
