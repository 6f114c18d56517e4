"""Label Studio's run lengths of a brush: not COCO's.

A mask is four equal channels (RGBA), row by row, 255 where painted. A 53-bit head says how many
values follow and how wide lengths are; then each run is a bit 1, two bits that choose the width of
its length, the length less one, and the value. Label Studio unpacks it with the `decode` of
thi.ng/rle-pack.

Shapes: H W pixels, R runs, W codes, T bits.
"""

from collections.abc import Iterator

import numpy as np

CHANNELS = 4
WIDTHS = (3, 4, 8, 16)
"""Bits that a length can have."""

MAX_RUN = 1 << WIDTHS[-1]
WORD = 8
"""Bits of a value."""


def class_masks(labels_HW: np.ndarray, num_classes: int) -> Iterator[tuple[int, list[int]]]:
    """Yield each class that is in a label map, in order, with its brush."""
    flat = labels_HW.ravel()
    edges_R = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts_R, ends_R = np.append(0, edges_R), np.append(edges_R, flat.size)
    values_R = flat[starts_R]
    for index in np.unique(values_R[values_R < num_classes]).tolist():
        here_R = values_R == index
        yield index, encode(starts_R[here_R], ends_R[here_R], flat.size)


def encode(starts_R: np.ndarray, ends_R: np.ndarray, size: int) -> list[int]:
    """Return the bytes of the brush that paints pixels starts to ends, of `size` pixels.

    Args:
        starts_R: First pixel of each painted run, ascending; runs do not touch.
        ends_R: Pixel after the last of each.
        size: Pixels of the image.
    """
    bounds = np.concatenate([[0], np.stack([starts_R, ends_R], axis=1).ravel(), [size]])
    lengths_R = np.diff(bounds) * CHANNELS
    painted_R = np.arange(len(lengths_R)) % 2 == 1
    # The first and the last run are empty where the brush touches the image's ends.
    lengths_R, painted_R = lengths_R[lengths_R > 0], painted_R[lengths_R > 0]
    lengths_W, painted_W = split(lengths_R, painted_R)
    codes_W, bits_W = run_codes(lengths_W, painted_W)
    head = [(size * CHANNELS, 32), (WORD - 1, 5), *((width - 1, 4) for width in WIDTHS)]
    codes = np.concatenate([np.array([value for value, _ in head], np.int64), codes_W])
    bits = np.concatenate([np.array([width for _, width in head], np.int64), bits_W])
    return pack(codes, bits).tolist()


def split(lengths_R: np.ndarray, painted_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split runs that are longer than a length can say; return lengths_W and painted_W."""
    pieces_R = -(-lengths_R // MAX_RUN)
    painted_W = np.repeat(painted_R, pieces_R)
    lengths_W = np.full(len(painted_W), MAX_RUN, np.int64)
    lengths_W[np.cumsum(pieces_R) - 1] = lengths_R - (pieces_R - 1) * MAX_RUN
    return lengths_W, painted_W


def run_codes(lengths_W: np.ndarray, painted_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each run and how many bits it has: codes_W and bits_W."""
    choice_W = np.searchsorted([1 << width for width in WIDTHS], lengths_W)
    widths_W = np.array(WIDTHS)[choice_W]
    code_W = (0b100 | choice_W) << widths_W | (lengths_W - 1)
    return code_W << WORD | painted_W * 255, 3 + widths_W + WORD


def pack(codes_W: np.ndarray, bits_W: np.ndarray) -> np.ndarray:
    """Write codes one after the other, high bits first; return bytes, the last filled with 0."""
    ends_W = np.cumsum(bits_W)
    bits_T = np.zeros(int(ends_W[-1]), np.uint8)
    for bit in range(int(bits_W.max())):
        has_W = bits_W > bit
        bits_T[ends_W[has_W] - 1 - bit] = codes_W[has_W] >> bit & 1
    return np.packbits(bits_T)
