"""One object by itself: its silhouette and its shaded colours in a small square.

Shapes: S side of the square in pixels, 3 colour channels in [0, 1], P points of a polygon.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from pipelines.scenes.looks import paint
from pipelines.scenes.shapes import SHAPES, Points
from pipelines.scenes.textures import Floats

SUPERSAMPLE = 2
MAX_TURN = 25.0
"""Degrees; further and some shapes are no longer themselves."""

MARGIN = 1.3
"""Half side of the square over the radius of the object: room for its soft shadow."""


@dataclass(frozen=True)
class Sprite:
    """A drawn object, ready to be laid on a scene."""

    colour_SS3: Floats
    """Shaded colours, meaningful where the object is."""

    alpha_SS: Floats
    """Share of each pixel that the object covers; the mask is where it is a half or more."""

    shadow_SS: Floats
    """The blurred silhouette."""


def draw_object(rng: Generator, shape: str, look: str, *, radius: float) -> Sprite:
    """Draw a shape in a look, with a random turn and light from the upper left or right."""
    side = 2 * int(np.ceil(MARGIN * radius))
    flip = rng.choice([-1.0, 1.0])
    angle = np.radians(rng.uniform(-MAX_TURN, MAX_TURN))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn = np.diag([flip, 1.0]) @ turn  # row vectors: mirror, then turn
    silhouette, details = rasterise(shape, turn * radius, side)
    blurred = silhouette.filter(ImageFilter.BoxBlur(0.12 * radius)).filter(
        ImageFilter.BoxBlur(0.08 * radius)
    )
    alpha_SS = np.asarray(silhouette, dtype=np.float32) / 255
    shadow_SS = np.asarray(blurred, dtype=np.float32) / 255
    grid = (np.arange(side, dtype=np.float32) + 0.5 - side / 2) / np.float32(radius)
    x_SS, y_SS = grid[None], grid[:, None]
    back = np.linalg.inv(turn).astype(np.float32)
    own_x_SS, own_y_SS = (x_SS * back[0, i] + y_SS * back[1, i] for i in (0, 1))
    colour_SS3 = paint(rng, look, own_x_SS, own_y_SS)
    details_4SS = np.ascontiguousarray(np.asarray(details).transpose(2, 0, 1)) / np.float32(255)
    over_SS1 = details_4SS[3][..., None]
    details_SS3 = details_4SS[:3].transpose(1, 2, 0)
    colour_SS3 = colour_SS3 + over_SS1 * (details_SS3 - colour_SS3)
    return Sprite(shade(rng, colour_SS3, shadow_SS, x_SS, y_SS), alpha_SS, shadow_SS)


def rasterise(shape: str, transform: Points, side: int) -> tuple[Image.Image, Image.Image]:
    """Return the silhouette (L) and the details (RGBA) of a shape under a linear transform."""
    size = (SUPERSAMPLE * side, SUPERSAMPLE * side)
    silhouette, details = Image.new("L", size), Image.new("RGBA", size)
    pen, brush = ImageDraw.Draw(silhouette), ImageDraw.Draw(details, "RGBA")

    def place(points_P2: Points) -> list[float]:
        moved = (points_P2 @ transform + side / 2) * SUPERSAMPLE - 0.5
        return moved.ravel().tolist()

    for points_P2 in SHAPES[shape].outline:
        pen.polygon(place(points_P2), fill=255)
    for points_P2 in SHAPES[shape].holes:
        pen.polygon(place(points_P2), fill=0)
    for points_P2, colour in SHAPES[shape].details:
        brush.polygon(place(points_P2), fill=colour)
    return silhouette.reduce(SUPERSAMPLE), details.reduce(SUPERSAMPLE)


def shade(
    rng: Generator, colour_SS3: Floats, inside_SS: Floats, x_SS: Floats, y_SS: Floats
) -> Floats:
    """Return the colours under a soft light: a gradient, darker edges and a highlight."""
    light_x, light_y = rng.uniform(0.2, 0.6), -rng.uniform(0.3, 0.7)
    if rng.random() < 0.5:
        light_x = -light_x
    gradient = 0.22 * (light_x * x_SS + light_y * y_SS)
    edge = 0.45 * (np.clip(inside_SS, 0.4, 1) - 1)
    spot = (x_SS - 0.6 * light_x) ** 2 + (y_SS - 0.6 * light_y) ** 2
    gloss = rng.uniform(0.05, 0.4) * np.exp(-spot / np.float32(rng.uniform(0.02, 0.08)))
    lit_SS3 = colour_SS3 * (1.02 + gradient + edge)[..., None]
    lit_SS3 += (gloss * inside_SS)[..., None]
    return lit_SS3
