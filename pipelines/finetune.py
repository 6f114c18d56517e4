"""Train a model on images with masks by the published recipe (section 4.1 of the SED paper).

Ray Data reads, decodes and resizes on CPU tasks and splits the rows over the workers; each worker
crops and flips.

Shapes: B images, N classes, H W pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import ray.train
import torch
from torch import Tensor, nn

from pipelines.evaluate import decode_image, decode_mask
from pipelines.labelled import LabelOutput, labelled_rows
from pipelines.masks import ignore_value
from pipelines.objective import Objective
from pipelines.train import TrainConfig
from sed import SED, load_model
from sed.decoder import Pairs
from sed.loss import level_losses
from sed.resize import resize_shortest_edge

PADDING = 128
"""Value of the pixels beside an image that is smaller than the crop."""

NO_CLASS = -1
"""Label of pixels without a class: negatives for every class, as the published models train."""

SHUFFLED = 64
"""Rows that a worker draws its next one from."""

TASK_CPUS = 0.5


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

    warmup_steps: int = 0
    """None."""

    weight_decay: float = 1e-4
    """Weight decay of everything but normalisation layers."""

    clip_norm: float = 0.01
    """Global norm to which gradients are clipped."""

    text_steps: int = 0
    """None: the class names are known."""

    crop_size: int = 768
    """Side of the square that is cropped from each image, in pixels."""

    max_asked: int = 171
    """Classes asked of an image at most: those it shows, and others."""

    def build_model(self) -> SED:
        """Return the model of a checkpoint; "nano" is the bundled one."""
        model = load_model(self.model).requires_grad_(True)
        model.text_encoder.requires_grad_(False)
        return model

    def build_objective(self, model: SED) -> "LabelledObjective":
        """Return the losses to train."""
        return LabelledObjective(model, self)

    def build_optimizer(self, objective: Objective) -> torch.optim.AdamW:
        """Return AdamW in the published groups."""
        return build_optimizer(objective, self)

    def batches(self, first_step: int, rank: int, world_size: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield this worker's share of each batch, epoch after epoch.

        A training that continues begins a new epoch: it may show an image twice.
        """
        share, step = self.batch_size // world_size, first_step
        shard = ray.train.get_dataset_shard("train")
        assert shard is not None, "the trainer was given rows"
        while step < self.max_steps:
            before = step
            tables: Iterable[Any] = shard.iter_batches(
                batch_size=share,
                batch_format="pyarrow",
                drop_last=True,
                local_shuffle_buffer_size=SHUFFLED,
                local_shuffle_seed=self.seed + step,
            )
            for table in tables:
                rng = np.random.default_rng([self.seed, step, rank])
                yield self.collate(table.to_pylist(), rng)
                step += 1
                if step == self.max_steps:
                    return
            if step == before:
                raise ValueError(f"{self.dataset} has fewer images than one batch of {share}")

    def collate(self, rows: list[dict[str, Any]], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Return images_BHW3 (uint8) and labels_BHW, cropped and flipped at random."""
        size = self.crop_size
        pairs = [augment(*unpack(row), size, rng) for row in rows]
        images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
        return images, labels

    def settle(self, model: SED) -> None:
        """Leave batch norms as they are: they were not trained."""


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

    def forward(self, images_BHW3: Tensor, labels_BHW: Tensor, step: int) -> dict[str, Tensor]:
        """Return the losses to sum.

        Args:
            images_BHW3: uint8.
            labels_BHW: Index of the class of each pixel, `NO_CLASS` for none.
            step: Number of the training step; seeds what is asked.
        """
        images_B3HW = images_BHW3.permute(0, 3, 1, 2).float() / 255
        features = self.model.image_encoder(images_B3HW)
        class_K = self.ask(labels_BHW, step)
        text_NPD = self.get_buffer("text_NPD")[class_K]
        labels_BHW = translate(labels_BHW, class_K)
        pairs = Pairs.all(len(images_BHW3), len(class_K), images_BHW3.device)
        levels_MHW = self.model.levels(features, text_NPD, pairs)
        return level_losses(levels_MHW, labels_BHW, pairs.image_M, pairs.class_M)

    def ask(self, labels_BHW: Tensor, step: int) -> Tensor:
        """Return the classes that a batch is asked for, ascending: all, or those shown and more."""
        num_classes = len(self.get_buffer("text_NPD"))
        if num_classes <= self.max_asked:
            return torch.arange(num_classes, device=labels_BHW.device)
        shown = {index for index in labels_BHW.unique().tolist() if index >= 0}
        order = np.random.default_rng([self.seed, step]).permutation(num_classes).tolist()
        others = [index for index in order if index not in shown]
        chosen = [*shown, *others[: max(0, self.max_asked - len(shown))]]
        return torch.tensor(sorted(chosen), device=labels_BHW.device)


def translate(labels_BHW: Tensor, class_K: Tensor) -> Tensor:
    """Return labels that index `class_K`; `NO_CLASS` stays, and every shown class is among them."""
    place = torch.searchsorted(class_K, labels_BHW.clamp(min=0))
    return place.where(labels_BHW >= 0, NO_CLASS)


def build_optimizer(objective: Objective, config: FinetuneConfig) -> torch.optim.AdamW:
    """Return AdamW: the image encoder learns slowly, normalisation layers have no decay."""
    groups = []
    for name, module in objective.named_modules():
        share = config.encoder_rate if "image_encoder" in name else 1.0
        decay = 0.0 if is_norm(module, name) else config.weight_decay
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if own:
            groups.append({"params": own, "share": share, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.999))


def is_norm(module: nn.Module, name: str) -> bool:
    """Say whether a layer has no weight decay; that of the decoder's spatial mix has some."""
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    return isinstance(module, kinds) and not name.endswith("space.norm")


def training_rows(output: LabelOutput, size: int, seed: int) -> "ray.data.Dataset":
    """Plan the rows of an output of `label`, decoded and resized, in another order each epoch."""
    read = Resize(size, ignore_value(len(output.classes)))
    return labelled_rows(output, seed=seed).map_batches(
        read, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS
    )


RESIZED = pa.schema(
    [
        pa.field("pixels", pa.large_binary()),
        pa.field("labels", pa.large_binary()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
    ]
)
"""An image (uint8 RGB) and its labels (int32, `NO_CLASS` for none), of one size."""


@dataclass(frozen=True)
class Resize:
    """Decode rows of `rows.PREPARED` and resize them."""

    size: int
    """Wanted length of the shorter side, in pixels."""

    ignore: int
    """Mask value without a class."""

    long_side: int = 2666
    """Bound of the longer side, in pixels."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `RESIZED` for each image."""
        return pa.Table.from_pylist([self.resize(row) for row in batch.to_pylist()], RESIZED)

    def resize(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return one image with its labels, the labels by their nearest neighbour."""
        photo = decode_image(row["image"]["bytes"])
        small = resize_shortest_edge(photo, self.size, self.long_side)
        mask_HW = decode_mask(row["mask"]["bytes"])
        labels_HW = nearest(mask_HW.astype(np.int32), small.height, small.width)
        labels_HW[labels_HW == self.ignore] = NO_CLASS
        return {
            "pixels": np.asarray(small).tobytes(),
            "labels": labels_HW.tobytes(),
            "height": small.height,
            "width": small.width,
        }


def nearest(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask: pixel i of the result is pixel floor(i * old / new), as torch's "nearest"."""
    rows = np.arange(height) * mask_HW.shape[0] // height
    columns = np.arange(width) * mask_HW.shape[1] // width
    return mask_HW[rows[:, None], columns[None, :]]


def unpack(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return image_HW3 and labels_HW of a row of `RESIZED`."""
    shape = (row["height"], row["width"])
    image_HW3 = np.frombuffer(row["pixels"], np.uint8).reshape(*shape, 3)
    return image_HW3, np.frombuffer(row["labels"], np.int32).reshape(shape)


def augment(
    image_HW3: np.ndarray, labels_HW: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random square of an image, or all of it with padding right and below; maybe flipped.

    Args:
        image_HW3: uint8.
        labels_HW: `NO_CLASS` for none.
        size: Side of the square, in pixels.
        rng: Decides.
    """
    height, width = labels_HW.shape
    top = int(rng.integers(max(0, height - size) + 1))
    left = int(rng.integers(max(0, width - size) + 1))
    image_HW3 = image_HW3[top : top + size, left : left + size]
    labels_HW = labels_HW[top : top + size, left : left + size]
    if rng.random() < 0.5:
        image_HW3, labels_HW = image_HW3[:, ::-1], labels_HW[:, ::-1]
    below, right = size - labels_HW.shape[0], size - labels_HW.shape[1]
    image_HW3 = np.pad(image_HW3, ((0, below), (0, right), (0, 0)), constant_values=PADDING)
    labels_HW = np.pad(labels_HW, ((0, below), (0, right)), constant_values=NO_CLASS)
    return image_HW3, labels_HW.astype(np.int64)
