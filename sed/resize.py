"""From a photo to the square the encoder sees, as the published evaluation does it.

Shapes: B images, H W pixels; X pixels of an enlarged axis, T pixels that each is made of.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sed.shortest_edge import enlarges, shortest_edge_size
from sed.transfers import upload

PRECISION = 22
"""Bits behind the point of Pillow's weights."""

TAPS = 3
"""Pixels that an enlarged one may be made of."""


def fit_shortest_edge(
    pixels_HW3: np.ndarray, short_side: int, long_side: int, device: torch.device
) -> Tensor:
    """Do what `resize_shortest_edge` does, bit for bit; on a GPU where that enlarges.

    Args:
        pixels_HW3: RGB, uint8.
        short_side: Wanted length of the shorter side, in pixels.
        long_side: Bound of the longer side, in pixels.
        device: Where the result is.
    """
    height, width = pixels_HW3.shape[:2]
    new_width, new_height = shortest_edge_size(width, height, short_side, long_side)
    if device.type != "cpu" and enlarges(width, height, short_side, long_side):
        return enlarge(upload(pixels_HW3, device), new_width, new_height)
    if (new_width, new_height) != (width, height):
        image = Image.fromarray(pixels_HW3)
        resized = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        pixels_HW3 = np.asarray(resized)
    return upload(pixels_HW3, device)


def enlarge(pixels_HW3: Tensor, width: int, height: int) -> Tensor:
    """Enlarge uint8 pixels as Pillow's bilinear filter does: in fixed point, columns first."""
    return enlarge_axis(enlarge_axis(pixels_HW3, 1, width), 0, height)


def enlarge_axis(pixels: Tensor, axis: int, size: int) -> Tensor:
    """Enlarge one axis."""
    if pixels.shape[axis] == size:
        return pixels
    places_TX, weights_TX = taps_on(pixels.device, pixels.shape[axis], size)
    shape = [1] * pixels.ndim
    shape[axis] = size
    parts = [
        pixels.index_select(axis, place_X).int() * weight_X.view(shape)
        for place_X, weight_X in zip(places_TX, weights_TX, strict=True)
    ]
    total = torch.stack(parts).sum(dim=0) + (1 << (PRECISION - 1))
    return (total >> PRECISION).to(torch.uint8)


@lru_cache(maxsize=256)
def taps_on(device: torch.device, old: int, new: int) -> tuple[Tensor, Tensor]:
    """Return `taps` on a device; the photos of a corpus have few different sizes."""
    places_TX, weights_TX = taps(old, new)
    return upload(places_TX.numpy(), device), upload(weights_TX.numpy(), device)


def taps(old: int, new: int) -> tuple[Tensor, Tensor]:
    """Return which pixels each one of a longer axis is made of, and their weights as integers.

    Returns:
        places_TX and weights_TX, int32; where a tap is not needed its weight is 0.
    """
    centre_X = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)
    first_X = (centre_X - 0.5).trunc().clamp(min=0)
    places_TX = first_X + torch.arange(TAPS).unsqueeze(1)
    weights_TX = (1 - (places_TX + 0.5 - centre_X).abs()).clamp(min=0) * (places_TX < old)
    fixed_TX = (0.5 + weights_TX / weights_TX.sum(dim=0) * (1 << PRECISION)).int()
    return places_TX.clamp(max=old - 1).int(), fixed_TX


def to_model_input(
    image_HW3: np.ndarray | Tensor, image_size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return one photo as the model sees it: image_3HW in [0, 1], a square of `image_size`.

    Raises:
        ValueError: The array is not (H, W, 3) of uint8.
    """
    pixels = image_HW3 if isinstance(image_HW3, Tensor) else torch.tensor(image_HW3)
    check_pixels(pixels)
    image_3HW = pixels.to(device).permute(2, 0, 1).float() / 255
    return fit_square(image_3HW.unsqueeze(0), image_size).squeeze(0)


def check_pixels(pixels: np.ndarray | Tensor) -> None:
    """Require RGB pixels.

    Raises:
        ValueError: They are not (H, W, 3) of uint8.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, torch.uint8):
        raise ValueError(
            f"expected an (H, W, 3) array of uint8, got {tuple(pixels.shape)} of {pixels.dtype}"
        )


def fit_square(images_B3HW: Tensor, image_size: int) -> Tensor:
    """Resize to a square whatever the aspect ratio: bilinear, not antialiased (section 1.3)."""
    if images_B3HW.shape[2:] == (image_size, image_size):
        return images_B3HW
    size = (image_size, image_size)
    return F.interpolate(images_B3HW, size=size, mode="bilinear", align_corners=False)
