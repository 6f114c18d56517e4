"""Small outputs of `label` to export, their masks drawn at random, and what exports hold."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines import masks, outputs, rows, shards
from pipelines.export import export, make_plan
from pipelines.storage import locate
from tests.pipelines.labelled_scenes import RUN, STAMP, open_mask, read_rows

CLASSES = ["sky", "traffic light", 'door, "double" door', "läufer <&> 人"]
NAMES = ["a/x.jpg", "b/x.jpg", "x.jpg", "x.png", "no ending", "b/y.z.jpg", "b/Y.z.jpg", "7.jpg"]


def write_labels(
    folder, *, names=NAMES, classes=CLASSES, per_shard=3, uri=None, status="done", images=None
):
    """Write photos to folder/photos and what `label` would write to folder/labels (or `uri`)."""
    photos = Path(folder, "photos")
    output = locate(uri or str(Path(folder, "labels")))
    labelled = [label_row(photos / name, index, classes) for index, name in enumerate(names)]
    schema = rows.with_metadata(rows.LABELS, classes)
    for shard, start in enumerate(range(0, len(names), per_shard)):
        part = pa.Table.from_pylist(labelled[start : start + per_shard], schema)
        shards.write_shard(output, shard, part, rows.ERRORS.empty_table())
    # A shard of images that could not be read.
    shards.write_shard(output, 900, schema.empty_table(), rows.ERRORS.empty_table())
    identity = RUN["identity"] | {"images": images or str(photos)}
    outputs.write_run(output, RUN | {"identity": identity, "status": status})
    return output


def label_row(path, index, classes):
    """Write a photo and return the row of its labels: blocks, thin lines, and pixels of none."""
    numbers = np.random.default_rng(index)
    height, width = 24 + index, 40 - index
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))
    photo.save(path, format="PNG" if path.suffix == ".png" else "JPEG")
    shown = numbers.permutation(len(classes))[: 5 if index else 1]
    labels_HW = numbers.choice(shown, (height // 6 + 1, width // 6 + 1)).repeat(6, 0).repeat(6, 1)
    labels_HW = labels_HW[:height, :width].astype(np.int32)
    labels_HW[height // 2, ::2] = len(classes) - 1
    if index % 2:
        labels_HW[:5, -9:] = masks.ignore_value(len(classes))
    if index == 4:
        labels_HW[:] = masks.ignore_value(len(classes))
    confidence_HW = numbers.random((height, width), dtype=np.float32)
    return {
        "image_uri": str(path),
        "image_sha256": f"{index:064x}",
        "width": width,
        "height": height,
        "mask": {"bytes": masks.index_png(labels_HW, len(classes)), "path": "mask.png"},
        "confidence": {"bytes": masks.confidence_png(confidence_HW[:6, :9]), "path": "c.png"},
        "segments": masks.segments(labels_HW, confidence_HW, classes),
        "ignored_fraction": float((labels_HW >= len(classes)).mean()),
        "mean_confidence": float(confidence_HW.mean()),
        "candidates": list(range(len(classes))),
        **STAMP,
    }


def many(count):
    """So many classes."""
    return [f"class {index}" for index in range(count)]


def never():
    raise AssertionError("no cluster is needed")


def export_alone(labels, kind, output):
    """Export without a cluster; return what export.json says."""
    return export(make_plan(labels.uri, kind, str(output)), connect=never, alone=10**9)


def masks_of(labels, num_classes=4):
    """Return the row of each image, and its class indices, with -1 where there is no class."""
    found = []
    for row in read_rows(labels):
        mask_HW = open_mask(row).astype(np.int64)
        mask_HW[mask_HW == masks.ignore_value(num_classes)] = -1
        found.append((row, mask_HW))
    return found


def read_json(*path):
    return json.loads(Path(*path).read_text(encoding="utf-8"))


def read_png(*path):
    with Image.open(Path(*path)) as image:
        return np.asarray(image)


def open_png(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def tree(folder):
    """Every file under a folder with its bytes."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
