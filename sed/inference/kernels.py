"""Matrix products and convolutions with what follows them built in.

On a CPU torch multiplies float32 matrices with MKL, which on processors that are not Intel's leaves
half of the vector unit idle; oneDNN, which torch carries for its convolutions, does not, and adds
the activation or the residual while the result is in a register. These operators are what
`torch.compile` uses. Where they are missing, and on a GPU, the public ones do the same.

Shapes: L rows, C channels in, O channels out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}
"""What `linear` can apply: "gelu" is the exact one."""


def has_onednn() -> bool:
    """Say whether this torch has oneDNN's fused operators."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


FUSED = has_onednn()


def fused(x: Tensor) -> bool:
    """Say whether oneDNN works on this tensor."""
    return FUSED and x.device.type == "cpu" and x.numel() > 0


def linear(x_LC: Tensor, weight_OC: Tensor, bias_O: Tensor | None, then: str = "none") -> Tensor:
    """Return a linear layer and the activation after it, x_LO.

    Args:
        x_LC: Any number of leading axes.
        weight_OC: Of the layer.
        bias_O: Of the layer.
        then: Key of `ACTIVATIONS`.
    """
    if not fused(x_LC):
        return ACTIVATIONS[then](F.linear(x_LC, weight_OC, bias_O))
    algorithm = "none" if then == "gelu" else ""  # oneDNN's name of the exact one
    return torch.ops.mkldnn._linear_pointwise(x_LC, weight_OC, bias_O, then, [], algorithm)


def linear_add(x_LC: Tensor, weight_OC: Tensor, bias_O: Tensor, residual_LO: Tensor) -> Tensor:
    """Return the residual plus a linear layer, x_LO."""
    if not fused(x_LC):
        return residual_LO + F.linear(x_LC, weight_OC, bias_O)
    return torch.ops.mkldnn._linear_pointwise.binary(x_LC, residual_LO, weight_OC, bias_O, "add")


def conv_add_(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Add a convolution of x, 3 x 3 with padding 1 and no bias, to `out` in place."""
    if not fused(x):
        return out.add_(F.conv2d(x, weight, padding=1))
    one = [1, 1]
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        out, x, weight, None, one, one, one, 1, "add", 1.0, None, [], None
    )
