import numpy as np
import pytest

from pipelines.export.colours import voc_colours
from tests.pipelines.export.corpora import (
    CLASSES,
    NAMES,
    export_alone,
    many,
    masks_of,
    read_json,
    read_png,
    tree,
    write_labels,
)


def label_map(out):
    """Read labelmap.txt as CVAT does: name and colour of each line that is no comment."""
    lines = (out / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    fields = [line.strip().split(":") for line in lines if line.strip() and line[0] != "#"]
    assert all(len(field) == 4 for field in fields)
    return {name: tuple(map(int, colour.split(","))) for name, colour, _, _ in fields}


def test_voc_colours_are_those_of_pascal_voc():
    colours_N3 = voc_colours()
    assert colours_N3[[0, 1, 15, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(colours_N3, axis=0)) == 256


@pytest.mark.parametrize("classes", [CLASSES, many(255), ["background", "a:b", "a_b", "#c"]])
def test_every_colour_is_in_the_label_map(tmp_path, classes):
    labels = write_labels(tmp_path, classes=classes)
    export_alone(labels, "cvat", tmp_path / "out")
    found = label_map(tmp_path / "out")
    assert len(found) == len(classes) + 1
    assert next(iter(found.values())) == (0, 0, 0)
    index = {colour: number - 1 for number, colour in enumerate(found.values())}
    names = listed_names(tmp_path / "out")
    for name, (_, mask_HW) in zip(names, masks_of(labels, len(classes)), strict=True):
        colours_HW3 = read_png(tmp_path, "out", "SegmentationClass", f"{name}.png")
        found_HW = [[index[tuple(colour)] for colour in line] for line in colours_HW3.tolist()]
        np.testing.assert_array_equal(found_HW, mask_HW)
        # Objects keep black from being imported as a class.
        objects_HW3 = read_png(tmp_path, "out", "SegmentationObject", f"{name}.png")
        np.testing.assert_array_equal(objects_HW3, colours_HW3)


def test_labels_for_cvat_are_those_of_the_label_map(tmp_path):
    export_alone(write_labels(tmp_path), "cvat", tmp_path / "out")
    labels = read_json(tmp_path, "out", "labels.json")
    colours = ["#{:02x}{:02x}{:02x}".format(*c) for c in label_map(tmp_path / "out").values()]
    assert [label["name"] for label in labels] == CLASSES
    assert [label["color"] for label in labels] == colours[1:]


HASHES = ["#1.jpg", "_1.jpg", "#1.png", "##2.jpg", "#set/x.jpg", "a#b.jpg", "set/#3.jpg"]


def listed_names(out):
    return (out / "ImageSets/Segmentation/default.txt").read_text().splitlines()


def test_no_image_is_lost_whose_name_would_be_a_comment(tmp_path, caplog):
    export_alone(write_labels(tmp_path, names=HASHES), "cvat", tmp_path / "out")
    found = listed_names(tmp_path / "out")
    assert len(set(found)) == len(HASHES)
    assert not [name for name in found if name.startswith("#")]
    assert {"_1", "a#b", "set/#3"} <= set(found)
    for folder in ("SegmentationClass", "SegmentationObject"):
        assert sorted(tree(tmp_path / "out" / folder)) == sorted(f"{name}.png" for name in found)
    assert "CVAT skips names that begin with #: 4 images have another one" in caplog.text
    assert f"; #{found[0][1:]} is {found[0]}\n" in caplog.text


def test_more_than_255_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at most 255 classes, these labels have 256"):
        export_alone(write_labels(tmp_path, classes=many(256)), "cvat", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("images", [NAMES, HASHES])
def test_datumaro_reads_the_same_masks(tmp_path, images):
    """CVAT reads what it imports by this library's readers."""
    datumaro = pytest.importorskip("datumaro")
    labels = write_labels(tmp_path, names=images)
    export_alone(labels, "cvat", tmp_path / "out")
    found = datumaro.Dataset.import_from(str(tmp_path / "out"), "voc_segmentation")
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    assert names[1:] == CLASSES
    items = {item.id: item for item in found}
    listed = listed_names(tmp_path / "out")
    assert sorted(items) == sorted(listed)
    for name, (_, mask_HW) in zip(listed, masks_of(labels, len(CLASSES)), strict=True):
        found_HW = np.full(mask_HW.shape, -1)
        for mask in items[name].annotations:
            found_HW[mask.image.astype(bool)] = mask.label - 1
        np.testing.assert_array_equal(found_HW, mask_HW)
