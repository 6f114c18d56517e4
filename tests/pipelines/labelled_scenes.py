"""An output of `label` without a model: scenes with their own masks, some of them doubted."""

import hashlib
import io
import itertools

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines import masks, rows, scenes, shards
from pipelines.storage import Location, locate

STAMP = {
    "vocabulary_id": "sha256:" + "1" * 64,
    "model_id": "sha256:" + "2" * 64,
    "rejection": "topk:8",
    "run_id": "run",
}

RUN = {
    "run_id": "run",
    "identity": {"images": "photos", "min_confidence": 0.0} | STAMP,
    "configuration": {"model": "nano", "vocabulary": "scenes"},
    "images_per_second": 12.345,
    "started": "2030-01-01T10:00:00+00:00",
}


def write_output(folder, *, uri=None, num_images=12, classes=None, errors=(), per_shard=5, size=96):
    """Draw photos to folder/photos and write folder/output (or `uri`) as `label` would."""
    classes = classes or scenes.vocabulary()
    output = locate(uri or str(folder / "output"))
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    labelled = [label_row(folder / "photos", index, classes, size) for index in range(num_images)]
    failed = [
        {"image_uri": u, "error_type": t, "message": m, "run_id": "run"} for u, t, m in errors
    ]
    for shard, start in enumerate(range(0, max(num_images, 1), per_shard)):
        shards.write_shard(
            output,
            shard,
            pa.Table.from_pylist(
                labelled[start : start + per_shard], rows.with_metadata(rows.LABELS, classes)
            ),
            pa.Table.from_pylist(failed if shard == 0 else [], rows.ERRORS),
        )
    return output


def label_row(folder, index, classes, size):
    """Draw a scene, save its photo and return its row; later scenes are doubted more."""
    scene = scenes.draw(7, index, split="unseen" if index % 3 == 0 else "seen", size=size)
    # Not square, as photos are.
    image_HW3, labels_HW = scene.image_HW3[: 3 * size // 4], scene.mask_HW[: 3 * size // 4]
    path = folder / f"scene_{index:03d}.jpg"
    Image.fromarray(image_HW3).save(path, quality=90)
    labels_HW = labels_HW.astype(np.int32) % len(classes)
    noise_HW = np.random.default_rng(index).random((16, 16)) ** (0.1 + index / 10)
    confidence_HW = np.asarray(
        Image.fromarray(noise_HW.astype(np.float32)).resize(labels_HW.shape[::-1])
    ).clip(0, 1)
    labels_HW[confidence_HW < 0.05] = masks.ignore_value(len(classes))
    found = masks.segments(labels_HW, confidence_HW, classes)
    return {
        "image_uri": str(path),
        "image_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "width": image_HW3.shape[1],
        "height": image_HW3.shape[0],
        "mask": {"bytes": masks.index_png(labels_HW, len(classes)), "path": "mask.png"},
        "confidence": {"bytes": masks.confidence_png(noise_HW), "path": "confidence.png"},
        "segments": found,
        "ignored_fraction": float((labels_HW >= len(classes)).mean()),
        "mean_confidence": float(confidence_HW.mean()),
        "candidates": sorted({s["category_id"] for s in found} | set(range(index % 5)))
        if index % 4
        else list(range(len(classes))),
        **STAMP,
        "mean_margin": 0.5,
        "mean_entropy": 0.1,
        "rivals": [
            {"category_id": a["category_id"], "rival_id": b["category_id"], "area_fraction": 0.25}
            for a, b in itertools.pairwise(found)
        ],
    }


def read_rows(output: Location):
    """Return all rows of labels/."""
    tables = [
        pa.parquet.read_table(pa.BufferReader(output.at("labels", info.base_name).read()))
        for info in output.at("labels").files()
    ]
    return pa.concat_tables(tables).to_pylist()


def open_mask(row):
    """Return the label map of a row."""
    return np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
