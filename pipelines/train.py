"""Training on Ray Train: workers that may die and come back, and what is left at the end."""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipelines.checkpoints import Saved, Store
from pipelines.failures import EndOnOwnErrors
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

DATA_CPUS = 2
"""Logical CPUs that are left to Ray Data at least."""

FEW_CPUS = 0.1

RESIZE_SECONDS = 30.0
"""Between two looks at whether there is room for more workers."""


@dataclass(frozen=True)
class Crew:
    """How many workers there are, and what each takes."""

    least: int = 1
    most: int = 1
    use_gpu: bool = False

    @classmethod
    def parse(cls, text: str, *, use_gpu: bool = False) -> "Crew":
        """Read "4", or "1:4": as many of these as there is room for.

        Raises:
            ValueError: It is neither.
        """
        least, _, most = text.partition(":")
        numbers = [least, most or least]
        if not all(number.isdecimal() for number in numbers) or (":" in text and not most):
            raise ValueError(f"--workers is a number, or a range like 1:4, got {text!r}")
        crew = cls(int(numbers[0]), int(numbers[1]), use_gpu)
        if not 1 <= crew.least <= crew.most:
            raise ValueError(
                f"--workers must be at least 1, and a range from less to more, got {text!r}"
            )
        return crew

    def scaling(self, cpus: int) -> ScalingConfig:
        """Return what Ray Train is told, in a cluster of so many CPUs."""
        each = {"CPU": self.cpus_each(cpus)}
        if self.use_gpu:
            each["GPU"] = 1
        return ScalingConfig(
            num_workers=self.least if self.least == self.most else (self.least, self.most),
            use_gpu=self.use_gpu,
            resources_per_worker=each,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        )

    def cpus_each(self, cpus: int) -> float:
        """Return the logical CPUs of a worker.

        Workers must never hold so many that too few are left to read with: the training would hang.
        Without GPUs a group that may change its size takes hardly any, as nodes may go.
        """
        left = cpus - DATA_CPUS
        if left >= self.most and (self.use_gpu or self.least == self.most):
            return 1
        return max(FEW_CPUS, left / self.most if self.least == self.most else 0)


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    path: Path
    """A local copy of the trained model; it also lies at OUTPUT/model.safetensors."""

    last: Saved
    best: Saved | None
    """The checkpoint with the highest mIoU, where that was measured."""


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
        fit(setup, crew)
        newest = store.newest()
    assert newest is not None, "the last step of a training always writes a checkpoint"
    best = store.best()
    if best is not None:
        publish(best, setup.output.at(BEST_FILE))
    return Trained(publish(newest, setup.output.at(MODEL_FILE)), newest, best)


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
    marker = ledger.at(f"{name}.marker")
    marker.write(b"")
    setup = replace(setup, threads=max(1, cpus // crew.most), marker=marker)
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
