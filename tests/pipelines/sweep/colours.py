"""A sweep that takes no time: photos of two colours, and a model that knows colours."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipelines.datasets import Labelled
from pipelines.masks import index_png
from pipelines.rows import PREPARED
from pipelines.sweep.plan import SweepConfig, make_plan
from pipelines.sweep.question import make_question
from sed.features import Essence
from tests.fakes import COLOURS, ColourModel, encoded, halves

NAMES = list(COLOURS)


class Colours(ColourModel):
    """Knows colours; asks a rejection once, before its first level."""

    def encode(self, images_B3HW):
        return torch.nn.functional.avg_pool2d(images_B3HW, 4)

    def condense(self, small_B3HW):
        return Essence(small_B3HW[:, :, :1, :1], (small_B3HW,) * 3)

    def decode(self, essence, text_NPD, rejection=None):
        return [self.score_one(one, text_NPD, rejection) for one in essence.guidance[2]]


def load_colours(device):
    return Colours(device)


@dataclass(frozen=True)
class Failing:
    """Loads a model that cannot decode under one policy while a file is there."""

    policy: str
    file: str

    def __call__(self, device):
        return FailingColours(self)


class FailingColours(Colours):
    """Fails under one policy."""

    def __init__(self, failing):
        super().__init__()
        self.failing = failing

    def decode(self, essence, text_NPD, rejection=None):
        policy = str(rejection.policies[0].rejection) if rejection else "none"
        if policy == self.failing.policy and Path(self.failing.file).exists():
            raise RuntimeError("no such colour")
        return super().decode(essence, text_NPD, rejection)


@dataclass(frozen=True)
class Counting:
    """Loads a model that writes down how many images it encodes."""

    log: str

    def __call__(self, device):
        return CountingColours(self.log)


class CountingColours(Colours):
    """Writes a line for each batch that it encodes."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def encode(self, images_B3HW):
        with Path(self.file).open("a") as file:
            file.write(f"{len(images_B3HW)}\n")
        return super().encode(images_B3HW)


class Slow(Colours):
    """Takes its time, and remembers with how many threads it did."""

    def __init__(self, encoder_seconds, decoder_seconds):
        super().__init__()
        self.seconds = {"encoder": encoder_seconds, "decoder": decoder_seconds}
        self.threads = {"encoder": set(), "decoder": set()}

    def spend(self, part):
        time.sleep(self.seconds[part])
        self.threads[part].add(torch.get_num_threads())

    def encode(self, images_B3HW):
        self.spend("encoder")
        return super().encode(images_B3HW)

    def decode(self, essence, text_NPD, rejection=None):
        self.spend("decoder")
        return super().decode(essence, text_NPD, rejection)


class Hungry(Colours):
    """Holds memory from the start, takes some for ever at its first call, and more for a while."""

    def __init__(self, held, kept, taken):
        super().__init__()
        self.held = [np.ones(held, np.uint8)]
        self.kept, self.taken = kept, taken

    def decode(self, essence, text_NPD, rejection=None):
        if len(self.held) == 1:
            self.held.append(np.ones(self.kept, np.uint8))
        for_a_while = np.ones(self.taken, np.uint8)
        found = super().decode(essence, text_NPD, rejection)
        del for_a_while
        return found


def photos(count):
    """Rows of `PREPARED`: photos of two colours each, and masks that say so."""
    pairs = [(left, right) for left in NAMES for right in NAMES if left != right]
    rows = []
    for index in range(count):
        left, right = pairs[index % len(pairs)]
        mask_HW = np.full((30, 40), NAMES.index(left), np.uint8)
        mask_HW[:, 20:] = NAMES.index(right)
        rows.append(
            {
                "image": {"bytes": encoded(halves(left, right)), "path": "a.png"},
                "mask": {"bytes": index_png(mask_HW, len(NAMES)), "path": "b.png"},
                "image_id": f"photo-{index:03d}",
                "width": 40,
                "height": 30,
            }
        )
    return rows


def photo_set(ray, count):
    """A dataset of such photos."""
    table = pa.Table.from_pylist(photos(count), schema=PREPARED)
    return Labelled(
        name="folder", rows=ray.data.from_arrow(table), num_images=count, classes=NAMES,
        unseen=[], source="colours", digest="sha256:colours",
    )  # fmt: skip


def colour_plan(ray, output, *, images, **config):
    """The plan of a sweep over such photos."""
    data = photo_set(ray, images)
    settings = SweepConfig(output=str(output), concurrency=1, **config)
    return make_plan(settings, data, make_question(data), "sha256:model")
