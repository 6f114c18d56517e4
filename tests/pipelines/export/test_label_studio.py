import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import numpy as np

from pipelines.export.label_studio import address
from tests.pipelines.export.corpora import (
    CLASSES,
    export_alone,
    many,
    masks_of,
    read_json,
    write_labels,
)
from tests.pipelines.export.test_brush import decode


def tasks(out):
    return [task for path in sorted((out / "tasks").iterdir()) for task in read_json(path)]


def test_predictions_fit_the_labelling_config(tmp_path):
    labels = write_labels(tmp_path)
    export_alone(labels, "label-studio", tmp_path / "out")
    config = ElementTree.parse(tmp_path / "out" / "config.xml").getroot()
    (image,), (brush,) = config.findall("Image"), config.findall("BrushLabels")
    assert brush.get("toName") == image.get("name")
    assert [label.get("value") for label in brush] == CLASSES
    for task in tasks(tmp_path / "out"):
        assert image.get("value") == "$image"
        assert task["data"]["image"]
        for result in task["predictions"][0]["result"]:
            assert result["type"] == "brushlabels"
            assert result["from_name"] == brush.get("name")
            assert result["to_name"] == image.get("name")


def test_every_pixel_is_painted_once(tmp_path):
    labels = write_labels(tmp_path, classes=many(300))
    export_alone(labels, "label-studio", tmp_path / "out")
    found = tasks(tmp_path / "out")
    ids = [r["id"] for task in found for r in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)
    for task, (row, mask_HW) in zip(found, masks_of(labels, 300), strict=True):
        assert task["data"]["image_uri"] == row["image_uri"]
        found_HW = np.full_like(mask_HW, -1)
        for result in task["predictions"][0]["result"]:
            assert (result["original_height"], result["original_width"]) == mask_HW.shape
            painted_HW = decode(result["value"]["rle"]).reshape(*mask_HW.shape, 4)[..., 3] > 0
            (name,) = result["value"]["brushlabels"]
            assert (found_HW[painted_HW] == -1).all()
            found_HW[painted_HW] = int(name.split()[1])
        np.testing.assert_array_equal(found_HW, mask_HW)


def test_a_local_photo_is_served_and_one_in_a_bucket_is_named():
    assert address("s3://bucket/a b.jpg") == "s3://bucket/a b.jpg"
    assert address("/data/ä b?.jpg").startswith("/data/local-files/?d=data/%C3%A4%20b%3F")
    assert unquote(address("/data/ä b?.jpg")).endswith("?d=data/ä b?.jpg")
