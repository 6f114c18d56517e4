"""A Pillow image of any mode becomes an upright RGB photo.

Shapes: H W pixels, h rows of a strip.
"""

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112
"""EXIF: how the camera was held."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""

STRIP = 64
"""Rows that are computed at a time: a large image is not copied whole for each step."""


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
    strips = [grey_HW[start : start + STRIP] for start in range(0, len(grey_HW), STRIP)]
    largest = max(float(finite(strip_hW).max()) for strip_hW in strips)
    usual = (1.0, 255.0) if grey_HW.dtype.kind == "f" else (65535.0,)
    white = next((limit for limit in usual if largest <= limit), largest)
    eight_bit_HW = np.empty(grey_HW.shape, np.uint8)
    for start, strip_hW in zip(range(0, len(grey_HW), STRIP), strips, strict=True):
        scaled_hW = finite(strip_hW).clip(0, white) * (255 / white) + 0.5
        eight_bit_HW[start : start + STRIP] = scaled_hW.astype(np.uint8)
    return eight_bit_HW


def finite(grey_hW: np.ndarray) -> np.ndarray:
    """Return grey values as float64, those that are no number or without end as 0."""
    return np.nan_to_num(grey_hW.astype(np.float64), posinf=0, neginf=0)


def on_white(image: Image.Image) -> Image.Image:
    """Lay an RGBA image on a white ground."""
    width, height = image.size
    photo = Image.new("RGB", image.size)
    for top in range(0, height, STRIP):
        strip = image.crop((0, top, width, min(top + STRIP, height)))
        ground = Image.new("RGBA", strip.size, "white")
        photo.paste(Image.alpha_composite(ground, strip).convert("RGB"), (0, top))
    return photo
