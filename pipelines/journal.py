"""What rank 0 says of a training while it runs: to MLflow, and a line to the log."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.feed import Feed
from pipelines.recipe import TrainConfig
from pipelines.tracking.background import BackgroundRun
from pipelines.tracking.elsewhere import run_on
from pipelines.tracking.system import SystemMetrics
from pipelines.validation import sheet

logger = logging.getLogger(__name__)

NO_LOSSES = ("gradient_norm", "broken_images")
"""What `train_step` returns besides losses."""


@dataclass(frozen=True)
class Tracker:
    """Where rank 0 writes its curves."""

    uri: str
    experiment: str
    run_id: str | None
    node: str | None = None
    """Ray's id of the node that writes them, the driver's: the store may be a file of that machine.
    None: the worker's own."""


class Journal:
    """Writes down steps and scores; measures rates between two entries."""

    def __init__(self, run: BackgroundRun | None, config: TrainConfig, every: int) -> None:
        self.run = run
        self.config = config
        self.every = every
        self.mark: tuple[float, int, float, int, float] | None = None
        """Where rates are measured from: the last entry, else the first step that was taken."""
        self.broken = 0

    def step(
        self,
        step: int,
        found: Mapping[str, float],
        optimizer: torch.optim.Optimizer,
        feed: Feed[Any],
        broken: Sequence[str],
    ) -> None:
        """Write down a step; broken images at once, the rest every so many steps.

        Args:
            step: Its number.
            found: What `train_step` has returned.
            optimizer: Its learning rates.
            feed: What this worker reads from.
            broken: Images of this worker that cannot be used, and why.
        """
        for image in broken:
            logger.warning("step %d went without an image that cannot be used: %s", step, image)
        self.broken += int(found["broken_images"])
        due = step == 0 or (step + 1) % self.every == 0 or step + 1 == self.config.max_steps
        rates = self.rates(step, feed) if due or self.mark is None else {}
        if not due or self.run is None:
            return
        losses = {name: value for name, value in found.items() if name not in NO_LOSSES}
        facts = {f"loss/{name}": value for name, value in losses.items()}
        facts |= learning_rates(optimizer) | rates
        facts |= {"gradient_norm": found["gradient_norm"], "data/broken_images": self.broken}
        self.run.metrics(facts, step=step)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        pace = ", ".join(f"{name} {value:.3g}" for name, value in rates.items())
        logger.info("step %d of %d: %s; %s", step, self.config.max_steps, shown, pace)

    def rates(self, step: int, feed: Feed[Any]) -> dict[str, float]:
        """Return how fast it went since the last entry, and what was waited for."""
        now = (time.monotonic(), step, feed.waited_seconds, feed.made, feed.making_seconds)
        before, self.mark = self.mark, now
        if before is None:
            return {}
        seconds, steps, waited, made, making = (
            new - old for new, old in zip(now, before, strict=True)
        )
        batch_size = self.config.batch_size
        return {
            "time/step_seconds": seconds / steps,
            "time/data_wait_seconds": waited / steps,
            "time/compute_seconds": (seconds - waited) / steps,
            "rate/images_per_second": steps * batch_size / seconds,
            # Of all workers: each is handed its share at the same pace.
            "rate/ingest_images_per_second": made * batch_size / max(making, 1e-9),
        }

    def scores(self, found: Mapping[str, Any], pictures: Sequence[Any], step: int) -> None:
        """Write down the scores of a validation and what the model says of some images."""
        shown = {name: value for name, value in found.items() if isinstance(value, float)}
        logger.info(
            "after %d steps on %s: %s",
            step,
            found["name"],
            ", ".join(f"{name} {value:.2f}" for name, value in shown.items()),
        )
        if self.run is None:
            return
        name = found["name"]
        self.run.metrics({f"{name}/{score}": value for score, value in shown.items()}, step=step)
        if pictures:
            image = sheet(pictures)
            self.run.file(f"predictions/{name}/step-{step:07d}.png", image.save)


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rate of the decoder, and those of the parts that learn at another."""
    rates = sorted({group["lr"]: group["share"] for group in optimizer.param_groups}.items())
    return {
        "learning_rate" if share == 1.0 else f"learning_rate_x{share:g}": rate
        for rate, share in rates
    }


@contextmanager
def journal(
    tracker: Tracker | None, config: TrainConfig, *, rank: int, every: int
) -> Iterator[Journal]:
    """Open the journal of a worker; only rank 0 writes to MLflow."""
    if rank != 0 or tracker is None:
        yield Journal(None, config, every)
        return
    store = (tracker.node, tracker.uri, tracker.experiment)
    with run_on(*store, "train", run_id=tracker.run_id) as run:
        background = BackgroundRun(run)
        system = SystemMetrics(background)
        try:
            yield Journal(background, config, every)
        finally:
            system.close()
            background.close()
