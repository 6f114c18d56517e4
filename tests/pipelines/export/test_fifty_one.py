"""The format on disk, field by field; and FiftyOne itself, where it and its database are there."""

import os

import numpy as np
import pytest

from pipelines.export.fifty_one import sample
from tests.pipelines.export.corpora import (
    CLASSES,
    export_alone,
    many,
    masks_of,
    read_json,
    read_png,
    write_labels,
)


@pytest.mark.parametrize("classes", [CLASSES, many(300)])
def test_samples_and_masks_are_as_fiftyone_writes_them(tmp_path, classes):
    labels = write_labels(tmp_path, classes=classes)
    export_alone(labels, "fiftyone", tmp_path / "out")
    metadata = read_json(tmp_path, "out", "metadata.json")
    targets = metadata["mask_targets"]["prediction"]
    assert [targets[str(index + 1)] for index in range(len(classes))] == classes
    samples = read_json(tmp_path, "out", "samples.json")["samples"]
    fields = {field["db_field"] for field in metadata["sample_fields"]}
    assert len({found["_id"]["$oid"] for found in samples}) == len(samples)
    for found, (row, mask_HW) in zip(samples, masks_of(labels, len(classes)), strict=True):
        assert set(found) <= fields
        assert found["filepath"] == row["image_uri"]
        # Paths of a field are relative, and made absolute if fields/FIELD is there.
        assert found["prediction"]["mask_path"].startswith("fields/prediction/")
        mask_path, map_path = found["prediction"]["mask_path"], found["confidence"]["map_path"]
        np.testing.assert_array_equal(read_png(tmp_path, "out", mask_path), mask_HW + 1)
        assert (tmp_path / "out" / map_path).read_bytes() == row["confidence"]["bytes"]
        assert found["classes"] == [segment["category"] for segment in row["segments"]]


def test_a_photo_in_a_bucket_is_expected_beside_the_masks(tmp_path):
    row = masks_of(write_labels(tmp_path))[0][0]

    class Image:
        uri, name = "s3://bucket/a/x.jpg", "a/x"

    Image.row = row
    assert sample(Image())["filepath"] == "data/bucket/a/x.jpg"


@pytest.mark.parametrize("classes", [CLASSES, many(300)])
def test_fiftyone_loads_the_dataset(tmp_path, classes):
    if "FIFTYONE_DATABASE_URI" not in os.environ:
        pytest.skip("FIFTYONE_DATABASE_URI names no database for FiftyOne")
    fiftyone = pytest.importorskip("fiftyone")
    labels = write_labels(tmp_path, classes=classes)
    export_alone(labels, "fiftyone", tmp_path / "out")
    kind = fiftyone.types.FiftyOneDataset
    dataset = fiftyone.Dataset.from_dir(str(tmp_path / "out"), dataset_type=kind)
    try:
        assert dataset.media_type == "image"
        assert dataset.mask_targets["prediction"] == dict(enumerate(classes, start=1))
        for found, (row, mask_HW) in zip(dataset, masks_of(labels, len(classes)), strict=True):
            assert found.filepath == row["image_uri"]
            assert found.metadata.width == row["width"]
            np.testing.assert_array_equal(found.prediction.get_mask(), mask_HW + 1)
            assert found.confidence.get_map().shape == (6, 9)
            assert found.mean_confidence == pytest.approx(row["mean_confidence"])
        assert classes[-1] in dataset.distinct("classes")
    finally:
        dataset.delete()
