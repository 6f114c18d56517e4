"""A photo resized by its shorter side, with Pillow alone: who only does this imports no torch."""

from PIL import Image


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


def enlarges(width: int, height: int, short_side: int, long_side: int) -> bool:
    """Say whether `resize_shortest_edge` makes a photo of this size larger, or leaves it."""
    new_width, new_height = shortest_edge_size(width, height, short_side, long_side)
    return new_width >= width and new_height >= height
