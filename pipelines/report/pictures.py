"""Pictures of a report as data: URIs: photo, mask, confidence.

Shapes: H W pixels of the picture, N classes.
"""

import base64
import io
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

KNOWN = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45"),
    *("#fabed4", "#469990", "#dcbeff", "#9a6324", "#ffe119", "#800000", "#aaffc3", "#808000"),
)
"""Colours that people tell apart, after Sasha Trubetskoy; the commonest classes get them."""

GRID = 14
"""Steps of red, green and blue from which further colours are chosen."""

LIGHTNESS = (30, 88)
"""Bounds of a colour's lightness in CIELAB: darker or brighter ones are lost on photos."""

LIGHTNESS_COUNTS = 0.6
"""How much of a difference in lightness counts: photos are light and dark themselves."""

MIN_PALETTE = 48
"""Colours to choose from, however few the classes are."""

DIMMED = 170
"""Opacity, of 255, of the dark over all but the class that a picture is about."""

TINTED = 140
"""Opacity, of 255, of two classes that are confused: the photo has to show which is right."""

RING = 2
"""Pixels of the line around that class."""

FRAME = 14
"""Pixels between a small find and the white frame that leads the eye to it."""

HEAT = ["#2c0b57", "#781c6d", "#bc3754", "#ed6925", "#fbb61a", "#fcfea4"]
"""Confidence from 0 to 1: dark is a guess, bright is certain."""


def class_colours(order: np.ndarray, together: Iterable[Collection[int]] = ()) -> np.ndarray:
    """Return a colour for each class, colours_N3.

    Args:
        order: All classes; the first get the clearest colours.
        together: The classes of each picture: theirs are as far from each other as can be.
    """
    palette_C3 = distinct_colours(max(len(order), MIN_PALETTE))
    lab_C3 = to_lab(palette_C3.astype(float)) * (LIGHTNESS_COUNTS, 1, 1)
    beside: dict[int, set[int]] = {}
    for group in together:
        for index in group:
            beside.setdefault(index, set()).update(group)
    chosen: dict[int, int] = {}
    free_C = np.ones(len(palette_C3), bool)
    for index in sorted(order.tolist(), key=lambda index: index not in beside):
        near = [chosen[other] for other in beside.get(index, ()) if other in chosen]
        distance_C = np.ones(len(palette_C3))
        if near:
            distance_C = np.linalg.norm(lab_C3[:, None] - lab_C3[near], axis=2).min(axis=1)
        chosen[index] = int(np.where(free_C, distance_C, -1).argmax())
        free_C[chosen[index]] = False
    return palette_C3[[chosen[index] for index in range(len(order))]]


@lru_cache(maxsize=4)
def distinct_colours(count: int) -> np.ndarray:
    """Return so many colours: the known ones, then each as far from all before as can be."""
    steps = np.linspace(0, 255, GRID).round()
    grid_G3 = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lightness_G = to_lab(grid_G3)[:, 0]
    grid_G3 = grid_G3[(lightness_G >= LIGHTNESS[0]) & (lightness_G <= LIGHTNESS[1])]
    lab_G3 = to_lab(grid_G3)
    chosen = [np.array(from_hex(colour), float) for colour in KNOWN[:count]]
    distance_G = np.full(len(grid_G3), np.inf)
    for colour_3 in chosen:
        distance_G = np.minimum(distance_G, np.linalg.norm(lab_G3 - to_lab(colour_3), axis=1))
    while len(chosen) < count:
        best = int(distance_G.argmax())
        chosen.append(grid_G3[best])
        distance_G = np.minimum(distance_G, np.linalg.norm(lab_G3 - lab_G3[best], axis=1))
    return np.array(chosen[:count]).reshape(-1, 3).astype(np.uint8)


def to_lab(rgb_x3: np.ndarray) -> np.ndarray:
    """Return colours of sRGB, 0 to 255, in CIELAB (D65), where distances are as people see them."""
    part_x3 = rgb_x3 / 255
    linear_x3 = np.where(part_x3 > 0.04045, ((part_x3 + 0.055) / 1.055) ** 2.4, part_x3 / 12.92)
    matrix_33 = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz_x3 = linear_x3 @ matrix_33.T / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.moveaxis(
        np.where(xyz_x3 > 0.008856, np.cbrt(xyz_x3), 7.787 * xyz_x3 + 16 / 116), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


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


def focus_uri(mask_HW: np.ndarray, height: int, width: int, colour_3: np.ndarray) -> str:
    """Return what lets one class stand out of its photo, as a PNG.

    All else is dark, a line in the class's colour runs around it, and where it is itself the photo
    shows. What is less than half as wide and high as the photo has a white frame besides: a single
    pixel of the class is enough to be seen.
    """
    inside_HW = any_in_cell(mask_HW, height, width)
    rgba_HW4 = np.zeros((height, width, 4), np.uint8)
    rgba_HW4[~inside_HW, 3] = DIMMED
    rgba_HW4[grown(inside_HW, RING) & ~inside_HW] = (*colour_3.tolist(), 255)
    image = Image.fromarray(rgba_HW4)
    box = image.getchannel("A").point(lambda opacity: 255 * (opacity != DIMMED)).getbbox()
    if box and 2 * (box[2] - box[0]) < width and 2 * (box[3] - box[1]) < height:
        corners = (box[0] - FRAME, box[1] - FRAME, box[2] + FRAME, box[3] + FRAME)
        ImageDraw.Draw(image).rectangle(corners, outline=(255, 255, 255, 255), width=2)
    return data_uri(image, "PNG", optimize=True)


def pair_uri(labels_HW: np.ndarray, colours: Mapping[int, np.ndarray]) -> str:
    """Return what shows where some classes are, as a PNG: in their colours, all else dark."""
    rgba_HW4 = np.zeros((*labels_HW.shape, 4), np.uint8)
    rgba_HW4[..., 3] = DIMMED
    for index, colour_3 in colours.items():
        rgba_HW4[labels_HW == index] = (*colour_3.tolist(), TINTED)
    inside_HW = np.isin(labels_HW, list(colours))
    edge_HW = (grown(inside_HW, 1) & ~inside_HW) | (border(labels_HW) & inside_HW)
    rgba_HW4[edge_HW] = 255
    return data_uri(Image.fromarray(rgba_HW4), "PNG", optimize=True)


def any_in_cell(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a smaller mask, true where any pixel of a cell is."""
    rows = np.arange(height) * mask_HW.shape[0] // height
    columns = np.arange(width) * mask_HW.shape[1] // width
    return np.logical_or.reduceat(np.logical_or.reduceat(mask_HW, rows, axis=0), columns, axis=1)


def grown(mask_HW: np.ndarray, steps: int) -> np.ndarray:
    """Return a shape with so many pixels added all around, corners too."""
    for _ in range(steps):
        padded_HW = np.pad(mask_HW, 1)
        mask_HW = np.logical_or.reduce(
            [
                padded_HW[y : y + mask_HW.shape[0], x : x + mask_HW.shape[1]]
                for y in range(3)
                for x in range(3)
            ]
        )
    return mask_HW


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
