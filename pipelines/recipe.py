"""How a model is trained: what every recipe has. `scenes_recipe` and `finetune` are the two."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pipelines.objective import Batch, Objective
from sed import SED

if TYPE_CHECKING:
    from ray.data import DataIterator

PRECISIONS = ("auto", "bf16", "fp32")

SAME_STEP = ("accumulate", "recompute")
"""Settings that trade memory for time; they may change between two starts of a training."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ABC):
    """A training recipe: all that decides which model comes out."""

    model: str = "nano"
    """Preset to train, or a checkpoint to go on from."""

    weights_digest: str = ""
    """Says which weights training starts from, where they come from a file."""

    max_steps: int
    """Steps of the optimizer."""

    batch_size: int
    """Images per step, over all workers."""

    accumulate: int = 1
    """Parts that a worker computes its share of a step in, one after the other: less memory."""

    learning_rate: float
    """Peak learning rate of AdamW; it follows half a cosine to zero."""

    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly to its peak."""

    weight_decay: float
    """Weight decay of AdamW, where there is any."""

    clip_norm: float
    """Global norm to which gradients are clipped."""

    precision: str = "auto"
    """Arithmetic of the forward pass: bf16 (autocast), fp32, or auto: bf16 where the hardware has
    it. (Without, bf16 takes ten times as long as fp32.)"""

    recompute: bool = False
    """Compute activations a second time instead of keeping them: less memory, a third slower."""

    ema_decay: float = 0.0
    """Decay of an average of the weights over the steps, which becomes the model; 0: none."""

    seed: int = 0
    """Seed of the weights, of the data and of what is left to chance in a step."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be auto, bf16 or fp32, got {self.precision!r}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")

    @abstractmethod
    def build_model(self, weights: str | None = None) -> SED:
        """Return the model that training starts from.

        Args:
            weights: The file of `model` on this machine; None where it is none.
        """

    @abstractmethod
    def build_objective(self, model: SED) -> Objective:
        """Return what is minimised."""

    @abstractmethod
    def build_optimizer(self, objective: Objective) -> torch.optim.AdamW:
        """Return the optimizer; each group has a `share` of the learning rate."""

    @abstractmethod
    def batches(
        self, first_step: int, rank: int, world_size: int, stream: "DataIterator | None"
    ) -> Iterator[list[Batch]]:
        """Yield a worker's share of each step from one to the end, in `accumulate` parts.

        Args:
            first_step: Where to start.
            rank: Which worker this is.
            world_size: Of how many.
            stream: What Ray Data makes for this worker, where the recipe reads from it.
        """

    @property
    def shares_unevenly(self) -> bool:
        """Whether any number of workers can share a step."""
        return False

    @property
    def finds_unused(self) -> bool:
        """Whether a step may leave some weights without a gradient."""
        return False

    def settle(self, model: SED) -> None:  # noqa: B027  most have nothing to do
        """Do what is left to do after the last step."""

    @property
    def digest(self) -> str:
        """The recipe's fingerprint: two runs with the same one train the same model."""
        return fingerprint(asdict(self))

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine to zero."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + np.cos(np.pi * step / self.max_steps))
        return self.learning_rate * warmup * float(cosine)

    def uses_bf16(self, device_type: str) -> bool:
        """Say whether the forward pass is computed in bfloat16."""
        if self.precision != "auto":
            return self.precision == "bf16"
        if device_type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return the digest of a recipe's settings, of those that decide which model comes out."""
    facts = {name: value for name, value in recipe.items() if name not in SAME_STEP}
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def parameter_groups(objective: nn.Module) -> Iterator[tuple[str, nn.Module, list[nn.Parameter]]]:
    """Yield every layer that learns by itself: its name, the layer, and its own parameters."""
    for name, module in objective.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if own:
            yield name, module, own
