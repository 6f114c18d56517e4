"""The stage of a scene: one ground, a sky over a land, or a wall over a floor.

Shapes: H W pixels (a square), 3 colour channels in [0, 1].
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipelines.scenes.names import FLOORS, GROUNDS, LANDS, SKIES, WALLS
from pipelines.scenes.textures import TEXTURES, Floats


def draw_stage(rng: Generator, size: int) -> tuple[Floats, NDArray[np.uint8]]:
    """Return a stage without objects, colour_HW3 and mask_HW."""
    kind = rng.choice(["one", "outdoors", "indoors"], p=[0.3, 0.5, 0.2])
    if kind == "one":
        ground = rng.choice(GROUNDS)
        colour = TEXTURES[ground](rng, size, size, size / 256)
        return colour, np.full((size, size), GROUNDS.index(ground), dtype=np.uint8)
    if kind == "outdoors":
        edge = skyline(rng, size, waves=rng.uniform(0, 0.03))
        return two_parts(rng, rng.choice(SKIES), rng.choice(LANDS), edge)
    edge = skyline(rng, size, waves=0.0)
    colour, mask = two_parts(rng, rng.choice(WALLS), rng.choice(FLOORS), edge)
    rows = np.arange(size, dtype=np.float32)[:, None]
    corner = np.exp(-np.abs(rows - edge) / np.float32(0.05 * size))
    return colour * (1 - 0.35 * corner)[..., None], mask


def skyline(rng: Generator, size: int, *, waves: float) -> Floats:
    """Return the height of the border between the two parts at each column, edge_W."""
    x = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    edge = rng.uniform(0.25, 0.6) + rng.uniform(-0.1, 0.1) * x
    for frequency in (1, 2, 5):
        edge += waves / frequency * np.sin(2 * np.pi * frequency * x + rng.uniform(0, 6))
    return (edge * size).astype(np.float32)


def two_parts(
    rng: Generator, above: str, below: str, edge_W: Floats
) -> tuple[Floats, NDArray[np.uint8]]:
    """Return one texture above the border and another below it, colour_HW3 and mask_HW."""
    size, unit = len(edge_W), len(edge_W) / 256
    first, last = int(edge_W.min()) - 1, int(edge_W.max()) + 2
    rows = np.arange(size, dtype=np.float32)[:, None]
    share_HW = np.clip(rows + 1 - edge_W, 0, 1)
    colour = np.empty((3, size, size), dtype=np.float32).transpose(1, 2, 0)
    colour[:last] = TEXTURES[above](rng, last, size, unit)
    lower = TEXTURES[below](rng, size - first, size, unit)
    seam = share_HW[first:last, :, None]
    colour[first:last] += seam * (lower[: last - first] - colour[first:last])
    colour[last:] = lower[last - first :]
    mask = np.where(share_HW >= 0.5, GROUNDS.index(below), GROUNDS.index(above)).astype(np.uint8)
    return colour, mask
