"""The state of a training: what a step changes, what a checkpoint holds."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.checkpoints import Saved
from pipelines.objective import Objective
from pipelines.recipe import TrainConfig
from sed import SED
from sed.checkpoint import MODEL_FILE, save_state
from sed.ema import WeightAverage

STATE_FILE = "state.pt"
AVERAGE_FILE = "average.safetensors"
"""The model of averaged weights, where an average is kept."""


class Trainee:
    """A model that learns: its objective, its optimizer, the average of its weights."""

    def __init__(
        self,
        objective: Objective,
        config: TrainConfig,
        place: Callable[[Objective], nn.Module] = lambda objective: objective,
    ) -> None:
        """Put it together.

        Args:
            objective: The losses, around the model.
            config: The recipe.
            place: Moves the objective to its device and makes it data-parallel.
        """
        self.objective = objective
        self.config = config
        self.optimizer = config.build_optimizer(objective)
        self.parallel = place(objective)
        decay = config.ema_decay
        self.average = WeightAverage(objective.model, decay) if decay else None

    @property
    def model(self) -> SED:
        """The model that learns."""
        return self.objective.model

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.model.device

    def averaged(self) -> AbstractContextManager[Any]:
        """Return a context in which the model is what will come out of the training."""
        return self.average.applied() if self.average else nullcontext()

    def settle(self) -> None:
        """Do what is left to do after the last step, to what will come out of the training."""
        with self.averaged():
            self.config.settle(self.model)

    def snapshot(self, step: int) -> dict[str, Callable[[Path], object]]:
        """Return what writes each file of a checkpoint, from copies: training may go on."""
        weights, sizes = to_cpu(self.model.state_dict()), self.model.config
        state = {
            "optimizer": to_cpu(self.optimizer.state_dict()),
            "deep": to_cpu(self.objective.deep.state_dict()),
            # Order and augmentation of the data, and dropout, follow from these: see `sampling`
            # and `train_step.seed_chance`.
            "position": {"step": step, "sample": step * self.config.batch_size},
            "random": {"seed": self.config.seed, "torch": torch.get_rng_state()},
        }
        files: dict[str, Callable[[Path], object]] = {
            MODEL_FILE: lambda path: save_state(weights, sizes, path),
            STATE_FILE: lambda path: torch.save(state, path),
        }
        if self.average is not None:
            averages = to_cpu(self.average.state_dict())
            files[AVERAGE_FILE] = lambda path: save_state(weights | averages, sizes, path)
        return files

    def restore(self, saved: Saved) -> int:
        """Take up the state of a checkpoint; return the number of steps that were taken."""
        with tempfile.TemporaryDirectory() as folder:
            saved.fetch(Path(folder))
            self.model.load_state_dict(load_file(Path(folder) / MODEL_FILE))
            state = torch.load(Path(folder) / STATE_FILE, weights_only=True)
            if self.average is not None:
                found = load_file(Path(folder) / AVERAGE_FILE)
                names = self.average.averages
                self.average.load_state_dict({name: found[name] for name in names})
        self.objective.deep.load_state_dict(state["deep"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["position"]["step"]


def to_cpu(state: Any) -> Any:  # noqa: ANN401  dictionaries and lists of tensors and numbers
    """Return a copy of a state on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: to_cpu(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [to_cpu(value) for value in state]
    return state


def model_file(saved: Saved) -> str:
    """Return the file of a checkpoint that holds the model to use."""
    return AVERAGE_FILE if AVERAGE_FILE in saved.files else MODEL_FILE
