"""A model that needs no weights, rows for it, and the steps of an evaluation without Ray."""

import numpy as np
import pyarrow as pa
import torch

import sed
from pipelines.datasets import Labelled
from pipelines.evaluation.counting import Count
from pipelines.evaluation.predicting import Predictor
from pipelines.evaluation.reading import Read
from pipelines.masks import index_png, to_png
from pipelines.results import Result
from pipelines.rows import PREPARED
from sed.config import nano


class ByGrey:
    """The brighter a cell, the higher the class."""

    config = nano()

    def embed_classes(self, classes):
        return torch.zeros(len(classes), 1, 1)

    def encode(self, images_B3HW):
        return images_B3HW.mean(dim=1)[:, 2::4, 2::4]

    def decode(self, features, text_NPD, rejection=None):
        centres_N = torch.linspace(0, 1, len(text_NPD))
        kept_K = torch.arange(len(text_NPD))
        if str(rejection) != "none":
            kept_K = kept_K[::50]
        return [
            sed.ClassScores(-(grey_HW - centres_N[kept_K, None, None]).abs() * 20, kept_K)
            for grey_HW in features
        ]

    def score(self, images_B3HW, text_NPD, rejection=None):
        return self.decode(self.encode(images_B3HW), text_NPD, rejection)


def load_by_grey(device):
    return ByGrey()


def row(image_HW3, mask_HW, num_classes, image_id="a"):
    """A row of a dataset with masks."""
    return {
        "image": {"bytes": to_png(image_HW3), "path": "a.png"},
        "mask": {"bytes": index_png(mask_HW, num_classes), "path": "b.png"},
        "image_id": image_id,
        "width": mask_HW.shape[1],
        "height": mask_HW.shape[0],
    }


def halves(height=60, width=100):
    """Black left, white right, and a mask that says so."""
    image_HW3 = np.zeros((height, width, 3), np.uint8)
    image_HW3[:, width // 2 :] = 255
    return image_HW3, (image_HW3[:, :, 0] > 0).astype(np.uint8)


def labelled(classes, num_images=1, **changes):
    """A dataset of these classes."""
    values = {"name": "scenes", "rows": None, "unseen": [], "source": "", "digest": ""}
    values |= {"classes": classes, "asked": classes, "num_images": num_images}
    return Labelled(**values | changes)


def read_all(rows, num_classes):
    """The rows of READ."""
    step = Read(short_side=256, long_side=1024, num_classes=num_classes)
    return step(pa.Table.from_pylist(rows, schema=PREPARED))


def predict_all(rows, num_classes, rejections, num_asked=None, load_model=load_by_grey):
    """The rows of PREDICTED."""

    def load_text():
        return np.zeros((num_asked or num_classes, 1, 1), np.float32)

    predictor = Predictor(
        load_model=load_model, load_text=load_text, num_classes=num_classes, rejections=rejections
    )
    return predictor(read_all(rows, num_classes))


def evaluate_rows(rows, num_classes, rejection="none", num_asked=None):
    """The result of rows that went through all steps in one batch."""
    count = Count(rejections=[rejection], num_classes=num_classes)
    (counts,) = count(predict_all(rows, num_classes, [rejection], num_asked)).to_pylist()
    names = [f"class {index}" for index in range(num_classes)]
    result = Result.empty(labelled(names, len(rows)), rejection)
    result.add(counts)
    result.finish()
    return result
