"""The recipe that teaches a small model the bundled scenes, which are drawn beside each worker.

Batches: images uint8 (B, H, W, 3), masks uint8 (B, H, W) that index the vocabulary of scenes.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset

from pipelines import scenes
from pipelines.curriculum import Curriculum, CurriculumObjective
from pipelines.objective import Batch, Objective
from pipelines.recipe import TrainConfig
from pipelines.warmup import spread_names
from sed import SED, load_model
from sed.config import PRESETS

if TYPE_CHECKING:
    from ray.data import DataIterator

logger = logging.getLogger(__name__)

NORM_BATCHES = 12
"""Batches from which the statistics of batch norms are taken at the end."""

Wanted = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ScenesConfig(TrainConfig):
    """A training recipe; the defaults were the first run of the bundled nano model."""

    max_steps: int = 3600
    """Steps of the optimizer."""

    text_steps: int = 160
    """Steps before the first, on class names alone: see `pipelines.warmup`."""

    batch_size: int = 16
    """Scenes per step, over all workers."""

    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; it follows half a cosine to zero."""

    text_rate: float = 0.1
    """Share of that rate for the text encoder, which has learnt before."""

    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly to its peak."""

    weight_decay: float = 0.02
    """Weight decay of matrices and kernels; biases, norms and gammas have none."""

    clip_norm: float = 1.0
    """Global norm to which gradients are clipped."""

    curriculum: Curriculum = field(default_factory=Curriculum)
    """What is asked of the model."""

    def build_model(self, weights: str | None = None) -> SED:
        """Return the model that training starts from.

        A small image encoder from nothing gets weights in proportion to its widths: the fixed 0.02
        of ConvNeXt, meant for hundreds of channels, would leave the blocks of a narrow one silent.
        """
        if self.model not in PRESETS:
            return load_model(weights or self.model).requires_grad_(True)
        torch.manual_seed(self.seed)
        model = SED(PRESETS[self.model]())
        for module in model.image_encoder.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        if self.text_steps:
            cosine = spread_names(model.text_encoder, steps=self.text_steps, seed=self.seed)
            logger.info("Class names spread in %d steps: cosine %.3f", self.text_steps, cosine)
        return model

    def build_objective(self, model: SED) -> Objective:
        """Return what is minimised."""
        return CurriculumObjective(model, self.curriculum)

    def build_optimizer(self, objective: Objective) -> torch.optim.AdamW:
        """Return AdamW with weight decay on everything of two dimensions or more.

        Each group has a `share` of the learning rate.
        """
        text = set(objective.model.text_encoder.parameters())
        parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        groups = [
            {
                "params": [
                    p for p in parameters if (p.ndim > 1) == matrix and (p in text) == of_text
                ],
                "weight_decay": self.weight_decay if matrix else 0.0,
                "share": self.text_rate if of_text else 1.0,
            }
            for matrix in (True, False)
            for of_text in (True, False)
        ]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98))

    def batches(
        self,
        first_step: int,
        rank: int,
        world_size: int,
        stream: "DataIterator | None" = None,
    ) -> Iterator[list[Batch]]:
        """Yield this worker's share of each batch from `first_step` to the end."""
        wanted = [
            wanted_scenes(self, step, rank, world_size)
            for step in range(first_step, self.max_steps)
        ]
        loader = DataLoader(
            TrainingScenes(self.seed), batch_sampler=wanted, num_workers=1, prefetch_factor=4
        )
        for some, (images, masks) in zip(wanted, loader, strict=True):
            numbers = [number for number, _ in some]
            yield [Batch(images, masks, numbers, [f"scene {number}" for number in numbers])]

    @property
    def finds_unused(self) -> bool:
        """The first steps leave the decoder alone."""
        return True

    def settle(self, model: SED) -> None:
        """Take the statistics of the batch norms anew, from scenes of full size.

        Those that training kept mix scenes of two sizes, and weights that have moved on since.
        """
        size = self.curriculum.scene_size
        first = 4 * self.batch_size * self.max_steps
        numbers = range(first, first + self.batch_size * NORM_BATCHES)
        fresh = DataLoader(
            TrainingScenes(self.seed), self.batch_size, sampler=[(n, size) for n in numbers]
        )
        images = (images.permute(0, 3, 1, 2).float() / 255 for images, _ in fresh)
        update_bn(images, model.image_encoder, next(model.parameters()).device)


class TrainingScenes(Dataset):
    """The endless series of training scenes of one seed, drawn when they are asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture and the mask of one scene, given its number and its side."""
        number, size = wanted
        scene = scenes.draw(self.seed, number, split="train", size=size)
        return scene.image_HW3, scene.mask_HW


def wanted_scenes(config: ScenesConfig, step: int, rank: int, world_size: int) -> list[Wanted]:
    """Return the number and the side of each scene in a worker's share of one step.

    Step and rank alone decide, so a training that continues sees what an undisturbed one would
    have seen.
    """
    small = not config.curriculum.decodes(step)
    share = config.batch_size // world_size * (4 if small else 1)
    size = config.curriculum.scene_size // (2 if small else 1)
    first = 4 * config.batch_size * step + rank * share
    return [(number, size) for number in range(first, first + share)]
