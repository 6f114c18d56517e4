"""Training on Ray Train: workers that may die and come back, and what is left at the end."""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.train import ControllerError, FailureConfig, RunConfig
from ray.train.torch import TorchTrainer

from pipelines.checkpoints import Saved, Store
from pipelines.crew import Crew
from pipelines.failures import EndOnOwnErrors
from pipelines.same_folder import marked
from pipelines.storage import Location
from pipelines.trainee import model_file
from pipelines.worker import Setup, train_on_worker
from sed.checkpoint import MODEL_FILE

logger = logging.getLogger(__name__)

BEST_FILE = "best.safetensors"
"""The model with the highest mIoU on the first validation set."""

MAX_FAILURES = 16
"""Times that a training is taken up again after a worker was lost, in one run of the job; nodes
that are taken back are not counted."""


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    path: Path
    """A local copy of the trained model; it also lies at OUTPUT/model.safetensors."""

    last: Saved
    best: Saved | None
    """The checkpoint with the highest mIoU, where that was measured."""

    steps: int
    """Steps that this start took; 0 where an earlier one had taken all."""


def train(setup: Setup, crew: Crew) -> Trained:
    """Train to the end, from the newest checkpoint under the output if there is one.

    Raises:
        LossNotFiniteError: Of a step; the checkpoints before are as they were.
        ValueError: The output is not the same folder on every node.
    """
    store = Store(setup.output.at("checkpoints"), setup.upkeep.keep)
    newest = store.newest()
    first_step = newest.step if newest else 0
    if first_step < setup.config.max_steps:
        logger.info("Training from step %d to %d", first_step, setup.config.max_steps)
        with marked(setup.output) as marker:
            fit(replace(setup, marker=marker), crew)
        newest = store.newest()
    assert newest is not None, "the last step of a training always writes a checkpoint"
    best = store.best()
    if best is not None:
        publish(best, setup.output.at(BEST_FILE))
    return Trained(
        publish(newest, setup.output.at(MODEL_FILE)), newest, best, newest.step - first_step
    )


def publish(saved: Saved, place: Location) -> Path:
    """Copy the model of a checkpoint to a place; return a local copy."""
    folder = Path(tempfile.mkdtemp())
    saved.fetch(folder, [model_file(saved)])
    path = (folder / model_file(saved)).rename(folder / MODEL_FILE)
    place.write(path.read_bytes())
    return path


def fit(setup: Setup, crew: Crew) -> None:
    """Run Ray Train on the steps that are left; raise the workers' own error, if there is one."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    # Ray Train keeps nothing of its own that is needed later: checkpoints are ours.
    ledger = setup.output.at("ray")
    name = f"start-{time.time_ns()}"
    setup = replace(setup, threads=max(1, cpus // crew.most))
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={"setup": setup},
        scaling_config=crew.scaling(cpus),
        run_config=RunConfig(
            name=name,
            storage_path=ledger.path,
            storage_filesystem=ledger.fs,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[EndOnOwnErrors()],
        ),
    )
    try:
        trainer.fit()
    except ControllerError as error:
        raise error.controller_failure from None
    finally:
        ledger.remove()
