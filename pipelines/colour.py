"""Hue, saturation and value as OpenCV has them for 8 bits: hue 0..179, the others 0..255.

The published models were trained on colours that went through this rounding.

Shapes: H W pixels.
"""

import numpy as np

HUES = 180
SHIFT = 12
HALF = 1 << (SHIFT - 1)

STEPS = np.arange(1, 256)
SATURATION = np.concatenate([[0], np.rint((255 << SHIFT) / STEPS)]).astype(np.int32)
HUE = np.concatenate([[0], np.rint((HUES << SHIFT) / (6 * STEPS))]).astype(np.int32)
"""Fixed-point reciprocals, by value and by the spread of a colour's channels."""

SECTORS = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])
"""Which of four levels red, green and blue have in each sixth of the circle of hues."""


def to_hsv(image_HW3: np.ndarray) -> np.ndarray:
    """Return hue, saturation and value of an RGB image of uint8, hsv_HW3."""
    red, green, blue = np.moveaxis(image_HW3.astype(np.int32), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    saturation = (spread * SATURATION[value] + HALF) >> SHIFT
    hue = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * HUE[spread] + HALF) >> SHIFT
    hue += HUES * (hue < 0)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)


def to_rgb(hsv_HW3: np.ndarray) -> np.ndarray:
    """Return the RGB image of uint8 of hue, saturation and value, image_HW3.

    Cut off rather than rounded, and with one rounding per multiply-add, as OpenCV's vector code.
    """
    hue, saturation, value = np.moveaxis(hsv_HW3.astype(np.float32), -1, 0)
    saturation, value = saturation * np.float32(1 / 255), value * np.float32(1 / 255)
    hue = hue * np.float32(6 / HUES)
    sector = np.floor(hue)
    part = hue - sector
    levels = np.stack(
        [value, value * (1 - saturation), *(value * rest(saturation, p) for p in (part, 1 - part))],
        axis=-1,
    )
    order = SECTORS[sector.astype(np.int64) % 6]
    rgb = np.take_along_axis(levels, order, axis=-1)
    return (rgb * np.float32(255)).clip(0, 255).astype(np.uint8)


def rest(saturation_HW: np.ndarray, part_HW: np.ndarray) -> np.ndarray:
    """Return 1 - saturation * part, rounded once."""
    return (1 - saturation_HW.astype(np.float64) * part_HW).astype(np.float32)
