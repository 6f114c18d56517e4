"""Procedural textures of the grounds and skies.

Shapes: H W pixels, 3 colour channels in [0, 1]. `unit` is the size of a pixel of a 256-pixel scene.
Colours lie in memory plane by plane, which makes numpy several times faster than pixel by pixel.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Floats = NDArray[np.floating]
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
    colour_3HW = np.multiply.outer(step, amount_HW)
    colour_3HW += start[:, None, None]
    return colour_3HW.transpose(1, 2, 0)


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
    down_RC, across_RC, tone_RC = rng.random((3, rows, columns), dtype=np.float32)
    y, x = (np.arange(n, dtype=np.float32) / np.float32(cell) + 1 for n in (height, width))
    row, column = y.astype(np.intp), x.astype(np.intp)
    past_row, past_column = y - np.floor(y), x - np.floor(x)
    nearest = np.full((height, width), 9, dtype=np.float32)
    second, tone = nearest.copy(), nearest.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            at = np.ix_(row + i, column + j)
            distance = ((past_row - i)[:, None] - down_RC[at]) ** 2
            distance += ((past_column - j) - across_RC[at]) ** 2
            closer = distance < nearest
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
            tone = np.where(closer, tone_RC[at], tone)
    gap = np.clip(4 * (np.sqrt(second) - np.sqrt(nearest)), 0.25, 1)
    amount = (0.45 + 0.55 * tone) * gap * (1 - 0.3 * nearest) + 0.05 * grain(rng, height, width)
    return blend((0.1, 0.09, 0.08), jitter(rng, (0.74, 0.71, 0.67), 0.07), amount)


def asphalt(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Dark grey with light chippings."""
    patches = fractal_noise(rng, height, width, (60 * unit, 60 * unit), 2)
    chippings = value_noise(rng, height, width, (1.5 * unit, 1.5 * unit))
    amount = 0.35 + 0.1 * patches + 0.25 * chippings + 0.5 * (chippings > 0.65)
    return blend(jitter(rng, (0.16, 0.16, 0.17), 0.1), jitter(rng, (0.46, 0.46, 0.47), 0.1), amount)


def pieces(rng: Generator, row_H: Floats, along_HW: Floats) -> tuple[Floats, Floats]:
    """Return a random tone_HW of each piece in its row and how far each pixel is into its piece."""
    start_HW = np.floor(along_HW)
    row_H1, piece_HW = row_H.astype(np.intp)[:, None], start_HW.astype(np.intp)
    tones = rng.random((row_H1.max() + 1, piece_HW.max() + 1), dtype=np.float32)
    return tones[row_H1, piece_HW], along_HW - start_HW


def brick_wall(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Courses of bricks, each of its own tone, in light mortar."""
    brick_height, brick_width = rng.uniform(13, 19) * unit, rng.uniform(32, 46) * unit
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    course = np.floor(y / brick_height)
    across = x / brick_width + (course % 2)[:, None] / 2
    tone, past_joint = pieces(rng, course, across)
    mortar = (past_joint * brick_width < 2 * unit) | (y - course * brick_height < 2 * unit)[:, None]
    rough = value_noise(rng, height, width, (3 * unit, 3 * unit))
    amount = 0.2 + 0.6 * tone + 0.25 * rough
    dark, light = jitter(rng, ((0.42, 0.17, 0.12), (0.7, 0.36, 0.26)), 0.1)
    bricks = blend(dark, light, amount)
    bricks[mortar] = jitter(rng, (0.72, 0.69, 0.65), 0.1)
    return bricks


def wooden_floor(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Planks with grain along them and dark joints."""
    plank_height, plank_length = rng.uniform(17, 26) * unit, rng.uniform(90, 150) * unit
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    plank = np.floor(y / plank_height)
    shift = rng.random(int(plank[-1]) + 1, dtype=np.float32)[plank.astype(np.intp)]
    along = x / plank_length + shift[:, None]
    tone, past_joint = pieces(rng, plank, along)
    thin = 1.5 * unit
    joint = (past_joint * plank_length < thin) | (y - plank * plank_height < thin)[:, None]
    streaks = value_noise(rng, height, width, (1.7 * unit, 40 * unit))
    amount = (0.15 + 0.6 * tone + 0.3 * streaks) * np.where(joint, np.float32(-0.5), np.float32(1))
    return blend(jitter(rng, (0.42, 0.25, 0.13), 0.1), jitter(rng, (0.76, 0.54, 0.33), 0.1), amount)


def tiled_floor(rng: Generator, height: int, width: int, unit: float) -> Floats:
    """Pale square tiles with darker grout and a sheen."""
    side = rng.uniform(30, 48) * unit
    y = np.arange(height, dtype=np.float32) / side + rng.random()
    x = np.arange(width, dtype=np.float32) / side + rng.random()
    tone, past_joint = pieces(rng, np.floor(y), np.broadcast_to(x, (height, width)))
    thin = 2 * unit / side
    grout = (past_joint < thin) | (y - np.floor(y) < thin)[:, None]
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
