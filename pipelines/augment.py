"""What becomes of an image and its mask in training (section 1.1 of the specification).

In this order: resize, crop, colours, flip, pad; each a function of its own. A `numpy` generator
decides whatever is left to chance, so the same seed gives the same pixels anywhere.

Shapes: H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from PIL import Image

from pipelines.colour import HUES, to_hsv, to_rgb
from sed.shortest_edge import resize_shortest_edge

NO_CLASS = -1
"""Label of pixels without a class: negatives for every class, as the published models train."""

PADDING = 128
"""Value of the pixels beside an image that is smaller than the crop."""

CROP_TRIES = 10
"""Crops drawn at most in search of one that no class fills."""

BRIGHTNESS = 32.0
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18
"""Ranges of the colour changes."""

Pair = tuple[np.ndarray, np.ndarray]
"""image_HW3 (uint8 RGB) and labels_HW (int32, `NO_CLASS` for none)."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied; the defaults are the published recipe."""

    short_sides: tuple[int, ...] = (768,)
    """Lengths of the shorter side to choose from, in pixels."""

    long_side: int = 2666
    """Bound of the longer side, in pixels."""

    crop_size: int = 768
    """Side of the square that is cropped, in pixels."""

    max_class_area: float = 1.0
    """Share of a crop that a single class may have before another is drawn; 1: any."""

    colours: bool = True
    """Vary brightness, contrast, saturation and hue."""

    flip: bool = True
    """Mirror every other image."""

    def __call__(self, photo: Image.Image, labels_HW: np.ndarray, rng: Generator) -> Pair:
        """Return a square of `crop_size` of a photo, and its labels."""
        short_side = int(rng.choice(self.short_sides))
        image, labels = resize(photo, labels_HW, short_side, self.long_side)
        image, labels = crop(image, labels, self.crop_size, self.max_class_area, rng)
        if self.colours:
            image = vary_colours(image, rng)
        if self.flip:
            image, labels = flip(image, labels, rng)
        return pad(image, labels, self.crop_size)


def resize(photo: Image.Image, labels_HW: np.ndarray, short_side: int, long_side: int) -> Pair:
    """Resize so that the shorter side has a length: the photo antialiased, labels by the nearest.

    Raises:
        ValueError: The photo and its labels differ in size.
    """
    if (photo.height, photo.width) != labels_HW.shape:
        height, width = labels_HW.shape
        raise ValueError(
            f"the photo has {photo.width} x {photo.height} pixels, its mask {width} x {height}"
        )
    small = resize_shortest_edge(photo, short_side, long_side)
    return np.asarray(small), nearest(labels_HW, small.height, small.width)


def nearest(labels_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize labels: pixel i of the result is pixel floor(i * old / new), as torch's "nearest"."""
    rows = np.arange(height) * labels_HW.shape[0] // height
    columns = np.arange(width) * labels_HW.shape[1] // width
    return labels_HW[rows[:, None], columns[None, :]]


def crop(
    image_HW3: np.ndarray, labels_HW: np.ndarray, size: int, max_class_area: float, rng: Generator
) -> Pair:
    """Return a random square, or all of a side that is shorter.

    Args:
        image_HW3: The image.
        labels_HW: Its labels.
        size: Side of the square, in pixels.
        max_class_area: Below 1, a crop is drawn anew, up to ten times in all, until it shows two
            classes or more and none of them has this share of its labelled pixels.
        rng: Decides.
    """
    window = draw_window(labels_HW, size, rng)
    for _ in range(CROP_TRIES - 1):
        if max_class_area >= 1 or is_mixed(labels_HW[window], max_class_area):
            break
        window = draw_window(labels_HW, size, rng)
    return image_HW3[window], labels_HW[window]


def draw_window(labels_HW: np.ndarray, size: int, rng: Generator) -> tuple[slice, slice]:
    """Return the rows and columns of a random square."""
    height, width = labels_HW.shape
    top = int(rng.integers(max(0, height - size) + 1))
    left = int(rng.integers(max(0, width - size) + 1))
    return slice(top, top + size), slice(left, left + size)


def is_mixed(labels_HW: np.ndarray, max_class_area: float) -> bool:
    """Say whether labels show two classes or more, none of them with too large a share."""
    found, counts = np.unique(labels_HW, return_counts=True)
    counts = counts[found != NO_CLASS]
    return len(counts) > 1 and bool(counts.max() < counts.sum() * max_class_area)


def vary_colours(image_HW3: np.ndarray, rng: Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue at random, as SSD does."""
    image_HW3 = maybe(brighten, image_HW3, rng)
    contrast = partial(scale_values, bounds=CONTRAST)
    later: list[Change] = [scale_saturation, turn_hue]
    for change in [contrast, *later] if rng.random() < 0.5 else [*later, contrast]:
        image_HW3 = maybe(change, image_HW3, rng)
    return image_HW3


Change = Callable[[np.ndarray, Generator], np.ndarray]


def maybe(change: Change, image_HW3: np.ndarray, rng: Generator) -> np.ndarray:
    """Apply a change to every other image."""
    return change(image_HW3, rng) if rng.random() < 0.5 else image_HW3


def brighten(image_HW3: np.ndarray, rng: Generator) -> np.ndarray:
    """Add up to 32 to, or take it from, every value."""
    return to_bytes(image_HW3 + np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS)))


def scale_values(
    values: np.ndarray, rng: Generator, bounds: tuple[float, float] = CONTRAST
) -> np.ndarray:
    """Multiply every value by a number within bounds."""
    return to_bytes(values * np.float32(rng.uniform(*bounds)))


def scale_saturation(image_HW3: np.ndarray, rng: Generator) -> np.ndarray:
    """Make every colour paler, or richer."""
    hsv_HW3 = to_hsv(image_HW3)
    hsv_HW3[..., 1] = scale_values(hsv_HW3[..., 1], rng, SATURATION)
    return to_rgb(hsv_HW3)


def turn_hue(image_HW3: np.ndarray, rng: Generator) -> np.ndarray:
    """Turn every hue by up to a tenth of the circle."""
    hsv_HW3 = to_hsv(image_HW3)
    turn = int(rng.integers(-HUE, HUE, endpoint=True))
    hsv_HW3[..., 0] = (hsv_HW3[..., 0].astype(np.int64) + turn) % HUES
    return to_rgb(hsv_HW3)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Return values as uint8: clipped, and cut off rather than rounded."""
    return values.clip(0, 255).astype(np.uint8)


def flip(image_HW3: np.ndarray, labels_HW: np.ndarray, rng: Generator) -> Pair:
    """Mirror every other image with its labels."""
    if rng.random() < 0.5:
        return image_HW3[:, ::-1], labels_HW[:, ::-1]
    return image_HW3, labels_HW


def pad(image_HW3: np.ndarray, labels_HW: np.ndarray, size: int) -> Pair:
    """Extend to a square, right and below, with grey that has no class."""
    below, right = size - labels_HW.shape[0], size - labels_HW.shape[1]
    image_HW3 = np.pad(image_HW3, ((0, below), (0, right), (0, 0)), constant_values=PADDING)
    return image_HW3, np.pad(labels_HW, ((0, below), (0, right)), constant_values=NO_CLASS)
