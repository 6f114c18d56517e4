"""The drawn scenes as a dataset: nothing is stored, each row is drawn where it is needed."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import pyarrow as pa

from pipelines import scenes
from pipelines.datasets.dataset import Labelled, digest_of
from pipelines.masks import index_png, to_png
from pipelines.rows import PREPARED

SCENES: dict[str, scenes.Split] = {"scenes": "seen", "scenes-unseen": "unseen"}
"""Datasets that are drawn, and the split of the scenes that each of them is."""

DEFAULT_SCENES = 512
SCENES_PER_BLOCK = 16

TASK_CPUS = 0.5
"""Of a task that draws. (A number other than that of the actors that hold a model: Ray Data would
fuse drawing into them.)"""


def load_scenes(
    name: str, limit: int | None = None, seed: int = 0, shuffle: int | None = None
) -> Labelled:
    """Plan the rows of drawn scenes."""
    import ray.data
    from ray.data import RandomSeedConfig

    num_images = limit or DEFAULT_SCENES
    draw_table = cast("Callable", partial(draw_scenes, split=SCENES[name], seed=seed))
    blocks = math.ceil(num_images / SCENES_PER_BLOCK)
    numbers = ray.data.range(num_images, override_num_blocks=blocks)
    if shuffle is not None:
        again = RandomSeedConfig(shuffle, reseed_after_execution=True)
        numbers = numbers.random_shuffle(seed=again)
    rows = numbers.map_batches(
        draw_table, batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS
    )
    source = f"{name}?seed={seed}&images={num_images}"
    return Labelled(
        name=name,
        rows=rows,
        num_images=num_images,
        classes=scenes.vocabulary(),
        unseen=scenes.unseen_classes(),
        source=source,
        digest=digest_of(source),
    )


def draw_scenes(indices: pa.Table, *, split: scenes.Split, seed: int) -> pa.Table:
    """Draw the scenes of the numbers in column `id`."""
    rows = [scene_row(index, split=split, seed=seed) for index in indices["id"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=PREPARED)


def scene_row(index: int, *, split: scenes.Split, seed: int) -> dict[str, object]:
    """Draw one scene and return it as a row."""
    scene = scenes.draw(seed, index, split=split)
    height, width = scene.mask_HW.shape
    name = f"{split}-{seed}-{index:06d}"
    return {
        "image": {"bytes": to_png(scene.image_HW3), "path": f"{name}.png"},
        "mask": {
            "bytes": index_png(scene.mask_HW, len(scenes.vocabulary())),
            "path": f"{name}-mask.png",
        },
        "image_id": name,
        "width": width,
        "height": height,
    }
