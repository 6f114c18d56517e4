"""A Pillow image of any mode becomes an upright RGB photo.

Shapes: H W pixels.
"""

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112
"""EXIF: how the camera was held."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""


def upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF orientation says it was seen."""
    return ImageOps.exif_transpose(image) if read_orientation(image) != 1 else image


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
