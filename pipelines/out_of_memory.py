"""What to do where memory does not suffice: try another way before giving up."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def try_in_turn(*ways: Callable[[], Result]) -> Result | Exception:
    """Return the result of the first way that fits into memory, else the error of the last.

    Any other error is raised.
    """
    assert ways, "there is at least one way"
    error: Exception = MemoryError()
    for way in ways:
        try:
            return way()
        except (RuntimeError, MemoryError) as found:
            if not is_out_of_memory(found):
                raise
            # The frames of a traceback hold the tensors that filled the memory.
            error = found.with_traceback(None)
    return error


def is_out_of_memory(error: Exception) -> bool:
    """Say whether torch or Python ran out of memory; torch has no type for it on a CPU."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)
