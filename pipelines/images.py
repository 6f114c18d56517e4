"""From the bytes of an image file to pixels for the model: every kind of file, one image at a time.

Shapes: H W pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from sed.resize import resize_shortest_edge, shortest_edge_size

MAX_PIXELS = 150_000_000
"""A larger image is refused: decoding it would take more than 0.5 GB."""

ORIENTATION = 0x0112
"""EXIF: how the camera was held."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""


class ImageError(ValueError):
    """The bytes are no image that can be labelled; `kind` says why in a word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Photo:
    """A decoded image, upright and resized for the model."""

    pixels_HW3: np.ndarray
    """RGB, uint8."""

    width: int
    """Width of the upright photo before it was resized, in pixels."""

    height: int
    """Height of the upright photo before it was resized, in pixels."""


def decode(data: bytes, *, short_side: int, long_side: int, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode an image file, turn it upright, make it RGB and resize it.

    Of an animation the first frame counts. Transparent pixels become white.

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
        upright = ImageOps.exif_transpose(image) if orientation != 1 else image
        if orientation in SIDEWAYS:
            width, height = height, width
        small = resize_shortest_edge(to_rgb(upright), short_side, long_side)
    return Photo(np.asarray(small), width, height)


def reduce_while_decoding(image: Image.Image, short_side: int, long_side: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 where that leaves twice the pixels needed a side."""
    if image.format == "JPEG":
        width, height = shortest_edge_size(*image.size, short_side, long_side)
        image.draft(None, (2 * width, 2 * height))


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied; 1 (upright) if it makes no sense."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    # Broken EXIF data, in any of the ways Pillow can stumble over, must not lose a good photo.
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return on_white(image.convert("RGBA"))
    return image.convert("RGB")


def to_8_bit(grey_HW: np.ndarray) -> np.ndarray:
    """Scale grey values of 16 or 32 bit to 0..255.

    Integers count as 16 bit unless one is larger: then the largest becomes white. Floats count as
    0..1, else as 0..255, else the largest becomes white.
    """
    values_HW = np.nan_to_num(grey_HW.astype(np.float64), posinf=0, neginf=0)
    largest = float(values_HW.max())
    usual = (1.0, 255.0) if grey_HW.dtype.kind == "f" else (65535.0,)
    white = next((limit for limit in usual if largest <= limit), largest)
    return (values_HW.clip(0, white) * (255 / white) + 0.5).astype(np.uint8)


def on_white(image: Image.Image) -> Image.Image:
    """Lay an RGBA image on a white ground."""
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")
