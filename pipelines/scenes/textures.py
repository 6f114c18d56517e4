"""Procedural textures of the grounds and skies.

Shapes: H W pixels, 3 colour channels in [0, 1]. `unit` is the size of a pixel of a 256-pixel scene.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Floats = NDArray[np.float32]
Texture = Callable[[Generator, int, int, float], Floats]


def value_noise(rng: Generator, height: int, width: int, cell: tuple[float, float]) -> Floats:
    """Return smooth noise_HW in about [-1, 1] that varies over `cell` pixels (down, across)."""
    rows = max(2, round(height / cell[0]) + 1)
    columns = max(2, round(width / cell[1]) + 1)
    grid = 2 * rng.random((rows, columns), dtype=np.float32) - 1
    resized = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def fractal_noise(
    rng: Generator, height: int, width: int, cell: tuple[float, float], octaves: int
) -> Floats:
    """Return the sum of octaves of noise, each half as coarse and half as strong, noise_HW."""
    noise = value_noise(rng, height, width, cell).copy()
    for octave in range(1, octaves):
        scale = 0.5**octave
        finer = (max(1.0, cell[0] * scale), max(1.0, cell[1] * scale))
        noise += np.float32(scale) * value_noise(rng, height, width, finer)
    return noise


def grain(rng: Generator, height: int, width: int) -> Floats:
    """Return independent noise_HW of each pixel in [-1, 1]."""
    return 2 * rng.random((height, width), dtype=np.float32) - 1


def blend(first: ArrayLike, second: ArrayLike, amount_HW: Floats) -> Floats:
    """Return first where the amount is 0 and second where it is 1, colour_HW3."""
    start = np.asarray(first, dtype=np.float32)
    step = np.asarray(second, dtype=np.float32) - start
    return start + amount_HW[..., None] * step


def jitter(rng: Generator, colour: ArrayLike, amount: float) -> Floats:
    """Return the colour, a little brighter or darker and a little off in hue."""
    brightness = 1 + amount * rng.uniform(-1, 1)
    tint = 0.3 * amount * rng.uniform(-1, 1, 3)
    return (np.asarray(colour) * (brightness + tint)).astype(np.float32)


def down(height: int, start: float, stop: float) -> Floats:
    """Return a column from start (top row) to stop (bottom row), column_H1."""
    return np.linspace(start, stop, height, dtype=np.float32)[:, None]


def blue_sky(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Clear, deeper towards the top, with faint wisps."""
    wisps = fractal_noise(rng, height, width, (24 * unit, 80 * unit), 3)
    amount = down(height, rng.uniform(0, 0.3), rng.uniform(0.7, 1)) + 0.12 * np.maximum(wisps, 0)
    return blend(jitter(rng, (0.22, 0.47, 0.85), 0.08), jitter(rng, (0.6, 0.8, 0.97), 0.04), amount)


def cloudy_sky(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Overcast: grey clouds with lighter edges."""
    clouds = fractal_noise(rng, height, width, (40 * unit, 70 * unit), 4)
    amount = np.clip(0.5 + 0.7 * clouds, 0, 1)
    return blend(jitter(rng, (0.5, 0.53, 0.58), 0.1), jitter(rng, (0.85, 0.86, 0.88), 0.04), amount)


def sunset_sky(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """From violet through orange to pale yellow, with dark bands of cloud."""
    bands = fractal_noise(rng, height, width, (14 * unit, 90 * unit), 3)
    t = down(height, rng.uniform(0, 0.2), 1.0) + 0.06 * bands
    stops = jitter(rng, ((0.33, 0.22, 0.45), (0.9, 0.42, 0.3), (1.0, 0.78, 0.45)), 0.06)
    sky = blend(stops[0], stops[1], np.clip(2 * t, 0, 1))
    sky += np.clip(2 * t - 1, 0, 1)[..., None] * (stops[2] - stops[1])
    return sky * (1 - 0.3 * np.clip(bands - 0.2, 0, 1))[..., None]


def grass(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Blades: fine upright streaks over broad patches."""
    patches = fractal_noise(rng, height, width, (50 * unit, 60 * unit), 2)
    blades = value_noise(rng, height, width, (6 * unit, 1.6 * unit))
    amount = 0.5 + 0.2 * patches + 0.35 * blades + 0.15 * grain(rng, height, width)
    return blend(jitter(rng, (0.13, 0.27, 0.07), 0.1), jitter(rng, (0.45, 0.6, 0.2), 0.1), amount)


def sand(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Wind ripples and grains."""
    warp = fractal_noise(rng, height, width, (50 * unit, 60 * unit), 2)
    rows = down(height, 0, height / unit)
    ripples = np.sin(rows * rng.uniform(0.35, 0.6) + 5 * warp)
    amount = 0.5 + 0.2 * ripples + 0.15 * warp + 0.25 * grain(rng, height, width)
    return blend(jitter(rng, (0.7, 0.56, 0.37), 0.08), jitter(rng, (0.9, 0.79, 0.58), 0.05), amount)


def water(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Wide flat waves with glints."""
    swell = fractal_noise(rng, height, width, (10 * unit, 44 * unit), 2)
    waves = value_noise(rng, height, width, (3 * unit, 12 * unit))
    height_HW = 0.5 * swell + 0.5 * waves
    amount = 0.4 + 0.4 * height_HW + 1.2 * np.maximum(height_HW - 0.45, 0)
    return blend(jitter(rng, (0.03, 0.2, 0.32), 0.1), jitter(rng, (0.3, 0.58, 0.68), 0.1), amount)


def snow(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Soft drifts in bluish shade, with sparkle."""
    drifts = fractal_noise(rng, height, width, (40 * unit, 70 * unit), 3)
    specks = grain(rng, height, width)
    amount = 0.6 + 0.4 * drifts + 0.15 * specks + 0.6 * (specks > 0.97)
    return blend(jitter(rng, (0.7, 0.78, 0.9), 0.04), jitter(rng, (0.95, 0.97, 1.0), 0.02), amount)


def gravel(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Pebbles of many greys: the cells around jittered points, darker where they meet."""
    cell = rng.uniform(8, 12) * unit
    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    jitter_RC2 = rng.random((rows, columns, 2), dtype=np.float32)
    tone_RC = rng.uniform(0.45, 1.0, (rows, columns)).astype(np.float32)
    y, x = (np.arange(n, dtype=np.float32) / np.float32(cell) + 1 for n in (height, width))
    row, column = y.astype(np.intp), x.astype(np.intp)
    nearest = np.full((height, width), 9, dtype=np.float32)
    second, tone = nearest.copy(), nearest.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            at = np.ix_(row + i, column + j)
            point = jitter_RC2[at]
            dy = (y - row - i)[:, None] - point[..., 0]
            dx = (x - column - j)[None] - point[..., 1]
            distance = dy * dy + dx * dx
            closer = distance < nearest
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
            tone = np.where(closer, tone_RC[at], tone)
    gap = np.clip(4 * (np.sqrt(second) - np.sqrt(nearest)), 0.25, 1)
    amount = tone * gap * (1 - 0.3 * nearest) + 0.05 * grain(rng, height, width)
    return blend((0.1, 0.09, 0.08), jitter(rng, (0.74, 0.71, 0.67), 0.07), amount)


def asphalt(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Dark grey with light chippings."""
    patches = fractal_noise(rng, height, width, (60 * unit, 60 * unit), 2)
    chippings = value_noise(rng, height, width, (1.5 * unit, 1.5 * unit))
    amount = 0.35 + 0.1 * patches + 0.25 * chippings + 0.5 * (chippings > 0.65)
    return blend(jitter(rng, (0.16, 0.16, 0.17), 0.1), jitter(rng, (0.46, 0.46, 0.47), 0.1), amount)


def brick_wall(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Courses of bricks, each of its own tone, in light mortar."""
    brick_height, brick_width = rng.uniform(13, 19) * unit, rng.uniform(32, 46) * unit
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    course = (y / brick_height).astype(np.intp)
    across = (x[None] + (course % 2)[:, None] * np.float32(brick_width / 2)) / brick_width
    column = across.astype(np.intp)
    tone = rng.random((course[-1] + 1, column.max() + 1), dtype=np.float32)[course[:, None], column]
    to_joint_x = (across - column) * np.float32(brick_width)
    to_joint_y = (y - course * np.float32(brick_height))[:, None]
    mortar = (to_joint_x < 2 * unit) | (to_joint_y < 2 * unit)
    rough = value_noise(rng, height, width, (3 * unit, 3 * unit))
    amount = 0.2 + 0.6 * tone + 0.25 * rough
    bricks = blend(
        jitter(rng, (0.42, 0.17, 0.12), 0.1), jitter(rng, (0.7, 0.36, 0.26), 0.1), amount
    )
    bricks[mortar] = jitter(rng, (0.72, 0.69, 0.65), 0.1)
    return bricks


def wooden_floor(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Planks with grain along them and dark joints."""
    plank_height, plank_length = rng.uniform(17, 26) * unit, rng.uniform(90, 150) * unit
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    plank = (y / plank_height).astype(np.intp)
    shift = rng.random(plank[-1] + 1).astype(np.float32)[plank]
    along = x[None] / np.float32(plank_length) + shift[:, None]
    piece = along.astype(np.intp)
    tone = rng.random((plank[-1] + 1, piece.max() + 1), dtype=np.float32)[plank[:, None], piece]
    joint = ((along - piece) * plank_length < 1.5 * unit) | (
        (y - plank * np.float32(plank_height))[:, None] < 1.5 * unit
    )
    streaks = value_noise(rng, height, width, (1.7 * unit, 40 * unit))
    amount = (0.15 + 0.6 * tone + 0.3 * streaks) * np.where(joint, np.float32(-0.5), 1)
    return blend(jitter(rng, (0.42, 0.25, 0.13), 0.1), jitter(rng, (0.76, 0.54, 0.33), 0.1), amount)


def tiled_floor(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Pale square tiles with darker grout and a sheen."""
    side = rng.uniform(30, 48) * unit
    y = (np.arange(height, dtype=np.float32) + rng.uniform(0, side)) / np.float32(side)
    x = (np.arange(width, dtype=np.float32) + rng.uniform(0, side)) / np.float32(side)
    row, column = y.astype(np.intp), x.astype(np.intp)
    tone = rng.random((row[-1] + 1, column[-1] + 1), dtype=np.float32)[np.ix_(row, column)]
    thin = 2 * unit / side
    grout = ((y - row) < thin)[:, None] | ((x - column) < thin)[None]
    sheen = value_noise(rng, height, width, (90 * unit, 90 * unit))
    amount = 0.3 + 0.4 * tone + 0.3 * sheen
    pale = jitter(rng, ((0.62, 0.68, 0.66), (0.8, 0.85, 0.82)), 0.06)
    tiles = blend(pale[0], pale[1], amount)
    tiles[grout] = jitter(rng, (0.38, 0.4, 0.4), 0.1)
    return tiles


TEXTURES: dict[str, Texture] = {
    "blue sky": blue_sky,
    "cloudy sky": cloudy_sky,
    "sunset sky": sunset_sky,
    "grass": grass,
    "sand": sand,
    "water": water,
    "snow": snow,
    "gravel": gravel,
    "asphalt": asphalt,
    "brick wall": brick_wall,
    "wooden floor": wooden_floor,
    "tiled floor": tiled_floor,
}
"""The texture of each ground: (rng, height, width, unit) -> colour_HW3."""
