"""The shapes of the objects: outlines and inner details as polygons in a unit frame.

The frame is [-1, 1] in both directions, x to the right and y down. Shapes: P points of a polygon.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Paint = tuple[int, int, int, int]

SHADE: Paint = (0, 0, 0, 70)
LINE: Paint = (0, 0, 0, 110)
LIGHT: Paint = (255, 255, 255, 70)
BARK: Paint = (92, 62, 38, 255)
METAL: Paint = (95, 95, 100, 255)
RUBBER: Paint = (38, 38, 40, 255)
GLASS: Paint = (170, 200, 215, 235)


@dataclass(frozen=True)
class Shape:
    """One object seen from the side."""

    outline: tuple[Points, ...]
    """Polygons whose union is the silhouette."""

    holes: tuple[Points, ...] = ()
    """Polygons cut out of the silhouette: what lies behind shows through."""

    details: tuple[tuple[Points, Paint], ...] = ()
    """Polygons painted over the object's look, visible inside the silhouette only."""


def polygon(*points: tuple[float, float]) -> Points:
    """Return points_P2."""
    return np.array(points, dtype=np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the four corners, points_P2."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def arc(
    centre: tuple[float, float],
    radii: tuple[float, float],
    degrees: tuple[float, float] = (0, 360),
    steps: int = 40,
) -> Points:
    """Return points_P2 on an ellipse, clockwise from the right."""
    angle = np.radians(np.linspace(*degrees, steps))
    return np.array(centre) + np.array(radii) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def band(path: Points, width: float) -> Points:
    """Return the outline of a line of that width along a path, points_P2."""
    direction = np.gradient(path, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = direction[:, ::-1] * (1, -1) * width / 2
    return np.concatenate([path + normal, (path - normal)[::-1]])


def joined(parts: Iterable[Points]) -> Points:
    """Return one polygon through the parts in their order, points_P2."""
    return np.concatenate(list(parts))


def ball() -> Shape:
    """A disc with two curved seams."""
    seams = (arc((-1.1, 0), (0.8, 1.0), (-60, 60)), arc((1.1, 0), (0.8, 1.0), (120, 240)))
    return Shape((arc((0, 0), (0.92, 0.92)),), details=tuple((band(s, 0.06), LINE) for s in seams))


def box() -> Shape:
    """A crate in oblique view, its top light and its side dark."""
    front = rectangle(-0.9, -0.4, 0.5, 0.9)
    top = polygon((-0.9, -0.4), (-0.5, -0.8), (0.9, -0.8), (0.5, -0.4))
    side = polygon((0.5, -0.4), (0.9, -0.8), (0.9, 0.5), (0.5, 0.9))
    edges = (rectangle(-0.9, -0.43, 0.5, -0.37), rectangle(0.47, -0.4, 0.53, 0.9))
    return Shape(
        (front, top, side), details=((top, LIGHT), (side, SHADE), *((e, LINE) for e in edges))
    )


def star() -> Shape:
    """Five points."""
    angle = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2, 0.43, 1.0)
    return Shape((np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.08], axis=1),))


def umbrella() -> Shape:
    """A dome with a scalloped hem and ribs, over a stick with a hook."""
    hem = [arc((0.63 - 0.42 * i, 0.05), (0.21, 0.14), (0, -180), 10) for i in range(4)]
    dome = joined([arc((0, 0.05), (0.84 + 0.12, 0.95), (180, 360)), *hem])
    stick = rectangle(-0.045, -0.1, 0.045, 0.75)
    hook = band(arc((-0.15, 0.74), (0.15, 0.2), (0, 180), 16), 0.1)
    tip = rectangle(-0.03, -1.0, 0.03, -0.85)
    ribs = [band(arc((0, 0.05), (x, 0.95), (180, 360)), 0.03) for x in (0.1, 0.45)]
    under = (rectangle(-0.045, -0.06, 0.045, 0.75), METAL)
    return Shape(
        (dome, stick, hook, tip), details=(*((r, SHADE) for r in ribs), under, (hook, METAL))
    )


def mug() -> Shape:
    """A cup with a handle on its right and a dark inside."""
    rim = arc((-0.2, -0.62), (0.62, 0.16))
    body = joined(
        [arc((-0.2, -0.62), (0.62, 0.16), (180, 360)), arc((-0.2, 0.7), (0.56, 0.2), (0, 180))]
    )
    handle = arc((0.42, 0.02), (0.5, 0.5))
    hole = arc((0.42, 0.02), (0.28, 0.28), (-62, 62))
    inside = arc((-0.2, -0.61), (0.54, 0.11))
    return Shape((handle, body), (hole,), ((rim, LIGHT), (inside, LINE)))


def bottle() -> Shape:
    """Body, shoulders, neck and cap, with a pale label."""
    body = joined(
        [
            polygon((-0.16, -0.95), (0.16, -0.95), (0.16, -0.5)),
            polygon((0.3, -0.38), (0.4, -0.2), (0.42, 0.85), (0.36, 0.97)),
            polygon((-0.36, 0.97), (-0.42, 0.85), (-0.4, -0.2), (-0.3, -0.38), (-0.16, -0.5)),
        ]
    )
    cap, label = rectangle(-0.19, -1.0, 0.19, -0.8), rectangle(-0.5, 0.1, 0.5, 0.6)
    edges = (rectangle(-0.5, 0.07, 0.5, 0.1), rectangle(-0.5, 0.6, 0.5, 0.63))
    return Shape((body, cap), details=((cap, RUBBER), (label, LIGHT), *((e, SHADE) for e in edges)))


def tree() -> Shape:
    """A fir of three tiers on a trunk."""
    tiers = [
        polygon((0, top), (half, bottom), (-half, bottom))
        for top, half, bottom in ((-0.1, 0.78, 0.66), (-0.55, 0.62, 0.2), (-1.0, 0.46, -0.25))
    ]
    hems = [
        polygon((-0.44, 0.2), (0.44, 0.2), (0.3, 0.32), (-0.3, 0.32)),
        polygon((-0.34, -0.25), (0.34, -0.25), (0.22, -0.14), (-0.22, -0.14)),
    ]
    trunk = rectangle(-0.14, 0.66, 0.14, 1.0)
    return Shape((*tiers, trunk), details=((trunk, BARK), *((h, LINE) for h in hems)))


def house() -> Shape:
    """Walls, a darker gable roof, a chimney, a door and two windows."""
    walls = rectangle(-0.7, -0.2, 0.7, 0.9)
    roof = polygon((-0.95, -0.18), (0, -0.95), (0.95, -0.18))
    chimney = rectangle(0.42, -0.9, 0.62, -0.3)
    door = rectangle(-0.15, 0.35, 0.17, 0.9)
    windows = (rectangle(-0.53, 0.1, -0.28, 0.4), rectangle(0.3, 0.1, 0.55, 0.4))
    return Shape(
        (walls, roof, chimney),
        details=((roof, SHADE), (chimney, LINE), (door, BARK), *((w, GLASS) for w in windows)),
    )


def fish() -> Shape:
    """A body with fins and a forked tail, an eye and a gill."""
    body = arc((-0.18, 0), (0.78, 0.46))
    tail = polygon((0.42, 0), (0.98, -0.46), (0.82, 0), (0.98, 0.46))
    back = polygon((-0.45, -0.38), (0.0, -0.72), (0.3, -0.3))
    belly = polygon((-0.3, 0.38), (0.05, 0.68), (0.15, 0.36))
    gill = band(arc((-0.62, 0), (0.2, 0.34), (-70, 70), 16), 0.05)
    eye, pupil = arc((-0.68, -0.12), (0.11, 0.11)), arc((-0.69, -0.12), (0.06, 0.06))
    details = ((tail, SHADE), (back, SHADE), (belly, SHADE), (gill, LINE))
    white, black = (245, 245, 245, 255), (15, 15, 15, 255)
    return Shape((tail, back, belly, body), details=(*details, (eye, white), (pupil, black)))


def heart() -> Shape:
    """The playing-card curve."""
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return Shape((np.stack([x / 17, -(y + 2.5) / 16.5], axis=1),))


def ring() -> Shape:
    """An annulus; the ground shows through."""
    groove = joined([arc((0, 0), (0.74, 0.74)), arc((0, 0), (0.69, 0.69), (360, 0))])
    return Shape((arc((0, 0), (0.95, 0.95)),), (arc((0, 0), (0.5, 0.5)),), ((groove, SHADE),))


def car() -> Shape:
    """A saloon from the side: cabin with windows, two wheels."""
    body = polygon((-1, 0.0), (-0.9, -0.12), (0.85, -0.12), (1, 0.1), (1, 0.42), (-1, 0.42))
    cabin = polygon((-0.72, -0.1), (-0.5, -0.55), (0.32, -0.55), (0.62, -0.1))
    wheels = [arc((x, 0.42), (0.25, 0.25), steps=24) for x in (-0.55, 0.55)]
    hubs = [arc((x, 0.42), (0.11, 0.11), steps=16) for x in (-0.55, 0.55)]
    windows = (
        polygon((-0.6, -0.12), (-0.44, -0.46), (-0.1, -0.46), (-0.1, -0.12)),
        polygon((-0.02, -0.12), (-0.02, -0.46), (0.27, -0.46), (0.5, -0.12)),
    )
    details = (*((w, GLASS) for w in windows), (rectangle(-1, 0.12, 1, 0.16), SHADE))
    tyres = (*((w, RUBBER) for w in wheels), *((h, METAL) for h in hubs))
    return Shape((body, cabin, *wheels), details=(*details, *tyres))


SHAPES: dict[str, Shape] = {
    make.__name__: make()
    for make in (ball, box, star, umbrella, mug, bottle, tree, house, fish, heart, ring, car)
}
"""The shapes by name."""
