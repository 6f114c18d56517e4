"""Labelled images as a Dataset of rows, by name.

Rows out: `rows.PREPARED`.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from pipelines import scenes, shards
from pipelines.labelled import LabelOutput, labelled_rows, open_labels
from pipelines.masks import index_png, to_png
from pipelines.rows import PREPARED

if TYPE_CHECKING:
    from ray.data import Dataset

SCENES: dict[str, scenes.Split] = {"scenes": "seen", "scenes-unseen": "unseen"}
"""Datasets that are drawn, and the split of the scenes that each of them is."""

LATER = (
    "coco-stuff",
    "ade20k-150",
    "ade20k-847",
    "pascal-context-59",
    "pascal-context-459",
    "pascal-voc-20",
    "pascal-voc-20b",
    "folder",
)
"""Names that are reserved; this version cannot read them."""

LABELS = "labels"
"""What `label` wrote: labels=URI."""

DEFAULT_SCENES = 512
SCENES_PER_BLOCK = 16

TASK_CPUS = 0.5
"""Of a task that draws. (A number other than that of the actors that hold a model: Ray Data would
fuse drawing into them.)"""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with their masks, and what the mask values mean."""

    name: str
    """Its name on the command line."""

    rows: "Dataset"
    """Rows of `PREPARED`."""

    num_images: int
    """How many rows there are."""

    classes: list[str]
    """Class names, in the order of the mask values."""

    unseen: list[int]
    """Classes that no training image shows, where that is known."""

    source: str
    """Where the images come from."""

    digest: str
    """Says whether two datasets hold the same images."""

    asked: list[str]
    """Class names that the model is given."""


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return the name and the URI of NAME=URI, or of NAME alone.

    Raises:
        ValueError: The name is unknown, cannot be read by this version, or takes no URI.
    """
    name, equals, uri = spec.partition("=")
    supported = ", ".join((*SCENES, LABELS))
    if name in LATER:
        raise ValueError(
            f"reading the dataset {name!r} is not part of this version yet; it has: {supported}"
        )
    if name == LABELS:
        if not uri:
            raise ValueError(f"the dataset {name!r} needs the URI of a label output: {name}=URI")
        return name, uri
    if name not in SCENES:
        raise ValueError(f"unknown dataset {name!r}; this version has: {supported}")
    if equals:
        raise ValueError(f"the dataset {name!r} is drawn from a seed and takes no URI, got {uri!r}")
    return name, None


def check(name: str, uri: str | None) -> None:
    """Require that a dataset is there, without Ray.

    Raises:
        ValueError: It is not.
        OSError: It cannot be read.
    """
    if name == LABELS and uri is not None:
        open_labels(uri)


def load(name: str, uri: str | None = None, *, limit: int | None = None, seed: int = 0) -> Labelled:
    """Plan the rows of a dataset; nothing is read or drawn until they are consumed.

    Args:
        name: "scenes" (combinations that training shows, in fresh scenes), "scenes-unseen"
            (objects that training never shows) or "labels" (what `label` wrote).
        uri: Where it is; None for what is drawn.
        limit: At most this many images; default for drawn ones: 512.
        seed: Which endless series of scenes.

    Raises:
        ValueError: The name is unknown, or a number makes no sense.
    """
    name, _ = split_spec(name if uri is None else f"{name}={uri}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 image, got {limit}")
    if uri is not None:
        return load_labels(uri, limit)
    return load_scenes(name, limit, seed)


def load_labels(uri: str, limit: int | None) -> Labelled:
    """Plan the rows of an output of `label`."""
    output = open_labels(uri)
    rows = labelled_rows(output)
    return Labelled(
        name=LABELS,
        rows=rows if limit is None else rows.limit(limit),
        num_images=min(output.num_images, limit or output.num_images),
        classes=output.classes,
        unseen=[],
        source=output.place.uri,
        digest=labels_digest(output, limit),
        asked=output.classes,
    )


def labels_digest(output: LabelOutput, limit: int | None) -> str:
    """Return what says which images an output of `label` holds, and which labels."""
    kept = f"{output.run['fingerprint']}, {shards.list_digest(output.manifest)}, limit {limit}"
    return "sha256:" + hashlib.sha256(kept.encode()).hexdigest()


def load_scenes(name: str, limit: int | None, seed: int) -> Labelled:
    """Plan the rows of drawn scenes."""
    import ray.data

    num_images = limit or DEFAULT_SCENES
    draw_table = cast("Callable", partial(draw_scenes, split=SCENES[name], seed=seed))
    blocks = math.ceil(num_images / SCENES_PER_BLOCK)
    rows = ray.data.range(num_images, override_num_blocks=blocks).map_batches(
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
        digest="sha256:" + hashlib.sha256(source.encode()).hexdigest(),
        asked=scenes.vocabulary(),
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
