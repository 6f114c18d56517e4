import numpy as np
import pytest
from pycocotools.coco import COCO

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
def test_pycocotools_finds_every_pixel(tmp_path, classes):
    labels = write_labels(tmp_path, classes=classes)
    export_alone(labels, "coco", tmp_path / "out")
    coco = COCO(tmp_path / "out" / "annotations" / "instances.json")
    assert [coco.cats[index + 1]["name"] for index in range(len(classes))] == classes
    for index, (row, mask_HW) in enumerate(masks_of(labels, len(classes))):
        (image,) = coco.loadImgs(index + 1)
        assert str(tmp_path / "photos" / image["file_name"]) == row["image_uri"]
        assert (image["height"], image["width"]) == mask_HW.shape
        annotations = coco.loadAnns(coco.getAnnIds(index + 1))
        found_HW = np.full_like(mask_HW, -1)
        for annotation in annotations:
            found_HW[coco.annToMask(annotation) == 1] = annotation["category_id"] - 1
            area = (mask_HW == annotation["category_id"] - 1).sum()
            assert annotation["area"] == area
        np.testing.assert_array_equal(found_HW, mask_HW)
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))


def test_the_panoptic_format_keeps_the_rules_of_panopticapi(tmp_path):
    labels = write_labels(tmp_path, classes=many(300))
    export_alone(labels, "coco-panoptic", tmp_path / "out")
    found = read_json(tmp_path, "out", "annotations", "panoptic.json")
    categories = {category["id"]: category for category in found["categories"]}
    assert all(category["isthing"] in (0, 1) for category in categories.values())
    images = {image["id"]: image for image in found["images"]}
    assert len(images) == len(found["annotations"])
    sources = masks_of(labels, 300)
    for annotation, (row, mask_HW) in zip(found["annotations"], sources, strict=True):
        assert images[annotation["image_id"]]["image_uri"] == row["image_uri"]
        # panopticapi looks for the PNGs in the folder that is called like the JSON.
        colours_HW3 = read_png(tmp_path, "out", "annotations/panoptic", annotation["file_name"])
        assert colours_HW3.dtype == np.uint8
        assert colours_HW3.shape == (*mask_HW.shape, 3)
        ids_HW = colours_HW3.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(ids_HW)) - {0} == set(segments)
        found_HW = np.full_like(mask_HW, -1)
        for number, segment in segments.items():
            assert segment["category_id"] in categories
            check_place(segment, ids_HW == number)
            found_HW[ids_HW == number] = segment["category_id"] - 1
        np.testing.assert_array_equal(found_HW, mask_HW)


def check_place(segment, mask_HW):
    """Area and box are those of the pixels."""
    rows, columns = np.nonzero(mask_HW)
    top, left = rows.min(), columns.min()
    assert segment["area"] == len(rows)
    box = [left, top, columns.max() - left + 1, rows.max() - top + 1]
    assert segment["bbox"] == box
    assert segment["iscrowd"] == 0
