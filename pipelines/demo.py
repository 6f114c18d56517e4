"""A corpus whose labels are known: scenes drawn to image files, their masks kept aside.

FOLDER/demo.json   which scenes; says that this folder is a demo's
FOLDER/images/     photos, JPEG and PNG: what is labelled
FOLDER/masks/      index PNG of each photo: what is right
FOLDER/result/     what `label` writes
"""

import io
import json
import posixpath
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipelines import scenes, shards
from pipelines.masks import IGNORE_8_BIT, index_png
from pipelines.storage import Location
from sed.metrics import ConfusionMatrix

MARK = "demo.json"
SEED = 2024
"""A series of scenes that nobody trains on: training has seeds of its own."""

SPLITS: tuple[scenes.Split, scenes.Split] = ("seen", "unseen")
JPEG_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well the labels of one split match what was drawn, in percent."""

    images: int
    mean_iou: float
    """Over the drawn classes: all those of "seen", the never-trained ones of "unseen"."""

    pixel_accuracy: float


def draw_corpus(folder: Location, num_images: int) -> None:
    """Write the photos and masks that are not there yet, seen and unseen in turns.

    Raises:
        ValueError: The folder holds something else.
    """
    check_folder(folder, num_images)
    folder.at(MARK).write(mark(num_images))
    there = {info.base_name for info in folder.at("images").files()}
    for index in range(num_images):
        split = SPLITS[index % 2]
        name = f"{split}-{index // 2:03d}"
        photo = f"{name}.{'jpg' if index % 4 < 2 else 'png'}"
        if photo in there:
            continue
        scene = scenes.draw(SEED, index // 2, split=split)
        mask = index_png(scene.mask_HW, len(scenes.vocabulary()))
        folder.at("masks", f"{name}.png").write(mask)
        folder.at("images", photo).write(encode(scene.image_HW3, photo))


def check_folder(folder: Location, num_images: int) -> None:
    """Require that the folder is new, or holds this very demo.

    Raises:
        ValueError: It holds something else; the message says what to do.
    """
    if num_images < 1:
        raise ValueError(f"--images is at least 1, got {num_images}")
    place = folder.at(MARK)
    if place.exists():
        if place.read() != mark(num_images):
            raise ValueError(f"{folder.uri} holds another demo: use another --output")
    elif folder.files(recursive=True):
        raise ValueError(f"{folder.uri} is not empty and holds no demo: use another --output")


def mark(num_images: int) -> bytes:
    """Return what demo.json says."""
    return json.dumps({"demo": "scenes", "images": num_images, "seed": SEED}).encode() + b"\n"


def encode(image_HW3: np.ndarray, name: str) -> bytes:
    """Return an image file; the name's ending says of which kind."""
    buffer = io.BytesIO()
    kind = "JPEG" if name.endswith(".jpg") else "PNG"
    Image.fromarray(image_HW3).save(buffer, kind, quality=JPEG_QUALITY)
    return buffer.getvalue()


def score(folder: Location, result: Location) -> dict[str, Score]:
    """Compare labels with the masks, a split at a time.

    Returns:
        A score for each split that has an image.
    """
    matrices = {str(split): ConfusionMatrix(len(scenes.vocabulary())) for split in SPLITS}
    images: Counter[str] = Counter()
    for info in result.at(shards.LABELS).files():
        with result.fs.open_input_file(info.path) as source:
            table = pq.read_table(source, columns=["image_uri", "mask"])
        for row in table.to_pylist():
            name = posixpath.basename(row["image_uri"]).rpartition(".")[0]
            split = name.partition("-")[0]
            truth_HW = open_png(folder.at("masks", f"{name}.png").read())
            labels_HW = open_png(row["mask"]["bytes"])
            matrices[split].update(labels_HW, truth_HW, ignore=IGNORE_8_BIT)
            images[split] += 1
    classes = {"seen": None, "unseen": scenes.unseen_classes()}
    return {
        split: Score(
            images=images[split],
            mean_iou=matrices[split].metrics(classes[split]).mean_iou,
            pixel_accuracy=matrices[split].metrics().pixel_accuracy,
        )
        for split in SPLITS
        if images[split]
    }


def open_png(data: bytes) -> np.ndarray:
    """Return the values of an index PNG, labels_HW."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
