"""Half precision on a CPU that multiplies bfloat16: off unless asked for.

Weights and activations are bfloat16; norms keep their weights and sums in float32, and so do the
cosines, the sums of the class attention and the first rejection.
"""

import torch
from torch import nn

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)

STATISTICS = ("mean", "std")
"""Of the pixels; they are needed before anything is rounded."""


def compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert every weight of a module but its norms' and statistics, in place."""
    for part in module.modules():
        if isinstance(part, NORMS):
            continue
        own = (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        for name, tensor in own:
            if tensor.is_floating_point() and name not in STATISTICS:
                tensor.data = tensor.data.to(dtype)
