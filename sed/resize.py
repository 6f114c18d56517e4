"""From a photo to the square the encoder sees, as the published evaluation does it.

Shapes: B images, H W pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def shortest_edge_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side at `short_side`, the longer within bounds."""
    scale = short_side / min(width, height)
    new_width, new_height = scale * width, scale * height
    longest = max(new_width, new_height)
    if longest > long_side:
        new_width, new_height = new_width * long_side / longest, new_height * long_side / longest
    return max(1, int(new_width + 0.5)), max(1, int(new_height + 0.5))


def resize_shortest_edge(image: Image.Image, short_side: int, long_side: int) -> Image.Image:
    """Resize a photo with Pillow's antialiased bilinear filter, keeping its aspect ratio.

    Args:
        image: Any mode that Pillow can resize; the mode is kept.
        short_side: Wanted length of the shorter side, in pixels.
        long_side: Bound of the longer side, in pixels; it wins over `short_side`.
    """
    size = shortest_edge_size(*image.size, short_side, long_side)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def to_model_input(
    image_HW3: np.ndarray | Tensor, image_size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return one photo as the model sees it: image_3HW in [0, 1], a square of `image_size`.

    Raises:
        ValueError: The array is not (H, W, 3) of uint8.
    """
    pixels = image_HW3 if isinstance(image_HW3, Tensor) else torch.tensor(image_HW3)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != torch.uint8:
        raise ValueError(
            f"expected an (H, W, 3) array of uint8, got {tuple(pixels.shape)} of {pixels.dtype}"
        )
    image_3HW = pixels.to(device).permute(2, 0, 1).float() / 255
    return fit_square(image_3HW.unsqueeze(0), image_size).squeeze(0)


def fit_square(images_B3HW: Tensor, image_size: int) -> Tensor:
    """Resize to a square whatever the aspect ratio: bilinear, not antialiased (section 1.3)."""
    if images_B3HW.shape[2:] == (image_size, image_size):
        return images_B3HW
    size = (image_size, image_size)
    return F.interpolate(images_B3HW, size=size, mode="bilinear", align_corners=False)
