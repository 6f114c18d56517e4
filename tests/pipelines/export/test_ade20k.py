import csv

import numpy as np
import pytest

from tests.pipelines.export.corpora import (
    CLASSES,
    export_alone,
    many,
    masks_of,
    read_png,
    write_labels,
)


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_masks_start_at_one_and_grow_to_16_bits(tmp_path, count, dtype):
    labels = write_labels(tmp_path, classes=many(count))
    export_alone(labels, "ade20k", tmp_path / "out")
    with (tmp_path / "out" / "images.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    for line, (row, mask_HW) in zip(listed, masks_of(labels, count), strict=True):
        found_HW = read_png(tmp_path, "out", line["annotation"])
        assert found_HW.dtype == dtype
        np.testing.assert_array_equal(found_HW, mask_HW + 1)
        assert line["image_uri"] == row["image_uri"]
        assert str(tmp_path / "photos" / line["image"]) == row["image_uri"]


def test_the_classes_are_counted(tmp_path):
    labels = write_labels(tmp_path)
    export_alone(labels, "ade20k", tmp_path / "out")
    lines = (tmp_path / "out" / "objectInfo.txt").read_text().splitlines()
    assert lines[0].split("\t") == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"]
    masks = [mask_HW for _, mask_HW in masks_of(labels)]
    pixels = np.array([sum((m == index).sum() for m in masks) for index in range(len(CLASSES))])
    for index, line in enumerate(lines[1:]):
        number, ratio, train, _, _, name = line.split("\t")
        assert (int(number), name) == (index + 1, CLASSES[index])
        assert float(ratio) == pytest.approx(pixels[index] / pixels.sum(), abs=1e-6)
        assert int(train) == sum((mask_HW == index).any() for mask_HW in masks)
