"""How long a call of the model takes."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def clock(function: Callable[[], T], device: str) -> tuple[float, T]:
    """Return how many seconds a call took, and its result.

    On one CPU thread these are seconds of the processor: what else the machine does is not counted.
    """
    if device != "cpu":
        torch.cuda.synchronize(device)
    alone = device == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    start = now()
    result = function()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return now() - start, result
