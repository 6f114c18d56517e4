"""The most memory that a piece of work takes, above what its process held before."""

import ctypes
import math
import os
import re
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Looks at this process, or at its GPU, from the moment it is made."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.before = 0
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        elif self.is_measured:
            give_back()
            RESET.write_text("5")  # the peak starts again from what is held now
            self.before = held("VmRSS")

    @property
    def is_measured(self) -> bool:
        """Say whether this system tells."""
        return self.device != "cpu" or (sys.platform == "linux" and os.access(RESET, os.W_OK))

    def growth(self) -> float:
        """Return the growth so far, in bytes; NaN where it is not measured."""
        if not self.is_measured:
            return math.nan
        if self.device != "cpu":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return held("VmHWM") - self.before


def give_back() -> None:
    """Return memory that is free to the system, so that earlier work is not counted."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def held(name: str) -> int:
    """Return what the system says of this process' memory, in bytes."""
    (kilobytes,) = re.findall(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return int(kilobytes) * 1024
