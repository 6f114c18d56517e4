"""How a small model learns from scenes: which classes it is asked about, and the losses.

Shapes: B images, N classes, M (image, class) pairs, H W pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

from pipelines.objective import Objective
from pipelines.scenes.names import GROUNDS, shape_and_look, training_classes, vocabulary
from sed import SED
from sed.cost_map import cosine_scores
from sed.decoder import Pairs
from sed.features import Features
from sed.loss import alignment_loss, class_shares, level_losses, overlap_losses
from sed.text import PROMPTS

CELL = 32
IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What is asked of the model in one training step."""

    align_steps: int = 1400
    """First steps, which train only the encoders: each cell against every class name. Their scenes
    have half the side and are four times as many: more objects for the same work."""

    align_weight: float = 0.3
    """Weight of that loss afterwards, beside the segmentation losses."""

    align_temperature: float = 0.05
    """Temperature of that loss: it divides the cosines."""

    align_prompts: int = 1
    """Prompt templates that each step draws for that loss."""

    object_weight: float = 3.0
    """Weight of the objects in that loss; the grounds, which fill most cells, have 1."""

    deep_weight: float = 0.3
    """Weight of the same question asked at strides 8 and 16, by looks and by shapes, through two
    linear layers that are thrown away afterwards; 0 leaves them out."""

    decode_every: int = 1
    """After `align_steps`, every so many steps train everything; those between are like the first
    ones, so that small objects stay in sight."""

    asked: tuple[int, ...] = (6, 8, 10, 12)
    """Classes asked for each image, one of these numbers per batch: those it shows, and others."""

    likely_share: float = 0.0
    """Share of those others that the image is closest to among all it does not show: what is left
    after rejection."""

    overlap_weight: float = 0.0
    """Weight of the Dice loss of every level, which counts a small object as much as a large one;
    0 leaves it out."""

    full_names: float = 0.7
    """Share of the batches that ask for full names; the others ask for looks or shapes alone."""

    scene_size: int = 256
    """Side of the training scenes, in pixels; a multiple of 64."""

    label_size: int = 128
    """Side of the label map that the segmentation losses are computed at, in pixels."""

    def decodes(self, step: int) -> bool:
        """Say whether a step trains the decoder, or the encoders alone."""
        since = step - self.align_steps
        return since >= 0 and since % self.decode_every == 0


@dataclass(frozen=True)
class Naming:
    """A way to name what a scene shows: full names, or only looks, or only shapes."""

    names: tuple[str, ...]
    """Class names."""

    index: tuple[int, ...]
    """For each class of the scenes its index in `names`, or IGNORE where it is never drawn."""

    def translate(self, labels: Tensor) -> Tensor:
        """Return labels that index `names`, for labels of the scenes."""
        table = torch.full((256,), IGNORE, dtype=torch.long, device=labels.device)
        table[: len(self.index)] = torch.tensor(self.index, device=labels.device)
        return table[labels.long()]


def namings() -> list[Naming]:
    """Return the ways to name a scene: in full, by look, by shape.

    "red ball" is also "red" and "ball", so that the text encoder learns what a word means apart
    from its neighbours. Combinations that are never drawn are never named.
    """
    full = vocabulary()
    objects = [shape_and_look(i) for i in range(len(GROUNDS), len(full))]
    looks = [*GROUNDS, *(look for _, look in objects)]
    shapes = [*GROUNDS, *(shape for shape, _ in objects)]
    drawn = set(training_classes())
    return [restrict(names, drawn) for names in (full, looks, shapes)]


def restrict(names: list[str], drawn: set[int]) -> Naming:
    """Return the naming of the classes that are drawn; equal names become one class."""
    used = list(dict.fromkeys(name for i, name in enumerate(names) if i in drawn))
    index = [used.index(name) if i in drawn else IGNORE for i, name in enumerate(names)]
    return Naming(tuple(used), tuple(index))


class CurriculumObjective(Objective):
    """The losses of one batch of scenes."""

    def __init__(self, model: SED, curriculum: Curriculum) -> None:
        super().__init__()
        self.model = model
        self.curriculum = curriculum
        self.namings = namings()
        trunk: Any = model.image_encoder.visual.trunk
        dims = [stage["num_chs"] for stage in trunk.feature_info][1:3]
        width = sum(len(naming.names) for naming in self.namings[1:])
        self.deep = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, dim), nn.Conv2d(dim, width, kernel_size=1))
            for dim in dims
        )

    def forward(
        self, images_BHW3: Tensor, labels_BHW: Tensor, step: int, numbers: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Return the losses to sum.

        Args:
            images_BHW3: uint8.
            labels_BHW: Class of the scenes of each pixel.
            step: Number of the training step: it decides the phase, and seeds what is asked.
            numbers: Not needed here.
        """
        rng = np.random.default_rng([step])
        images_B3HW = images_BHW3.permute(0, 3, 1, 2).float() / 255
        features = self.model.image_encoder(images_B3HW)
        aligned = [self.align(rng, features, naming, labels_BHW) for naming in self.namings]
        losses = {"align": torch.stack(aligned).mean()}
        if self.curriculum.deep_weight:
            losses["deep"] = self.curriculum.deep_weight * self.ask_deep(features, labels_BHW)
        if not self.curriculum.decodes(step):
            return losses
        naming = self.namings[self.choose_naming(rng)]
        labels_BHW = naming.translate(self.shrink(labels_BHW))
        pairs = self.ask(rng, labels_BHW, naming.names, self.rank(features, naming.names))
        needed, place_M = pairs.class_M.unique(return_inverse=True)
        text_NPD = self.model.text_encoder([naming.names[index] for index in needed.tolist()])
        levels_MHW = self.model.levels(features, text_NPD, Pairs(place_M, pairs.counts))
        losses["align"] = self.curriculum.align_weight * losses["align"]
        if self.curriculum.overlap_weight:
            overlaps = overlap_losses(levels_MHW, labels_BHW, pairs.image_M, pairs.class_M)
            losses["overlap"] = self.curriculum.overlap_weight * torch.stack(overlaps).sum()
        return losses | level_losses(levels_MHW, labels_BHW, pairs.image_M, pairs.class_M)

    def align(
        self, rng: Generator, features: Features, naming: Naming, labels_BHW: Tensor
    ) -> Tensor:
        """Return the loss of the cells of stride 32 against every name, in a few of the prompts."""
        num_prompts = len(PROMPTS[self.model.config.prompts])
        prompts = rng.choice(num_prompts, self.curriculum.align_prompts, replace=False).tolist()
        text_NPD = self.model.text_encoder(naming.names, prompts)
        shares_BNHW = class_shares(naming.translate(labels_BHW), len(naming.names), CELL)
        return alignment_loss(
            features.embedding_BDHW,
            text_NPD,
            shares_BNHW,
            self.curriculum.align_temperature,
            self.weigh(naming, shares_BNHW),
        )

    def weigh(self, naming: Naming, shares_BNHW: Tensor) -> Tensor:
        """Return the weight of each class of a naming, weights_N."""
        weights = [1.0 if n in GROUNDS else self.curriculum.object_weight for n in naming.names]
        return torch.tensor(weights, device=shares_BNHW.device)

    def ask_deep(self, features: Features, labels_BHW: Tensor) -> Tensor:
        """Return the loss of the cells of strides 8 and 16 against looks and shapes."""
        losses = []
        for layer, level, cell in zip(self.deep, features.pyramid[1:], (8, 16), strict=True):
            widths = [len(naming.names) for naming in self.namings[1:]]
            answers = layer(level).float().split(widths, dim=1)
            for naming, answer_BNHW in zip(self.namings[1:], answers, strict=True):
                shares = class_shares(naming.translate(labels_BHW), len(naming.names), cell)
                weights_N = self.weigh(naming, shares)
                losses.append(F.cross_entropy(answer_BNHW, shares, weights_N))
        return torch.stack(losses).sum()

    def choose_naming(self, rng: Generator) -> int:
        """Return which naming this batch asks for."""
        rest = (1 - self.curriculum.full_names) / (len(self.namings) - 1)
        shares = [self.curriculum.full_names, *[rest] * (len(self.namings) - 1)]
        return int(rng.choice(len(self.namings), p=shares))

    def shrink(self, labels_BHW: Tensor) -> Tensor:
        """Return every n-th label, for losses at `label_size`."""
        stride = max(1, labels_BHW.shape[-1] // self.curriculum.label_size)
        return labels_BHW[:, ::stride, ::stride]

    @torch.no_grad()
    def rank(self, features: Features, names: tuple[str, ...]) -> list[list[int]]:
        """Return the names by how close a cell of each image comes to them, closest first."""
        text_N1D = self.model.text_encoder(names, [0]).float()
        cosines_BN = cosine_scores(features.embedding_BDHW.float(), text_N1D).amax(dim=(2, 3, 4))
        return cosines_BN.argsort(dim=1, descending=True).tolist()

    def ask(
        self, rng: Generator, labels_BHW: Tensor, names: tuple[str, ...], ranking: list[list[int]]
    ) -> Pairs:
        """Choose the classes asked of each image."""
        count = min(int(rng.choice(self.curriculum.asked)), len(names))
        share = self.curriculum.likely_share
        asked = [
            choose_classes(rng, labels.unique().tolist(), names, count, likely, share)
            for labels, likely in zip(labels_BHW, ranking, strict=True)
        ]
        class_M = torch.tensor([index for classes in asked for index in classes])
        return Pairs(class_M.to(labels_BHW.device), tuple(len(classes) for classes in asked))


def choose_classes(
    rng: Generator,
    shown: Iterable[int],
    names: tuple[str, ...],
    count: int,
    likely: Sequence[int] = (),
    likely_share: float = 0.0,
) -> list[int]:
    """Return the classes that an image is asked for, ascending: what it shows, then others.

    Of the others a share is what the image is `likely` taken for; half of the rest share a word
    with something shown ("red ball" beside "red box"), so that the model has to look at both words.
    """
    present = [index for index in shown if index < len(names)]
    absent = [index for index in likely if index not in present]
    wanted = max(0, count - len(present))
    chosen = [*present, *absent[: int(likely_share * wanted)]]
    words = {word for index in present for word in names[index].split()}
    others = [index for index in rng.permutation(len(names)).tolist() if index not in chosen]
    related = [index for index in others if words & set(names[index].split())]
    chosen += related[: max(0, (count - len(chosen) + 1) // 2)]
    chosen += [index for index in others if index not in chosen][: max(0, count - len(chosen))]
    return sorted(chosen)
