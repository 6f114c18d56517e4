"""From the decoder's logits to labels at the image's own size, in bounded memory.

The plain way resizes the probability map of every class to the image's size and takes the largest:
40 GB for 847 classes on a 12-megapixel photo. Here the result is the same, bit for bit, from a few
classes and a strip of columns at a time, with a running maximum. Bilinear resizing is separable,
columns first, and never leaves the range of its inputs: a class that around a strip stays under
what another class is sure to reach there is left out of that strip. A GPU leaves none out: it would
have to say which, and the host to wait for that; so a label map never makes the host wait.

Shapes: K candidate classes, G classes of one group, S strips, H W the decoder's map, Y X the image.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.profiler import record_function

_SMALL = 64 * 64
"""Pixels of a result that is made the plain way."""

_TILES = {True: (64, 8), False: (512, 64)}
"""Columns of a strip and classes of a group that are fast, on a CPU or not."""


@torch.no_grad()
def label_map(
    logits_KHW: Tensor,
    candidates_K: Tensor,
    *,
    height: int,
    width: int,
    memory_limit: int = 256 * 2**20,
) -> tuple[Tensor, Tensor]:
    """Return the most probable class of each pixel, and its probability.

    Equals `F.interpolate(logits.sigmoid(), (height, width), mode="bilinear")` and then `max` over
    the classes, where the first of equal classes wins.

    Args:
        logits_KHW: Logits of the surviving classes.
        candidates_K: Their class indices, ascending; these become the labels.
        height: Rows of the result, in pixels.
        width: Columns of the result, in pixels.
        memory_limit: Bytes that the resized maps of one group of classes may take; the
            probabilities at the decoder's size and the result come on top.

    Returns:
        labels_YX (int32) and confidence_YX (float32).
    """
    if len(candidates_K) != len(logits_KHW):
        raise ValueError(f"{len(logits_KHW)} logit maps for {len(candidates_K)} candidate classes")
    if not len(logits_KHW):
        raise ValueError("there is no candidate class to choose from")
    if height < 1 or width < 1:
        raise ValueError(f"the result needs at least one pixel, got {width} x {height}")
    with record_function("sed: label map"):
        scores_KHW = logits_KHW.float().sigmoid()
        index_YX, confidence_YX = largest_resized(scores_KHW, height, width, memory_limit)
        return candidates_K.to(index_YX)[index_YX], confidence_YX


def largest_resized(
    scores_KHW: Tensor, height: int, width: int, memory_limit: int
) -> tuple[Tensor, Tensor]:
    """Return which map is largest at each pixel after bilinear resizing (int32), and its value."""
    if height * width <= _SMALL:
        return _largest_resized_plainly(scores_KHW, height, width)
    on_cpu = scores_KHW.device.type == "cpu"
    step, most = _TILES[on_cpu]
    strips = [slice(x, min(x + step, width)) for x in range(0, width, step)]
    class_bytes = 4 * (scores_KHW.shape[1] * width + height * strips[0].stop)
    group_size = max(1, min(memory_limit // class_bytes, most))
    # Transposed until the end, so that the second resize runs along the contiguous axis.
    best_XY = scores_KHW.new_full((width, height), -math.inf)
    index_XY = torch.zeros(width, height, dtype=torch.int32, device=scores_KHW.device)
    choose = _choose_among_needed if on_cpu else _choose_among_all
    choose(best_XY, index_XY, scores_KHW, strips, group_size)
    return index_XY.T.contiguous(), best_XY.T.contiguous()


def _choose_among_needed(
    best_XY: Tensor, index_XY: Tensor, scores_KHW: Tensor, strips: list[slice], group_size: int
) -> None:
    """Fill in the largest value and its class, in each strip from those that may be largest."""
    width, height = best_XY.shape
    needed_SK = _needed(scores_KHW, strips, width)
    for group_G in needed_SK.any(dim=0).nonzero().flatten().split(group_size):
        wide_GHX = _resize_last(scores_KHW[group_G], width)
        for strip, needed_K in zip(strips, needed_SK, strict=True):
            kept = needed_K[group_G].nonzero().flatten()
            if len(kept):
                score_GXY = _resize_last(wide_GHX[kept, :, strip].transpose(1, 2), height)
                _keep_larger(best_XY[strip], index_XY[strip], score_GXY, group_G[kept].tolist())


def _choose_among_all(
    best_XY: Tensor, index_XY: Tensor, scores_KHW: Tensor, strips: list[slice], group_size: int
) -> None:
    """Do the same from all classes: on a GPU quicker than to wait for which are needed."""
    width, height = best_XY.shape
    for start in range(0, len(scores_KHW), group_size):
        wide_GHX = _resize_last(scores_KHW[start : start + group_size], width)
        for strip in strips:
            score_GXY = _resize_last(wide_GHX[:, :, strip].transpose(1, 2), height)
            score_XY, place_XY = score_GXY.max(dim=0)
            larger_XY = score_XY > best_XY[strip]
            torch.where(larger_XY, (place_XY + start).int(), index_XY[strip], out=index_XY[strip])
            torch.maximum(best_XY[strip], score_XY, out=best_XY[strip])


def _largest_resized_plainly(scores_KHW: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Do the same by resizing every map: small ones, where torch has other arithmetic, too."""
    scores_KYX = F.interpolate(scores_KHW[None], (height, width), mode="bilinear")[0]
    best_YX, index_YX = scores_KYX.max(dim=0)
    return index_YX.to(torch.int32), best_YX


def _resize_last(maps_GHW: Tensor, size: int) -> Tensor:
    """Resize the last axis linearly; same arithmetic as one axis of bilinear resizing."""
    flat_1LW = maps_GHW.flatten(0, 1).unsqueeze(0)
    return F.interpolate(flat_1LW, size, mode="linear").unflatten(1, maps_GHW.shape[:2])[0]


def _keep_larger(best_XY: Tensor, index_XY: Tensor, score_GXY: Tensor, classes: list[int]) -> None:
    """Update the running maximum and its class in place; the earlier class keeps a tie."""
    for score_XY, one_class in zip(score_GXY, classes, strict=True):
        index_XY.masked_fill_(score_XY > best_XY, one_class)
        torch.maximum(best_XY, score_XY, out=best_XY)


def _needed(scores_KHW: Tensor, strips: list[slice], width: int) -> Tensor:
    """Return which classes may be largest somewhere in each strip, needed_SK.

    A class is left out where, between every two rows of the map, its largest score around the strip
    is under the largest of all classes' smallest scores. Rounding may move an interpolated value by
    a few units of the last place: hence the slack.
    """
    num_rows, num_columns = scores_KHW.shape[1:]
    slack = 1e-6 * torch.maximum(scores_KHW.max(), -scores_KHW.min())
    below = torch.arange(1, num_rows + 1, device=scores_KHW.device).clamp(max=num_rows - 1)
    needed = []
    for strip in strips:
        first = math.floor((strip.start + 0.5) * num_columns / width - 0.6)
        last = math.ceil((strip.stop - 0.5) * num_columns / width - 0.4)
        around_KHW = scores_KHW[:, :, max(first, 0) : last + 1]
        high_KH, low_KH = around_KHW.amax(dim=2), around_KHW.amin(dim=2)
        high_KH = torch.maximum(high_KH, high_KH[:, below])
        low_KH = torch.minimum(low_KH, low_KH[:, below])
        needed.append((high_KH >= low_KH.amax(dim=0) - slack).any(dim=1))
    return torch.stack(needed)
