"""Pictures of a report as data: URIs: photo, mask, confidence.

Shapes: H W pixels of the picture, N classes.
"""

import base64
import colorsys
import io

import numpy as np
from PIL import Image

KNOWN = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45"),
    *("#fabed4", "#469990", "#dcbeff", "#9a6324", "#ffe119", "#800000", "#aaffc3", "#808000"),
)
"""Colours that people tell apart, after Sasha Trubetskoy; the commonest classes get them."""

GOLDEN = 0.6180339887
"""Steps of this much around the colour wheel never come close to an earlier one soon."""

HEAT = ["#2c0b57", "#781c6d", "#bc3754", "#ed6925", "#fbb61a", "#fcfea4"]
"""Confidence from 0 to 1: dark is a guess, bright is certain."""


def class_colours(order: np.ndarray) -> np.ndarray:
    """Return a colour for each class, colours_N3; the first in `order` get the clearest ones."""
    colours_N3 = np.zeros((len(order), 3), np.uint8)
    for rank, index in enumerate(order):
        colours_N3[index] = from_hex(KNOWN[rank]) if rank < len(KNOWN) else wheel(rank)
    return colours_N3


def wheel(rank: int) -> tuple[int, int, int]:
    """Return a colour for a rank beyond the known ones."""
    lightness, saturation = ((0.45, 0.85), (0.62, 0.7), (0.35, 0.65))[rank % 3]
    red, green, blue = colorsys.hls_to_rgb(rank * GOLDEN % 1, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def from_hex(text: str) -> tuple[int, int, int]:
    """Return the parts of #rrggbb."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def to_hex(colour_3: np.ndarray) -> str:
    """Return #rrggbb."""
    return "#" + "".join(f"{part:02x}" for part in colour_3.tolist())


def open_grey(png: bytes) -> np.ndarray:
    """Return the values of an index or confidence PNG, values_HW."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def shrink(values_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the values at another size, each taken from the nearest pixel."""
    rows = ((np.arange(height) + 0.5) * values_HW.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values_HW.shape[1] / width).astype(int)
    return values_HW[rows[:, None], columns]


def photo_uri(image_HW3: np.ndarray) -> str:
    """Return a photo as a JPEG."""
    return file_uri(to_jpeg(image_HW3), "JPEG")


def to_jpeg(image_HW3: np.ndarray) -> bytes:
    """Return a photo as a JPEG file."""
    return encode(Image.fromarray(image_HW3), "JPEG", quality=82)


def mask_uri(labels_HW: np.ndarray, colours_N3: np.ndarray) -> str:
    """Return a label map as a PNG: solid colours, white borders, transparent where ignored."""
    return data_uri(mask_image(labels_HW, colours_N3), "PNG", optimize=True)


def mask_image(labels_HW: np.ndarray, colours_N3: np.ndarray) -> Image.Image:
    """Return a label map in solid colours with white borders, transparent where ignored."""
    height, width = labels_HW.shape
    known_HW = labels_HW < len(colours_N3)
    rgba_HW4 = np.zeros((height, width, 4), np.uint8)
    rgba_HW4[known_HW, :3] = colours_N3[labels_HW[known_HW]]
    rgba_HW4[known_HW, 3] = 255
    rgba_HW4[border(labels_HW)] = 255
    return Image.fromarray(rgba_HW4)


def border(labels_HW: np.ndarray) -> np.ndarray:
    """Return where the pixel to the right or below has another label."""
    border_HW = np.zeros(labels_HW.shape, bool)
    border_HW[:, :-1] |= labels_HW[:, :-1] != labels_HW[:, 1:]
    border_HW[:-1] |= labels_HW[:-1] != labels_HW[1:]
    return border_HW


def heat_uri(confidence_HW: np.ndarray, height: int, width: int) -> str:
    """Return a confidence map (255 is certain) in colours, smoothly enlarged."""
    image = Image.fromarray(confidence_HW).resize((width, height), Image.Resampling.BILINEAR)
    stops = np.array([from_hex(colour) for colour in HEAT])
    places = np.linspace(0, 255, len(stops))
    table = np.stack([np.interp(np.arange(256), places, stops[:, i]) for i in range(3)], axis=1)
    return photo_uri(table.round().astype(np.uint8)[np.asarray(image)])


def inner_point(mask_HW: np.ndarray) -> tuple[float, float] | None:
    """Return a point deep inside a shape, as shares of width and height; None if all is edge."""
    left_HW, depth = np.pad(mask_HW, 1), 0
    while True:
        inner_HW = left_HW.copy()
        for axis in (0, 1):
            inner_HW &= np.roll(left_HW, 1, axis) & np.roll(left_HW, -1, axis)
        if not inner_HW.any():
            break
        left_HW, depth = inner_HW, depth + 1
    if not depth:
        return None
    rows, columns = np.nonzero(left_HW)
    middle = np.argmin(np.hypot(rows - rows.mean(), columns - columns.mean()))
    height, width = mask_HW.shape
    return (float(columns[middle]) - 0.5) / width, (float(rows[middle]) - 0.5) / height


def data_uri(image: Image.Image, kind: str, **options: object) -> str:
    """Return an image as a URI that holds all of it."""
    return file_uri(encode(image, kind, **options), kind)


def file_uri(data: bytes, kind: str) -> str:
    """Return an image file as a URI that holds all of it."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
