"""An average of a model's weights over the steps of a training, which often labels better."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of the weights that learn."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average."""
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.averages.values()), list(self.parameters.values()), 1 - self.decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the average as its weights inside the block."""
        own = {name: parameter.data for name, parameter in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data = self.averages[name]
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = own[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the averages of a checkpoint."""
        if set(state) != set(self.averages):
            wrong = ", ".join(sorted(set(state) ^ set(self.averages))[:5])
            raise ValueError(f"the averages of another model: {wrong}")
        for name, average in self.averages.items():
            average.copy_(state[name])
