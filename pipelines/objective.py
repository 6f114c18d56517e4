"""What training minimises: a module around the model that gives the losses of a batch."""

from torch import Tensor, nn

from sed import SED


class Objective(nn.Module):
    """The losses of a batch; wraps the model so that data-parallel training sees one call."""

    model: SED
    """What is trained."""

    deep: nn.ModuleList
    """Layers that are trained too, and thrown away afterwards."""

    def forward(self, images_BHW3: Tensor, labels_BHW: Tensor, step: int) -> dict[str, Tensor]:
        """Return the losses to sum.

        Args:
            images_BHW3: uint8.
            labels_BHW: Class of each pixel.
            step: Number of the training step; it seeds what is asked.
        """
        raise NotImplementedError
