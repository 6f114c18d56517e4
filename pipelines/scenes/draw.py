"""Draw one scene from a seed: a stage, objects that may hide each other, a photo of it all.

Shapes: H W pixels (a square), S side of an object's square, 3 colour channels, K the stage and the
objects laid so far.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipelines.scenes.layout import draw_stage
from pipelines.scenes.names import SKIES, seen_objects, shape_and_look, unseen_classes
from pipelines.scenes.objects import Sprite, draw_object
from pipelines.scenes.photo import photograph
from pipelines.scenes.textures import Floats

Split = Literal["train", "seen", "unseen"]
STREAMS = {"train": 0, "seen": 1, "unseen": 2}
OBJECTS = {"train": seen_objects(), "seen": seen_objects(), "unseen": unseen_classes()}

MIN_VISIBLE = 0.45
"""Share of an object's pixels that the image border and later objects must leave."""

TRIES = 8
"""Places tried for an object before the scene goes on without it."""


class Scene(NamedTuple):
    """A drawn photo and what is where."""

    image_HW3: NDArray[np.uint8]
    """The photo."""

    mask_HW: NDArray[np.uint8]
    """Index into `vocabulary()` of each pixel; no pixel is left out."""


def draw(seed: int, index: int, *, split: Split, size: int = 256) -> Scene:
    """Draw scene `index` of a split; the same arguments always give the same scene.

    Args:
        seed: Which endless series of scenes.
        index: Which scene of the series.
        split: "train" and "seen" show training combinations only (in different scenes), every
            object of "unseen" is a combination that training never shows.
        size: Side of the image in pixels.
    """
    if split not in STREAMS:
        raise ValueError(f"split must be one of {', '.join(STREAMS)}, got {split!r}")
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    entropy = np.random.SeedSequence([seed, index, STREAMS[split]])
    rng = np.random.Generator(np.random.PCG64(entropy))
    canvas = Canvas(*draw_stage(rng, size))
    for _ in range(rng.integers(2, 6)):
        class_index = OBJECTS[split][rng.integers(len(OBJECTS[split]))]
        shape, look = shape_and_look(class_index)
        small = rng.random() < 0.08
        radius = rng.uniform(15, 22) if small else rng.uniform(23, 65)
        sprite = draw_object(rng, shape, look, radius=radius * size / 256)
        canvas.place(rng, sprite, class_index)
    return Scene(photograph(rng, canvas.colour_HW3), canvas.mask_HW)


class Canvas:
    """A scene in the making: objects are laid on it one after the other."""

    def __init__(self, colour_HW3: Floats, mask_HW: NDArray[np.uint8]) -> None:
        self.colour_HW3 = colour_HW3
        self.mask_HW = mask_HW
        self.owner_HW = np.zeros(mask_HW.shape, dtype=np.uint8)
        self.areas_K = np.array([mask_HW.size])
        self.visible_K = self.areas_K.copy()

    def place(self, rng: Generator, sprite: Sprite, class_index: int) -> None:
        """Lay an object where it and all before it stay recognisable, or nowhere."""
        size, side = len(self.mask_HW), len(sprite.alpha_SS)
        covers_SS = sprite.alpha_SS >= 0.5
        area = int(covers_SS.sum())
        for _ in range(TRIES):
            top = round(size * rng.uniform(0.15, 0.92)) - side // 2
            left = round(size * rng.uniform(0.08, 0.92)) - side // 2
            on_canvas, on_sprite = overlap(top, size, side), overlap(left, size, side)
            window = (on_canvas[0], on_sprite[0])
            part = (on_canvas[1], on_sprite[1])
            if self.leaves_enough(covers_SS[part], window, area):
                self.lay(rng, sprite, window, part, class_index)
                self.areas_K = np.append(self.areas_K, area)
                return

    def leaves_enough(
        self, covers: NDArray[np.bool_], window: tuple[slice, slice], area: int
    ) -> bool:
        """Say whether enough of the new object and of all earlier ones would be visible."""
        if covers.sum() < MIN_VISIBLE * area:
            return False
        left_over = (self.visible_K - self.hidden_by(covers, window)) / self.areas_K
        return bool((left_over[1:] >= MIN_VISIBLE).all())

    def hidden_by(self, covers: NDArray[np.bool_], window: tuple[slice, slice]) -> NDArray[np.intp]:
        """Return how many visible pixels of the stage and of each object lie under the new one."""
        return np.bincount(self.owner_HW[window][covers], minlength=len(self.areas_K))

    def lay(
        self,
        rng: Generator,
        sprite: Sprite,
        window: tuple[slice, slice],
        part: tuple[slice, slice],
        class_index: int,
    ) -> None:
        """Paint shadow and object, and note what covers each pixel."""
        alpha = sprite.alpha_SS[part]
        covers = alpha >= 0.5
        if covers.any() and np.median(self.mask_HW[window][covers]) >= len(SKIES):
            reach = max(1, round(0.09 * len(sprite.alpha_SS) / 2))
            shift = (reach, int(rng.integers(-reach, reach + 1)))
            shadow = np.roll(sprite.shadow_SS, shift, axis=(0, 1))[part]
            self.colour_HW3[window] *= (1 - np.float32(rng.uniform(0.3, 0.6)) * shadow)[..., None]
        patch = self.colour_HW3[window]
        patch += alpha[..., None] * (sprite.colour_SS3[part] - patch)
        self.mask_HW[window][covers] = class_index
        hidden_K = self.hidden_by(covers, window)
        self.visible_K = np.append(self.visible_K - hidden_K, covers.sum())
        self.owner_HW[window][covers] = len(self.areas_K)


def overlap(start: int, size: int, side: int) -> tuple[slice, slice]:
    """Return where a square that begins at `start` meets the canvas: on the canvas, on it."""
    first, last = max(start, 0), min(start + side, size)
    return slice(first, last), slice(first - start, last - start)
