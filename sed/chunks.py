"""Work on many pairs a few at a time, so that intermediates stay small.

Shapes: M pairs.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

CPU_ELEMENTS = 2**22
CUDA_ELEMENTS = 2**28
"""Elements that one intermediate may hold: what stays in a CPU's cache, what keeps a GPU busy."""


def chunk_length(elements_each: int, device: torch.device) -> int:
    """Return how many items to take at a time when each needs that many elements."""
    budget = CPU_ELEMENTS if device.type == "cpu" else CUDA_ELEMENTS
    return max(1, budget // max(1, elements_each))


def slices(total: int, length: int) -> Iterator[slice]:
    """Cut range(total) into slices of at most `length`."""
    return (slice(start, min(start + length, total)) for start in range(0, total, length))


def map_chunks(
    function: Callable[[slice], tuple[Tensor, ...]], total: int, length: int
) -> tuple[Tensor, ...]:
    """Return the concatenated results of `function`, called on slices of range(total).

    While gradients are recorded everything is one slice.
    """
    if torch.is_grad_enabled() or total <= length:
        return function(slice(0, total))
    results: tuple[Tensor, ...] = ()
    for part in slices(total, length):
        pieces = function(part)
        if not results:
            results = tuple(room_for(piece, total) for piece in pieces)
        for result, piece in zip(results, pieces, strict=True):
            result[part] = piece
    return results


def room_for(piece: Tensor, total: int) -> Tensor:
    """Return an empty tensor of `total` items that are like those of `piece`, in its layout."""
    channels_last = piece.ndim == 4 and piece.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (total, *piece.shape[1:])
    return torch.empty(shape, dtype=piece.dtype, device=piece.device, memory_format=layout)
