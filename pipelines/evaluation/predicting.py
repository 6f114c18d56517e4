"""Middle step of an evaluation: an actor that holds the model.

Rows: `READ` in, `PREDICTED` out, in the same order. A row with an error passes through.

Shapes: B images, K surviving classes of an image, H W pixels, P prompts, D embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipelines import labeller
from pipelines.decoding import failure
from pipelines.evaluation.rows import PREDICTED
from pipelines.out_of_memory import is_out_of_memory
from sed import ClassScores, Rejection
from sed.metrics import background_rule
from sed.resize import to_model_input

Prediction = tuple[bytes, int]
"""A label map as uint16, and how many classes survived."""


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


class Predictor:
    """Hold one model on one device and label batches of images under every rejection."""

    def __init__(
        self,
        *,
        load_model: LoadModel,
        load_text: Callable[[], np.ndarray],
        num_classes: int,
        rejections: Sequence[str],
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        labeller.use_threads(threads)
        self.device = device
        self.model = load_model(device)
        self.text_NPD = torch.tensor(load_text(), device=device)
        self.num_classes = num_classes
        self.rejections = [Rejection.parse(text) for text in rejections]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `PREDICTED` for each row."""
        rows = batch.to_pylist()
        sound = [row for row in rows if row["error_type"] is None]
        found = iter(self.predict(sound) if sound else [])
        predicted = [row if row["error_type"] else row | next(found) for row in rows]
        return pa.Table.from_pylist(predicted, schema=PREDICTED)

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Label images together; where memory does not suffice, each alone."""
        try:
            return self.run(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                return [failure("OutOfMemory", error)]
        return [self.predict([row])[0] for row in rows]

    @torch.inference_mode()
    def run(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the labels of images under each rejection; the encoder runs once."""
        features = self.model.encode(torch.stack([self.to_input(row) for row in rows]))
        found: list[list[Prediction]] = [[] for _ in rows]
        for rejection in self.rejections:
            scores = self.model.decode(features, self.text_NPD, rejection)
            for own, row, one in zip(found, rows, scores, strict=True):
                own.append((self.label(row, one).tobytes(), len(one.candidates_K)))
        return [{"labels": [a for a, _ in one], "candidates": [b for _, b in one]} for one in found]

    def to_input(self, row: dict[str, Any]) -> Tensor:
        """Return a photo as the published evaluation feeds it, image_3HW."""
        shape = (row["pixels_height"], row["pixels_width"], 3)
        pixels_HW3 = np.frombuffer(row["pixels"], dtype=np.uint8).reshape(shape)
        return to_model_input(pixels_HW3, self.model.config.image_size, self.device)

    def label(self, row: dict[str, Any], scores: ClassScores) -> np.ndarray:
        """Return the label map of one image at its mask's size, labels_HW.

        A class that was dropped has probability 0 everywhere. So where all were, the first of all
        classes wins, as in the published evaluation; and classes that are asked for beyond those
        of the masks are the last of these, the background.
        """
        height, width = row["height"], row["width"]
        if not len(scores.candidates_K):
            return np.zeros((height, width), np.uint16)
        labels, _ = scores.label_map(height, width)
        labels_HW = labels.cpu().numpy().astype(np.uint16)
        return background_rule(labels_HW, num_kept=self.num_classes - 1)
