"""A model that writes down when its device computed, for who measures a job that uses it.

A GPU is told what to do long before it does it, so the time at which a call returns says nothing
of it. Marks are put among what it is told; when it gets to one, it notes the time.

Shapes: B images, N classes, P prompts, D embedding, H W pixels.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

import sed
from pipelines.labeller import LoadModel, Model


class DeviceClock(Protocol):
    """Says when a device got to a mark among what it was told to do."""

    waits: bool
    """Whether a device may get to a mark later than it was set."""

    def mark(self) -> Any:  # noqa: ANN401  each clock has its own marks
        """Return a mark behind all that the device was told so far, without waiting."""
        ...

    def time(self, mark: Any) -> float:  # noqa: ANN401
        """Wait until the device gets to a mark; return when it did, in seconds since the epoch."""
        ...


class HostClock:
    """Of a CPU: what it was told is done when a call returns."""

    waits = False

    def mark(self) -> float:
        """Return the time."""
        return time.time()

    def time(self, mark: float) -> float:
        """Return the time of a mark."""
        return mark


class GpuClock:
    """Of a GPU: marks are events of the stream of the thread that sets them."""

    waits = True

    def __init__(self, device: torch.device) -> None:
        """Compare the GPU's clock with the machine's, once: for that it is waited for."""
        self.device = device
        torch.cuda.synchronize(device)
        self.zero = self.mark()
        self.zero.synchronize()
        self.zero_time = time.time()

    def mark(self) -> torch.cuda.Event:
        """Return an event that comes after all that the GPU was told so far."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # waiting takes no core
        event.record(torch.cuda.current_stream(self.device))
        return event

    def time(self, mark: torch.cuda.Event) -> float:
        """Wait for an event; return when it came, in seconds since the epoch."""
        mark.synchronize()
        return self.zero_time + self.zero.elapsed_time(mark) / 1000


def clock_of(device: torch.device) -> DeviceClock:
    """Return the clock of a device."""
    return HostClock() if device.type == "cpu" else GpuClock(device)


class Clocked:
    """A model that writes down when its device computed the scores of how many images."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.config = model, model.config
        self.file = folder / uuid4().hex
        self.clocks: dict[torch.device, DeviceClock] = {}
        self.writer = ThreadPoolExecutor(1, "clock")

    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return text_NPD."""
        return self.model.embed_classes(classes)

    def prepare(self, pixels_HW3: np.ndarray) -> Tensor:
        """Return a photo as the model takes it."""
        return self.model.prepare(pixels_HW3)

    def score(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: sed.Rejection | None = None
    ) -> list[sed.ClassScores]:
        """Return what the model finds; on a GPU the line is written when it has got there."""
        device = images_B3HW.device
        if device not in self.clocks:
            self.clocks[device] = clock_of(device)
        clock = self.clocks[device]
        start = clock.mark()
        scores = self.model.score(images_B3HW, text_NPD, rejection)
        note = partial(self.note, clock, start, clock.mark(), len(scores), get_ident())
        if clock.waits:
            self.writer.submit(note)
        else:
            note()
        return scores

    def note(
        self,
        clock: DeviceClock,
        start: Any,  # noqa: ANN401  marks of the clock
        end: Any,  # noqa: ANN401
        images: int,
        thread: int,
    ) -> None:
        """Write down one call, once the device is done with it."""
        times = {"start": clock.time(start), "end": clock.time(end)}
        with self.file.open("a") as file:
            file.write(json.dumps(times | {"images": images, "thread": thread}) + "\n")


def load_clocked(device: str, *, load_model: LoadModel, folder: Path) -> Clocked:
    """Load a model and clock it; a `LoadModel` once the other arguments are given."""
    return Clocked(load_model(device), folder)
