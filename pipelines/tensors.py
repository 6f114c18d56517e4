"""Tensors as values of a row, in half precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sed.transfers import upload

Row = dict[str, Any]

HALF_MAX = torch.finfo(torch.float16).max


def pack(tensors: Sequence[Tensor]) -> list[Row]:
    """Return tensors as values of `rows.TENSOR`; what half precision cannot hold is clamped."""
    return [value(half(tensor).cpu()) for tensor in tensors]


def half(tensor: Tensor) -> Tensor:
    """Return a tensor in half precision."""
    return tensor.float().clamp(-HALF_MAX, HALF_MAX).half()


def value(half: Tensor) -> Row:
    """Return a tensor of half precision, in the memory of the machine, as a value of a row."""
    return {"shape": list(half.shape), "values": half.numpy().tobytes()}


def unpack(values: list[Row], device: str) -> list[Tensor]:
    """Return the tensors that `pack` was given, float32 on a device."""
    arrays = [np.frombuffer(one["values"], np.float16).reshape(one["shape"]) for one in values]
    return [upload(array, device).float() for array in arrays]
