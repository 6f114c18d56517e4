"""The colours of Pascal VOC, which tools of masks agree on.

Shapes: N colours.
"""

import numpy as np

VOC_SIZE = 256


def voc_colours() -> np.ndarray:
    """Return colours_N3 of 0 (black) to 255, all different: bits of the index, spread."""
    index_N = np.arange(VOC_SIZE)
    colours_N3 = np.zeros((VOC_SIZE, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours_N3[:, channel] |= ((index_N >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours_N3


def hexadecimal(index: int) -> str:
    """Return the colour of a class index as #rrggbb; from 255 classes on colours come again."""
    red, green, blue = voc_colours()[1 + index % (VOC_SIZE - 1)].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"
