from pathlib import Path

import numpy as np
import pytest

from pipelines.export import hugging_face
from tests.pipelines.export.corpora import (
    CLASSES,
    export_alone,
    many,
    masks_of,
    read_json,
    write_labels,
)

datasets = pytest.importorskip("datasets")


def load(out, cache):
    return datasets.load_dataset(str(out), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("classes", [CLASSES, many(300)])
def test_datasets_shows_photos_masks_and_class_names(tmp_path, classes):
    labels = write_labels(tmp_path, classes=classes)
    export_alone(labels, "huggingface", tmp_path / "out")
    found = load(tmp_path / "out", tmp_path / "cache")
    assert all(found.features[name] == datasets.Image() for name in found.column_names[:3])
    assert found.features["classes"].feature.names == classes
    ignore = 65535 if len(classes) > 255 else 255
    for example, (row, mask_HW) in zip(found, masks_of(labels, len(classes)), strict=True):
        assert example["image"].size == example["annotation"].size == (row["width"], row["height"])
        assert Path(example["image"].filename).name == Path(row["image_uri"]).name
        annotation_HW = np.asarray(example["annotation"])
        np.testing.assert_array_equal(annotation_HW, np.where(mask_HW < 0, ignore, mask_HW))
        shown = [found.features["classes"].feature.int2str(i) for i in example["classes"]]
        assert shown == [segment["category"] for segment in row["segments"]]
        assert example["image_uri"] == row["image_uri"]
        assert example["confidence"].size == (9, 6)
    names = read_json(tmp_path, "out", "id2label.json")
    assert [names[str(index)] for index in range(len(classes))] == classes


def test_large_corpora_get_files_of_many_images(tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face.HuggingFace, "images_per_piece", 4)
    monkeypatch.setattr(hugging_face, "ROWS_PER_GROUP", 2)
    labels = write_labels(tmp_path, per_shard=1)
    export_alone(labels, "huggingface", tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert files == ["part-00000.parquet", "part-00001.parquet"]
    found = load(tmp_path / "out", tmp_path / "cache")
    assert found["image_uri"][:] == [row["image_uri"] for row, _ in masks_of(labels)]


def test_the_card_says_where_the_labels_come_from(tmp_path):
    export_alone(write_labels(tmp_path), "huggingface", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.DatasetCard(card).data
    assert data.task_categories == ["image-segmentation"]
    assert "- model: `nano`" in card
    assert "index into the 4 classes, 255 = ignore" in card
