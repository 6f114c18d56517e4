"""Predictions against masks: confusion matrices, summed over the cluster.

Rows in:  image struct<bytes, path>, mask struct<bytes, path>
Rows out: `COUNTS`: rejection, images, candidates, counts; one row for each batch and rejection
"""

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import ray
import torch
from PIL import Image
from ray.data import ActorPoolStrategy
from torch import Tensor

from pipelines import labeller
from pipelines.cluster import Pool, embed_once
from pipelines.datasets import Labelled
from pipelines.masks import ignore_value
from pipelines.results import Result
from sed import ClassScores, Rejection
from sed.metrics import ConfusionMatrix
from sed.photo import to_rgb, upright
from sed.resize import resize_shortest_edge, to_model_input
from sed.upsample import label_map

COUNTS = pa.schema(
    [
        pa.field("rejection", pa.string()),
        pa.field("images", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("counts", pa.large_binary()),
    ]
)
"""One batch under one rejection: images, surviving classes summed over them, int64 counts."""


class Model(labeller.Model, Protocol):
    """What evaluation needs of a `sed.SED`: its two halves, so that images are encoded once."""

    def encode(self, images_B3HW: Tensor) -> Any:  # noqa: ANN401  whatever `decode` takes
        """Return features that depend on the images only."""
        ...

    def decode(
        self,
        features: Any,  # noqa: ANN401
        text_NPD: Tensor,
        rejection: Rejection | None = None,
    ) -> list[ClassScores]:
        """Return the surviving classes of each image and their logits."""
        ...


LoadModel = Callable[[str], Model]
"""Loads a model onto the device of that name."""


class Evaluator:
    """Hold one model on one device and count what it gets right."""

    def __init__(
        self,
        *,
        load_model: LoadModel,
        load_text: Callable[[], np.ndarray],
        rejections: Sequence[str],
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        labeller.use_threads(threads)
        self.model = load_model(device)
        self.text_NPD = torch.tensor(load_text(), device=device)
        self.rejections = {text: Rejection.parse(text) for text in rejections}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the counts of a batch, one row of `COUNTS` for each rejection."""
        images = [decode_image(file["bytes"]) for file in batch["image"].to_pylist()]
        masks = [decode_mask(file["bytes"]) for file in batch["mask"].to_pylist()]
        features = self.model.encode(torch.stack([self.to_input(image) for image in images]))
        rows = []
        for text, rejection in self.rejections.items():
            scores = self.model.decode(features, self.text_NPD, rejection)
            row = {
                "rejection": text,
                "images": len(masks),
                "candidates": sum(len(one.candidates_K) for one in scores),
                "counts": self.count(scores, masks).counts.tobytes(),
            }
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=COUNTS)

    def to_input(self, image: Image.Image) -> Tensor:
        """Return a photo as the published evaluation feeds it, image_3HW."""
        config = self.model.config
        small = resize_shortest_edge(image, config.short_side, config.long_side)
        return to_model_input(np.array(small), config.image_size)

    def count(self, scores: Sequence[ClassScores], masks: Sequence[np.ndarray]) -> ConfusionMatrix:
        """Compare the labels of each image with its mask, at the mask's size."""
        matrix = ConfusionMatrix(len(self.text_NPD))
        ignore = ignore_value(matrix.num_classes)
        for one, mask_HW in zip(scores, masks, strict=True):
            height, width = mask_HW.shape
            labels_HW, _ = label_map(one.logits_KHW, one.candidates_K, height=height, width=width)
            matrix.update(labels_HW.cpu().numpy(), mask_HW, ignore=ignore)
        return matrix


def decode_image(data: bytes) -> Image.Image:
    """Return a photo as RGB and upright, at its own size."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # what is RGB and upright already is returned as it is
        return to_rgb(upright(image))


def decode_mask(data: bytes) -> np.ndarray:
    """Return the class index of each pixel, mask_HW."""
    with Image.open(io.BytesIO(data)) as mask:
        return np.array(mask)


def evaluate(
    data: Labelled,
    *,
    load_model: LoadModel,
    rejections: Sequence[str],
    pool: Pool,
    batch_size: int,
) -> list[Result]:
    """Run a model over every image of a dataset once and compare with the masks.

    Args:
        data: Images and masks.
        load_model: Called in each worker.
        rejections: Each is evaluated; the encoder runs once for all of them.
        pool: Copies of the model.
        batch_size: Images that go through the model together.

    Returns:
        One result for each rejection, in their order.
    """
    text = embed_once(load_model, data.classes, pool)
    data.rows.context.enable_progress_bars = sys.stdout.isatty()
    batches = data.rows.map_batches(
        cast("Any", Evaluator),
        fn_constructor_kwargs={
            "load_model": load_model,
            "load_text": partial(ray.get, text),
            "rejections": list(rejections),
            "device": pool.device,
            "threads": pool.threads,
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.size),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    results = {rejection: Result.empty(data, rejection) for rejection in rejections}
    for row in batches.iter_rows():
        results[row["rejection"]] = results[row["rejection"]].plus(row)
    for result in results.values():
        assert result.images == data.num_images, "Ray Data hands out every row exactly once"
    return list(results.values())
