"""Which pairs go through a step together: on a CPU those that its cache holds.

Shapes: B images, M (image, class) pairs, H W cells, O channels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sed.chunks import CUDA_ELEMENTS, slices

CPU_ELEMENTS = 2**20
"""Elements that the result of one step on a CPU may hold: more leave its cache."""


@dataclass(frozen=True)
class Part:
    """Some pairs behind each other."""

    pairs: slice

    image: int | None
    """The image of all of them; None: they may be of several."""

    def of_image(self, maps_BHWO: Tensor, image_M: Tensor) -> Tensor:
        """Return the map of each pair's image: one for all where they share it."""
        if self.image is not None:
            return maps_BHWO[self.image : self.image + 1]
        return maps_BHWO[image_M[self.pairs]]


def cut(
    counts: Sequence[int], elements_each: int, device: torch.device, *, mixed: bool = True
) -> Iterator[Part]:
    """Cut the pairs of a batch: a GPU takes as many as it can, a CPU never two images at once.

    For steps in which no pair sees another. The attention over the classes is none of them: it
    needs all classes of an image, so it goes image by image and cuts the locations instead.

    Args:
        counts: Pairs of each image.
        elements_each: What one pair adds to the largest intermediate.
        device: Where they are.
        mixed: Whether a GPU may take pairs of several images together: then in the fewest parts
            that fit, all about as long, and so mostly of one shape once they are filled up.
    """
    budget = CPU_ELEMENTS if device.type == "cpu" else CUDA_ELEMENTS
    length = max(1, budget // max(1, elements_each))
    if mixed and device.type != "cpu":
        total = sum(counts)
        parts = max(1, -(-total // length))
        yield from (Part(pairs, None) for pairs in slices(total, max(1, -(-total // parts))))
        return
    start = 0
    for image, count in enumerate(counts):
        for inner in slices(count, length):
            yield Part(slice(start + inner.start, start + inner.stop), image)
        start += count


def over_parts(
    function: Callable[[Part], tuple[Tensor, ...]],
    counts: Sequence[int],
    elements_each: int,
    device: torch.device,
    *,
    mixed: bool = True,
) -> tuple[Tensor, ...]:
    """Return the results of `function` on each part of the pairs, concatenated; see `cut`."""
    results: tuple[Tensor, ...] = ()
    for part in cut(counts, elements_each, device, mixed=mixed):
        pieces = function(part)
        if len(pieces[0]) == sum(counts):
            return pieces
        if not results:
            results = tuple(piece.new_empty(sum(counts), *piece.shape[1:]) for piece in pieces)
        for result, piece in zip(results, pieces, strict=True):
            result[part.pairs] = piece
    return results


def bucket_size(count: int) -> int:
    """Return the smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 ... that holds `count`."""
    power = 1 << (count - 1).bit_length()
    return power // 4 * 3 if power >= 4 and count <= power // 4 * 3 else power
