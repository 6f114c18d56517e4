"""From the scores of an image, on the model's device, to what is written of it, on the CPU.

Shapes: K surviving classes of an image, H W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import sed
from pipelines import tensors
from sed.transfers import Download
from sed.uncertainty import Doubts

PIXEL_BYTES = 8
"""Of the label and the confidence of a pixel."""


@dataclass(frozen=True)
class Scored:
    """What the model says about one image."""

    scores: sed.ClassScores
    kept: tuple[Tensor, ...] = ()
    """The tensors of its features, where they are to be kept."""

    def on_cpu(self) -> "Scored":
        """Return the same in the memory of the machine."""
        scores = sed.ClassScores(self.scores.logits_KHW.cpu(), self.scores.candidates_K.cpu())
        return Scored(scores, tuple(tensor.cpu() for tensor in self.kept))


@dataclass(frozen=True)
class Maps:
    """What is written of one image, in the memory of the machine."""

    labels_HW: Tensor
    """At the image's own size; of no class where there is no candidate."""

    confidence_HW: Tensor
    """Of each of these pixels."""

    coarse_HW: Tensor
    """Confidence at the decoder's resolution."""

    doubts: Doubts
    candidates_K: Tensor

    kept: tuple[Tensor, ...]
    """The tensors of its features in half precision, where they are to be kept."""


def fetch(images: Sequence[tuple[Scored, int, int]], no_class: int) -> list[Maps]:
    """Return what is written of some images; their device is waited for once.

    Args:
        images: Each with height and width in pixels.
        no_class: Label of every pixel of an image without candidates.
    """
    download = Download()
    found = [look(*image, no_class, download) for image in images]
    download.wait()
    return found


def look(found: Scored, height: int, width: int, no_class: int, download: Download) -> Maps:
    """Ask the device for what is written of an image, and for copies of that."""
    scores = found.scores
    if len(scores.candidates_K):
        labels_HW, confidence_HW = scores.label_map(height, width)
    else:
        labels_HW = torch.full((height, width), no_class, dtype=torch.int32)
        confidence_HW = torch.zeros(height, width)
    return Maps(
        download.copy(labels_HW),
        download.copy(confidence_HW),
        download.copy(scores.confidence()),
        Doubts(*map(download.copy, scores.doubts())),
        download.copy(scores.candidates_K),
        tuple(download.copy(tensors.half(tensor)) for tensor in found.kept),
    )


def groups(sizes: Sequence[tuple[int, int]], most_bytes: int) -> Iterator[slice]:
    """Cut images of a batch into groups whose maps are fetched together.

    Args:
        sizes: Height and width of each image, in pixels.
        most_bytes: Of the maps of a group; one image may take more.
    """
    start, held = 0, 0
    for place, (height, width) in enumerate(sizes):
        needed = PIXEL_BYTES * height * width
        if place > start and held + needed > most_bytes:
            yield slice(start, place)
            start, held = place, 0
        held += needed
    if sizes:
        yield slice(start, len(sizes))
