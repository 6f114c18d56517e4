"""Decode in a process of its own: a file that hangs or kills the decoder costs itself only.

Pixels come back through memory that both processes share: a pipe would cost as much as decoding.

Shapes: H W pixels.
"""

import ctypes
import itertools
import mmap
import multiprocessing
import signal
import sys
from concurrent.futures import TimeoutError as TimedOut
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from pipelines.images import ImageError, Photo, decode

PR_SET_PDEATHSIG = 1

SLOTS = 2
"""Images in shared memory: one that is read here, and one that is being decoded."""


@lru_cache(maxsize=1)
def child(short_side: int, long_side: int) -> "Child":
    """Return the one child process that decodes for this process."""
    return Child(short_side, long_side)


class Child:
    """A process that decodes; a new one follows a dead one.

    It is a fork: nothing is imported twice, and its memory is shared until it is written to.
    """

    def __init__(self, short_side: int, long_side: int) -> None:
        self.sides = {"short_side": short_side, "long_side": long_side}
        # Before the fork: both processes have it.
        self.memory = [mmap.mmap(-1, 3 * short_side * long_side) for _ in range(SLOTS)]
        self.slots = itertools.cycle(range(SLOTS))
        context: Any = multiprocessing.get_context("fork")
        self.pool = ProcessPool(max_workers=1, initializer=die_with_parent, context=context)

    def submit(self, data: bytes, seconds: float) -> "Pending":
        """Begin to decode an image file as `images.decode` does.

        Args:
            data: The file.
            seconds: A child that takes longer is killed.
        """
        slot = next(self.slots)
        arguments = {**self.sides, "slot": slot}
        future = self.pool.schedule(
            decode_into_shared, args=(data,), kwargs=arguments, timeout=seconds
        )
        return Pending(future, self.memory[slot], seconds)


@dataclass(frozen=True)
class Pending:
    """An image that is being decoded; its memory is used again by the file after the next."""

    future: Any
    memory: mmap.mmap
    seconds: float

    def result(self) -> Photo:
        """Wait for the image.

        Raises:
            ImageError: What `images.decode` raises; or the child hung, or it crashed.
        """
        try:
            width, height, *shape_HW3 = self.future.result()
        except TimedOut as error:
            raise ImageError(
                "TimedOut", f"decoding took more than {self.seconds:g} seconds"
            ) from error
        except ProcessExpired as error:
            raise ImageError(
                "DecoderCrashed", f"the decoder crashed with exit status {error.exitcode}"
            ) from error
        pixels = np.frombuffer(self.memory, np.uint8, count=int(np.prod(shape_HW3)))
        return Photo(pixels.reshape(shape_HW3), width, height)


def decode_into_shared(
    data: bytes, *, short_side: int, long_side: int, slot: int
) -> tuple[int, ...]:
    """Decode into memory shared with the parent; return width, height and the array's shape."""
    photo = decode(data, short_side=short_side, long_side=long_side)
    pixels = photo.pixels_HW3
    memory = child(short_side, long_side).memory[slot]
    np.frombuffer(memory, np.uint8, count=pixels.size)[:] = pixels.ravel()
    return (photo.width, photo.height, *pixels.shape)


def die_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
