"""What training minimises: a module around the model that gives the losses of a batch.

Shapes: B images, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sed import SED


@dataclass(frozen=True)
class Batch:
    """What one worker trains on at a time: its share of a step, or a part of it."""

    images_BHW3: Tensor
    """uint8 RGB."""

    labels_BHW: Tensor
    """Class of each pixel."""

    numbers: list[int]
    """Number of each image in the endless series of samples; it seeds what is asked of it."""

    ids: list[str]
    """Name of each image."""

    weight: float = 1.0
    """Weight of the mean over these images, so that all workers together take the mean over all."""

    broken: list[str] = field(default_factory=list)
    """Images that should have been here and cannot be read, and why."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        images, labels = (
            tensor.to(device, non_blocking=True) for tensor in (self.images_BHW3, self.labels_BHW)
        )
        return Batch(images, labels, self.numbers, self.ids, self.weight, self.broken)


class Objective(nn.Module):
    """The losses of a batch; wraps the model so that data-parallel training sees one call."""

    model: SED
    """What is trained."""

    deep: nn.ModuleList
    """Layers that are trained too, and thrown away afterwards."""

    def forward(
        self, images_BHW3: Tensor, labels_BHW: Tensor, step: int, numbers: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Return the losses to sum, each a mean over the images.

        Args:
            images_BHW3: uint8.
            labels_BHW: Class of each pixel.
            step: Number of the training step; it may seed what is asked.
            numbers: Number of each image in the endless series of samples; likewise.
        """
        raise NotImplementedError
