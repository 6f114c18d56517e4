"""Records a run from a thread of its own: a slow or dead server never holds up a training."""

import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.tracking.elsewhere import Recorder

logger = logging.getLogger(__name__)

WAITING = 1000
"""Messages that wait at most; further ones are dropped."""

PATIENCE = 60.0
"""Seconds to wait for the last messages at the end."""


class BackgroundRun:
    """Hands metrics and files to a run in the order they come; returns at once."""

    def __init__(self, run: Recorder) -> None:
        self.run = run
        self.waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self.dropped = 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Send one message after the other."""
        while (send := self.waiting.get()) is not None:
            send()

    def put(self, send: Callable[[], None]) -> None:
        """Let the thread send something; drop it where too much is waiting."""
        try:
            self.waiting.put_nowait(send)
        except queue.Full:
            self.dropped += 1

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, all of one step in one request."""
        self.put(lambda: self.run.metrics(metrics, step))

    def file(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file now and record it later.

        Args:
            name: Its name, with the folder in the run's artifacts.
            write: Writes it.
        """
        folder = Path(tempfile.mkdtemp())
        path = folder / Path(name).name
        write(path)

        def send() -> None:
            self.run.artifact(path, str(Path(name).parent))
            shutil.rmtree(folder, ignore_errors=True)

        self.put(send)

    def close(self) -> None:
        """Wait for the last messages, though not for ever."""
        try:
            self.waiting.put(None, timeout=PATIENCE)
            self.thread.join(PATIENCE)
        except queue.Full:
            pass
        if self.dropped or self.thread.is_alive():
            logger.warning("MLflow: %d messages were not recorded", self.dropped)
