"""Tensors as values of a row, in half precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Row = dict[str, Any]

HALF_MAX = torch.finfo(torch.float16).max


def pack(tensors: Sequence[Tensor]) -> list[Row]:
    """Return tensors as values of `rows.TENSOR`; what half precision cannot hold is clamped."""
    halves = [tensor.float().clamp(-HALF_MAX, HALF_MAX).half().cpu() for tensor in tensors]
    return [{"shape": list(half.shape), "values": half.numpy().tobytes()} for half in halves]


def unpack(values: list[Row], device: str) -> list[Tensor]:
    """Return the tensors that `pack` was given, float32 on a device."""
    arrays = [np.frombuffer(one["values"], np.float16).reshape(one["shape"]) for one in values]
    return [torch.tensor(array, dtype=torch.float32, device=device) for array in arrays]
