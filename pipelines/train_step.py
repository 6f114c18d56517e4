"""One step of the optimizer, the same for any number of workers and of parts.

Every worker computes the mean loss of its share, weighted so that the mean over the workers is the
mean over all images of the step; nothing is changed before all know that the loss is finite.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.objective import Batch
from pipelines.recipe import TrainConfig


class LossNotFiniteError(FloatingPointError):
    """The loss or its gradient was no number: nothing was changed."""

    def __init__(self, step: int, value: float, ids: Sequence[str]) -> None:
        super().__init__(
            f"the loss of step {step} is not finite ({value}); the images of this step: "
            f"{', '.join(ids) or 'unknown'}"
        )
        self.step = step
        self.value = value
        self.ids = list(ids)

    def __reduce__(self) -> tuple[type, tuple[int, float, list[str]]]:
        """Let it travel from a worker to the driver."""
        return type(self), (self.step, self.value, self.ids)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[Batch],
    step: int,
    config: TrainConfig,
) -> dict[str, float]:
    """Take one step of the optimizer; return the losses and what else is known of it.

    That is the same on all workers: `gradient_norm`, and the images that none of them could use
    in `broken_images`.

    Args:
        model: The objective, or what makes it data-parallel.
        optimizer: Its groups have a `share` of the learning rate.
        parts: This worker's share of the step.
        step: Its number.
        config: The recipe.

    Raises:
        LossNotFiniteError: On every worker, where the loss is not finite on one of them.
    """
    rank, world_size = 0, 1
    if dist.is_initialized():
        rank, world_size = dist.get_rank(), dist.get_world_size()
    seed_chance(config.seed, step, rank)
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * config.rate(step)
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for index, batch in enumerate(parts):
        with syncing(model, last=index + 1 == len(parts)):
            losses = part_losses(model, batch, step, config)
            losses["total"].backward()
        sums = {name: sums.get(name, 0) + loss.detach() for name, loss in losses.items()}
    broken = torch.tensor(float(sum(len(batch.broken) for batch in parts)))
    mean = average(sums | {"broken_images": broken}, parts[0].images_BHW3.device)
    mean["broken_images"] = round(mean["broken_images"] * world_size)
    if not np.isfinite(mean["total"]):
        raise LossNotFiniteError(step, mean["total"], all_ids(parts))
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm).item()
    if not np.isfinite(norm):
        raise LossNotFiniteError(step, norm, all_ids(parts))
    optimizer.step()
    return mean | {"gradient_norm": norm}


def seed_chance(seed: int, step: int, rank: int) -> None:
    """Seed what a step leaves to chance, dropout among it.

    So the state of the generators is a function of the step, and a training that continues needs no
    copy of it.
    """
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1)
    torch.manual_seed(int(state[0]))


def syncing(model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Return a context in which gradients are averaged over the workers with the last part only."""
    if last or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()


def part_losses(
    model: nn.Module, batch: Batch, step: int, config: TrainConfig
) -> dict[str, Tensor]:
    """Return the weighted losses of a part, and their sum as "total"."""
    device_type = batch.images_BHW3.device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=config.uses_bf16(device_type)):
        losses = model(batch.images_BHW3, batch.labels_BHW, step, batch.numbers)
    weighted = {name: batch.weight * loss for name, loss in losses.items()}
    return weighted | {"total": torch.stack(list(weighted.values())).sum()}


def average(values: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Return the mean of each value over the workers."""
    vector = torch.stack([value.to(device, torch.float64) for value in values.values()])
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(vector)
        vector /= dist.get_world_size()
    return dict(zip(values, vector.tolist(), strict=True))


def all_ids(parts: Sequence[Batch]) -> list[str]:
    """Return the names of the images of a step, on all workers."""
    own = [name for batch in parts for name in batch.ids]
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return own
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return [name for names in found for name in names]
