"""Copies between the memory of the machine and that of a GPU that nobody waits for.

They start and end in pinned memory, which the system does not move. torch keeps that memory for
later copies, and gives it out again only when the copy that uses it is done. On a CPU the same
functions give the same values.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return memory of the machine that a GPU reads and writes by itself, not filled.

    Where the system gives no more of it, ordinary memory: a copy is then waited for.
    """
    try:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(tuple(shape), dtype=dtype)


def stage(array: np.ndarray) -> Tensor:
    """Return a copy of an array in pinned memory."""
    staged = pinned(array.shape, torch.from_numpy(np.empty(0, array.dtype)).dtype)
    np.copyto(staged.numpy(), array)
    return staged


def upload(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Return a copy of an array on a device; what is asked of the device later sees it."""
    if torch.device(device).type == "cpu":
        return torch.tensor(array)
    return stage(array).to(device, non_blocking=True)


class Download:
    """Copies from a device that are on their way together, for one wait."""

    def __init__(self) -> None:
        self.device: torch.device | None = None

    def copy(self, tensor: Tensor) -> Tensor:
        """Return where the values of a tensor are after `wait`; of one on the CPU itself."""
        if tensor.device.type == "cpu":
            return tensor
        self.device = tensor.device
        return pinned(tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)

    def wait(self) -> None:
        """Wait for all copies; by the thread that asked for them."""
        if self.device is None:
            return
        arrived = torch.cuda.Event(blocking=True)  # leaves the core to others
        arrived.record(torch.cuda.current_stream(self.device))
        arrived.synchronize()
