"""How busy this machine is, under the names by which MLflow shows system metrics."""

import os
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

import ray  # noqa: F401  brings psutil along
import torch

from pipelines.tracking.background import BackgroundRun

SECONDS = 10.0


class SystemMetrics:
    """Records CPU, memory and GPU of this machine every few seconds until it is closed."""

    def __init__(self, run: BackgroundRun, seconds: float = SECONDS) -> None:
        self.run = run
        self.seconds = seconds
        self.number = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        """Record one sample after the other."""
        sample()  # the first says nothing: usage is counted since the one before
        while not self.done.wait(self.seconds):
            self.number += 1
            self.run.metrics(sample(), step=self.number)

    def close(self) -> None:
        """Stop."""
        self.done.set()
        self.thread.join()


def sample() -> dict[str, float]:
    """Return the usage of this machine and of its GPUs now."""
    psutil: Any = import_module("psutil")

    memory = psutil.virtual_memory()
    own = psutil.Process(os.getpid()).memory_info().rss
    found = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": own / 1e6,
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        found |= gpu(index)
    return found


def gpu(index: int) -> dict[str, float]:
    """Return the usage of one GPU; of its work only where the driver's library is there."""
    free, total = torch.cuda.mem_get_info(index)
    used = total - free
    found: dict[str, Any] = {
        f"system/gpu_{index}_memory_usage_megabytes": used / 1e6,
        f"system/gpu_{index}_memory_usage_percentage": 100 * used / total,
    }
    with suppress(ModuleNotFoundError, RuntimeError):
        found[f"system/gpu_{index}_utilization_percentage"] = torch.cuda.utilization(index)
    return found
