"""The two-layer perceptron of every block, and the ConvNeXt block around it.

Shapes: M maps, L rows, H W cells, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sed.inference.kernels import linear, linear_add
from sed.inference.rewrites import Affine

HIDDEN_ELEMENTS = 2**20
"""Elements of the hidden layer that are made at a time on a CPU: what stays in its cache."""


class Perceptron(nn.Module):
    """Expand, activate, project, add: in two fused steps, a few rows at a time."""

    expand: Tensor
    expand_bias: Tensor
    project: Tensor
    project_bias: Tensor

    def __init__(self, expand: Affine, project: Affine, activation: str) -> None:
        super().__init__()
        self.activation = activation
        tensors = zip(
            ("expand", "expand_bias", "project", "project_bias"), (*expand, *project), strict=True
        )
        for name, tensor in tensors:
            self.register_buffer(name, tensor.contiguous(), persistent=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the residual plus the perceptron of x, in the shape of x."""
        x_LC, residual_LC = x.flatten(0, -2), residual.flatten(0, -2)
        rows = max(1, HIDDEN_ELEMENTS // len(self.expand))
        if x.device.type != "cpu" or len(x_LC) <= rows:
            return self.add(x_LC, residual_LC).view_as(x)
        out_LC = torch.empty_like(residual_LC)
        for start in range(0, len(x_LC), rows):
            part = slice(start, start + rows)
            out_LC[part] = self.add(x_LC[part], residual_LC[part])
        return out_LC.view_as(x)

    def add(self, x_LC: Tensor, residual_LC: Tensor) -> Tensor:
        """Return the residual plus the perceptron of a few rows."""
        hidden = linear(x_LC, self.expand, self.expand_bias, self.activation)
        return linear_add(hidden, self.project, self.project_bias, residual_LC)


class SpatialBlock(nn.Module):
    """A ConvNeXt block: depthwise convolution, norm, perceptron, residual."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, depthwise: Affine, norm: nn.Module, perceptron: Perceptron) -> None:
        super().__init__()
        self.norm = norm
        self.perceptron = perceptron
        self.register_buffer("kernel", depthwise[0].contiguous(), persistent=False)
        self.register_buffer("bias", depthwise[1], persistent=False)

    def forward(self, x_MHWC: Tensor) -> Tensor:
        """Return x plus what its neighbourhood adds, x_MHWC."""
        kernel_size = self.kernel.shape[-1]
        near_MCHW = F.conv2d(
            x_MHWC.permute(0, 3, 1, 2),
            self.kernel,
            self.bias,
            padding=kernel_size // 2,
            groups=len(self.kernel),
        )
        near_MHWC = self.norm(near_MCHW.permute(0, 2, 3, 1))
        return self.perceptron(near_MHWC.contiguous(), x_MHWC)
