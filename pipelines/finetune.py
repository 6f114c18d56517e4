"""Train a model on photos with masks by the published recipe (section 4.1 of the SED paper).

Shapes: B images, N classes, K classes asked, M (image, class) pairs, H W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.augment import NO_CLASS, Augmentation
from pipelines.feed import read_steps
from pipelines.objective import Batch, Objective
from pipelines.recipe import TrainConfig, parameter_groups
from pipelines.recompute import recompute
from sed import SED, load_model
from sed.clip import from_clip
from sed.config import PRESETS
from sed.decoder import Pairs
from sed.loss import level_losses

if TYPE_CHECKING:
    from ray.data import DataIterator


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """The published recipe; only what it trains on has no default."""

    dataset: str
    """NAME=URI, as on the command line."""

    data_digest: str
    """Says which images these are."""

    classes: tuple[str, ...]
    """Class names, in the order of the mask values."""

    max_steps: int = 80_000
    """Steps of the optimizer."""

    batch_size: int = 4
    """Images per step, over all workers."""

    learning_rate: float = 2e-4
    """Learning rate of the decoder; it follows half a cosine to zero."""

    encoder_rate: float = 0.01
    """Share of that rate for the image encoder. The text encoder stays as it is."""

    weight_decay: float = 1e-4
    """Weight decay of everything but normalisation layers."""

    clip_norm: float = 0.01
    """Global norm to which gradients are clipped."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """How the images are varied."""

    max_asked: int = 171
    """Classes asked of an image at most: those it shows, and others."""

    def build_model(self, weights: str | None = None) -> SED:
        """Return the model of a checkpoint, or a new decoder on the weights of CLIP."""
        if self.model in ("base", "large"):
            assert weights is not None, "the job has found CLIP's weights"
            torch.manual_seed(self.seed)
            model = from_clip(PRESETS[self.model](), weights)
        else:
            model = load_model(weights or self.model)
        model.requires_grad_(True).text_encoder.requires_grad_(False)
        return model

    def build_objective(self, model: SED) -> "LabelledObjective":
        """Return the losses to train."""
        if self.recompute:
            recompute(model)
        return LabelledObjective(model, self)

    def build_optimizer(self, objective: Objective) -> torch.optim.AdamW:
        """Return AdamW in the published groups."""
        return build_optimizer(objective, self)

    def batches(
        self, first_step: int, rank: int, world_size: int, stream: "DataIterator | None"
    ) -> Iterator[list[Batch]]:
        """Yield this worker's share of each step, as Ray Data makes it."""
        assert stream is not None, "photos are streamed"
        return read_steps(self, stream, first_step, world_size)

    @property
    def shares_unevenly(self) -> bool:
        """Every loss is a mean over images, which can be weighted."""
        return True


class LabelledObjective(Objective):
    """The published losses of one batch (section 7 of the specification)."""

    def __init__(self, model: SED, config: FinetuneConfig) -> None:
        super().__init__()
        self.model = model
        self.deep = nn.ModuleList()
        self.max_asked = config.max_asked
        self.seed = config.seed
        with torch.no_grad():
            self.register_buffer(
                "text_NPD", model.embed_classes(config.classes).clone(), persistent=False
            )

    def train(self, mode: bool = True) -> "LabelledObjective":
        """Leave batch norms in evaluation mode: the batches are small."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(
        self, images_BHW3: Tensor, labels_BHW: Tensor, step: int, numbers: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Return the losses to sum, each a mean over the images.

        Args:
            images_BHW3: uint8.
            labels_BHW: Index of the class of each pixel, `NO_CLASS` for none.
            step: Number of the training step.
            numbers: Number of each sample; seeds what is asked of it.
        """
        images_B3HW = images_BHW3.permute(0, 3, 1, 2).float() / 255
        features = self.model.image_encoder(images_B3HW)
        class_BK = self.ask(labels_BHW, numbers or [step] * len(labels_BHW))
        needed_K, place_BK = class_BK.unique(return_inverse=True)
        text_NPD = self.get_buffer("text_NPD")[needed_K]
        pairs = Pairs(place_BK.flatten(), (class_BK.shape[1],) * len(class_BK))
        levels_MHW = self.model.levels(features, text_NPD, pairs)
        return level_losses(levels_MHW, labels_BHW, pairs.image_M, class_BK.flatten())

    def ask(self, labels_BHW: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return the classes that each image is asked for, ascending, class_BK.

        All of them, or those it shows and others. What is asked depends on the image and its number
        alone, so it does not matter which images share a batch.
        """
        num_classes = len(self.get_buffer("text_NPD"))
        if num_classes <= self.max_asked:
            asked = [list(range(num_classes))] * len(labels_BHW)
        else:
            asked = [self.choose(*one) for one in zip(labels_BHW, numbers, strict=True)]
        return torch.tensor(asked, device=labels_BHW.device)

    def choose(self, labels_HW: Tensor, number: int) -> list[int]:
        """Return the classes that one image is asked for, ascending."""
        num_classes = len(self.get_buffer("text_NPD"))
        found, counts = labels_HW[labels_HW != NO_CLASS].unique(return_counts=True)
        shown = found[counts.argsort(descending=True)][: self.max_asked].tolist()
        order = np.random.default_rng([self.seed, number]).permutation(num_classes).tolist()
        others = [index for index in order if index not in shown]
        return sorted([*shown, *others[: self.max_asked - len(shown)]])


def build_optimizer(objective: nn.Module, config: FinetuneConfig) -> torch.optim.AdamW:
    """Return AdamW: the image encoder learns slowly, normalisation layers have no decay."""
    groups = []
    for name, module, own in parameter_groups(objective):
        share = config.encoder_rate if "image_encoder" in name else 1.0
        decay = 0.0 if is_norm(module, name) else config.weight_decay
        groups.append({"params": own, "share": share, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.999))


def is_norm(module: nn.Module, name: str) -> bool:
    """Say whether a layer has no weight decay; that of the decoder's spatial mix has some."""
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    return isinstance(module, kinds) and not name.endswith("space.norm")
