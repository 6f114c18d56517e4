"""What objects are made of: plain colours, patterns of two colours, wood.

Shapes: H W pixels, 3 colour channels in [0, 1]. `x_HW` and `y_HW` are coordinates in the object's
own unit frame, so that a pattern turns and grows with its object.
"""

from itertools import permutations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipelines.scenes.textures import Floats, blend, jitter

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.08, 0.1),
    "orange": (0.97, 0.5, 0.05),
    "yellow": (0.97, 0.87, 0.1),
    "green": (0.08, 0.6, 0.2),
    "blue": (0.1, 0.25, 0.85),
    "purple": (0.5, 0.15, 0.65),
    "black": (0.09, 0.09, 0.1),
    "white": (0.95, 0.95, 0.94),
}

CONTRASTING = [
    (first, second)
    for first, second in permutations(PALETTE.values(), 2)
    if np.abs(np.subtract(first, second)).sum() > 0.9
]
"""Pairs of colours that a pattern can be made of."""


def paint(rng: Generator, look: str, x_HW: Floats, y_HW: Floats) -> Floats:
    """Return the colours of a look, colour_HW3 (or colour_113 where it is the same everywhere)."""
    if look in PALETTE:
        return jitter(rng, PALETTE[look], 0.1)[None, None]
    if look == "wooden":
        return wood(rng, x_HW, y_HW)
    amount_HW = {"striped": stripes, "spotted": spots, "checkered": checks}[look](rng, x_HW, y_HW)
    first, second = CONTRASTING[rng.integers(len(CONTRASTING))]
    return blend(jitter(rng, first, 0.08), jitter(rng, second, 0.08), amount_HW)


def turned(x_HW: Floats, y_HW: Floats, degrees: float) -> tuple[Floats, Floats]:
    """Return the coordinates in a frame turned by an angle."""
    cos, sin = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    return cos * x_HW + sin * y_HW, cos * y_HW - sin * x_HW


def soft_step(value_HW: NDArray[np.floating]) -> Floats:
    """Return 0 below zero and 1 above with a short ramp between."""
    return np.clip(0.5 + 4 * value_HW, 0, 1).astype(np.float32)


def stripes(rng: Generator, x_HW: Floats, y_HW: Floats) -> Floats:
    """Return parallel bars, amount_HW."""
    across, _ = turned(x_HW, y_HW, rng.choice([0, 45, 90, 135]))
    return soft_step(np.sin(across * np.float32(rng.uniform(10, 14)) + rng.uniform(0, 6)))


def spots(rng: Generator, x_HW: Floats, y_HW: Floats) -> Floats:
    """Return round dots in staggered rows, amount_HW."""
    spacing = np.float32(rng.uniform(0.4, 0.55))
    row = np.floor(y_HW / spacing)
    dy = y_HW / spacing - row - 0.5
    dx = x_HW / spacing + 0.5 * (row % 2)
    dx = dx - np.floor(dx) - 0.5
    return soft_step(3 * (0.3 - np.hypot(dx, dy)))


def checks(rng: Generator, x_HW: Floats, y_HW: Floats) -> Floats:
    """Return squares as on a chessboard, amount_HW."""
    frequency, phase = np.float32(rng.uniform(7, 9)), rng.uniform(0, 6)
    return soft_step(2 * np.sin(frequency * x_HW + phase) * np.sin(frequency * y_HW + phase))


def wood(rng: Generator, x_HW: Floats, y_HW: Floats) -> Floats:
    """Return boards with long wavy grain and dark joints, colour_HW3."""
    along, across = turned(x_HW, y_HW, rng.choice([0, 90]))
    wave = 0.12 * np.sin(2.5 * along + rng.uniform(0, 6))
    rings = np.sin(rng.uniform(16, 22) * (across + wave) + 2 * np.sin(1.3 * along))
    fine = np.sin(70 * (across + 0.5 * wave) + rng.uniform(0, 6))
    board = np.abs((across * 1.8 + rng.uniform(0, 1)) % 1 - 0.5) < 0.46
    amount = ((0.5 + 0.3 * rings + 0.2 * fine) * np.where(board, 1, -0.4)).astype(np.float32)
    return blend(jitter(rng, (0.43, 0.25, 0.11), 0.1), jitter(rng, (0.74, 0.5, 0.27), 0.1), amount)
