"""The training loop of one worker."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import ray
import ray.train.torch
import torch
from ray.train.collective import broadcast_from_rank_zero

from pipelines.checkpoints import Saved, Store
from pipelines.datasets import Labelled
from pipelines.feed import Feed
from pipelines.ingest import Ingest
from pipelines.journal import Journal, Tracker, journal
from pipelines.objective import Batch, Objective
from pipelines.recipe import TrainConfig
from pipelines.same_folder import check_same_folder
from pipelines.storage import Location
from pipelines.train_step import train_step
from pipelines.trainee import Trainee
from pipelines.validation import Tally, summary, validate
from pipelines.weights import Weights

if TYPE_CHECKING:
    from ray.data import DataIterator, Dataset

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What is done beside the steps; it does not change which model comes out."""

    checkpoint_every: int = 1000
    """Steps between checkpoints."""

    keep: int = 2
    """Newest checkpoints that are kept; the best one is kept besides."""

    validate_every: int = 10_000
    """Steps between validations; there is one at the end besides."""

    log_every: int = 20
    """Steps between entries in MLflow and in the log."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker is told."""

    config: TrainConfig
    output: Location
    marker: Location | None = None
    """A file that the driver has written below the output; None where it is not looked for."""
    tracker: Tracker | None = None
    """Where rank 0 writes its curves; None: nowhere."""
    threads: int = 1
    """CPU threads of each worker, at most."""
    upkeep: Upkeep = field(default_factory=Upkeep)
    weights: Weights | None = None
    """Where the model starts from, if that is a file."""
    ingest: Ingest | None = None
    """What Ray Data streams; None where the recipe makes its own images."""
    validation: Sequence[Labelled] = ()


def train_on_worker(arguments: dict[str, Any]) -> None:
    """Train from the newest checkpoint, or from the start, to the end."""
    setup: Setup = arguments["setup"]
    # Another folder would hold no checkpoint, and the training start again from nothing.
    check_same_folder(setup.output, setup.marker)
    torch.set_num_threads(min(setup.threads, os.cpu_count() or 1))
    rank = ray.train.get_context().get_world_rank()
    trainee = build(setup)
    store = Store(setup.output.at("checkpoints"), setup.upkeep.keep)
    first_step = restore(trainee, store)
    every = setup.upkeep.log_every
    with journal(setup.tracker, setup.config, rank=rank, every=every) as entries:
        loop = Loop(setup, trainee, store, entries)
        try:
            loop.run(first_step)
        finally:
            loop.close()


def build(setup: Setup) -> Trainee:
    """Return the trainee on its device, the same on every worker."""
    config = setup.config
    model = config.build_model(setup.weights.fetch() if setup.weights else None)
    # On its device before it embeds the class names.
    objective = config.build_objective(model.to(ray.train.torch.get_device()))
    return Trainee(objective, config, partial(place, config))


def place(config: TrainConfig, objective: Objective) -> torch.nn.Module:
    """Move the objective to the worker's device; make it data-parallel where there are several."""
    return ray.train.torch.prepare_model(
        objective.train().to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        parallel_strategy_kwargs={"find_unused_parameters": config.finds_unused},
    )


def restore(trainee: Trainee, store: Store) -> int:
    """Load the newest checkpoint, the same on every worker; return the steps it has taken."""
    newest = store.newest() if ray.train.get_context().get_world_rank() == 0 else None
    saved: Saved | None = tell_all(newest)
    if saved is None:
        return 0
    logger.info("Going on from %s", saved.place.uri)
    return trainee.restore(saved)


def share_stream(plan: "Dataset | None", world_size: int) -> "DataIterator | None":
    """Let rank 0 start a stream of rows; return this worker's part of it."""
    streams = None
    rank = ray.train.get_context().get_world_rank()
    if rank == 0 and plan is not None:
        streams = plan.streaming_split(world_size, equal=False)
    streams = tell_all(streams)
    return streams[rank] if streams is not None else None


def tell_all(value: T) -> T:
    """Return what rank 0 has, on every worker; all must ask."""
    # Ray Train warns of more than a kilobyte: what travels is where it lies.
    rank = ray.train.get_context().get_world_rank()
    references: Any = broadcast_from_rank_zero([ray.put(value)] if rank == 0 else None)
    return ray.get(references[0])


class Loop:
    """Step after step, with what is due between them."""

    def __init__(self, setup: Setup, trainee: Trainee, store: Store, entries: Journal) -> None:
        self.setup, self.trainee, self.store, self.entries = setup, trainee, store, entries
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.feed: Feed[list[Batch]] | None = None

    def run(self, first_step: int) -> None:
        """Take every step from one to the last."""
        config, trainee = self.setup.config, self.trainee
        self.feed = Feed(self.batches(first_step))
        for step, parts in enumerate(self.feed, first_step):
            parts_here = [batch.to(trainee.device) for batch in parts]
            found = train_step(trainee.parallel, trainee.optimizer, parts_here, step, config)
            if trainee.average is not None:
                trainee.average.update()
            broken = [image for batch in parts for image in batch.broken]
            self.entries.step(step, found, trainee.optimizer, self.feed, broken)
            self.after(step + 1, found)

    def batches(self, first_step: int) -> Iterator[list[Batch]]:
        """Yield this worker's share of each step."""
        ingest = self.setup.ingest
        plan = ingest.rows(first_step, self.world_size) if ingest and self.rank == 0 else None
        stream = share_stream(plan, self.world_size) if ingest else None
        return self.setup.config.batches(first_step, self.rank, self.world_size, stream)

    def after(self, steps: int, found: dict[str, float]) -> None:
        """Settle, validate and save where it is due after so many steps."""
        config, upkeep = self.setup.config, self.setup.upkeep
        last = steps == config.max_steps
        if last:
            self.trainee.settle()
        scores = []
        if last or steps % upkeep.validate_every == 0:
            scores = [self.validate(data, steps) for data in self.setup.validation]
        if (last or steps % upkeep.checkpoint_every == 0 or scores) and self.rank == 0:
            score = scores[0]["mIoU"] if scores else None
            facts = {"losses": found, "validation": scores, "score": score}
            self.store.save(steps, self.trainee.snapshot(steps), facts)

    def validate(self, data: Labelled, steps: int) -> dict[str, Any]:
        """Measure the model on a dataset, each worker a part of it."""
        rows = data.rows
        rows.context.execution_options.preserve_order = True  # the same pictures each time
        rows.context.enable_progress_bars = False
        stream = share_stream(rows, self.world_size)
        assert stream is not None, "rank 0 has started it"
        objective = self.trainee.objective.eval()
        with self.trainee.averaged():
            tables = stream.iter_batches(batch_size=4, batch_format="pyarrow")
            tally: Tally = validate(objective.model, data, tables)
        objective.train()
        found = summary(data, tally)
        if self.rank == 0:
            self.entries.scores(found, tally.rows, steps)
        return found

    def close(self) -> None:
        """Let nothing go on behind: no reading, no writing."""
        if self.feed is not None:
            self.feed.close()
        self.store.wait()
