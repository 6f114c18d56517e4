"""The published recipe on a tiny dataset."""

import numpy as np
import pyarrow as pa

from pipelines.augment import Augmentation
from pipelines.finetune import FinetuneConfig
from pipelines.ingest import Ingest, MakeExamples, ReadSamples
from pipelines.sampling import Sharing
from tests.drawn_pieces import CLASSES, SIZE, DrawnPieces


def make_config(**changes):
    """The published recipe, for a few steps."""
    values = {
        "model": "nano",
        "dataset": "folder=x",
        "data_digest": "d",
        "classes": CLASSES,
        "augmentation": Augmentation(short_sides=(SIZE,), crop_size=SIZE),
        "precision": "fp32",
        "max_steps": 6,
        "batch_size": 4,
    }
    return FinetuneConfig(**{**values, **changes})


def make_ingest(config, pieces=None):
    """What is streamed to the workers."""
    return Ingest(
        pieces=pieces or DrawnPieces(),
        augmentation=config.augmentation,
        num_classes=len(config.classes),
        seed=config.seed,
        batch_size=config.batch_size,
        max_steps=config.max_steps,
    )


class Stream:
    """The rows of one worker without Ray: the same functions, called one after the other."""

    def __init__(self, ingest, first_step=0, rank=0, world_size=1):
        self.ingest, self.first_step, self.rank = ingest, first_step, rank
        self.sharing = Sharing(ingest.batch_size, world_size)

    def iter_batches(self, batch_size, **_):
        ingest, share = self.ingest, self.sharing.share
        assert batch_size == share
        make = MakeExamples(ingest.augmentation, ingest.num_classes, ingest.seed)
        read = ReadSamples(ingest.pieces, ingest.order, self.sharing)
        for step in range(self.first_step, ingest.max_steps):
            stretch = pa.table({"first": [step], "last": [step + 1]})
            table = make(read(stretch))
            yield table.slice(self.rank * share, share)


def steps_of(config, first_step=0, rank=0, world_size=1, pieces=None):
    """The batches of one worker, step by step."""
    stream = Stream(make_ingest(config, pieces), first_step, rank, world_size)
    return config.batches(first_step, rank, world_size, stream)


def pixels_by_number(batches):
    """The pixels of every sample, by its number."""
    found = {}
    for parts in batches:
        for batch in parts:
            for number, image in zip(batch.numbers, batch.images_BHW3, strict=True):
                found[number] = np.asarray(image).tobytes()
    return found
