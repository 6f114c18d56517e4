"""Real files of the datasets' authors, laid out as they ship them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.reading import ReadPair
from pipelines.storage import locate
from tests.pipelines.prepare.test_layouts import mask_of


@pytest.fixture
def samples(shared_dir):
    folder = shared_dir / "samples"
    if not folder.is_dir():
        pytest.skip("no sample photos beside this clone")
    return folder


@pytest.fixture
def maps(shared_dir):
    return json.loads((shared_dir / "spec" / "facts" / "label_maps.json").read_text())


def lay_out(files, folder):
    folder.mkdir(parents=True)
    for path in files:
        shutil.copy(path, folder)


def rows_of(name, source, split="val"):
    pairs = find_pairs(name, locate(str(source)), split)
    assert (pairs.wrong, pairs.unmatched) == ((), ())
    return {row["image_id"]: row for row in ReadPair.of(pairs, whole=True)(pairs.table).to_pylist()}


def test_masks_of_coco_stuff_become_the_171_classes(samples, maps, tmp_path):
    top = tmp_path / "coco-stuff"
    lay_out((samples / "coco/images").glob("*.jpg"), top / "images/val2017")
    lay_out((samples / "coco/masks").glob("*.png"), top / "annotations/val2017")
    shutil.copy(samples / "coco/cocostuff_labels.txt", top / "labels.txt")
    rows = rows_of("coco-stuff", tmp_path)
    assert len(rows) == 15
    table = {int(value): index for value, index in maps["coco_stuff171"].items()}
    for image_id, row in rows.items():
        raw_HW = np.array(Image.open(samples / f"coco/masks/{image_id}.png"))
        assert np.array_equal(mask_of(row), np.vectorize(lambda v: table.get(v, 255))(raw_HW))
        assert row["image"]["bytes"] == (samples / f"coco/images/{image_id}.jpg").read_bytes()


def test_the_names_that_coco_stuff_ships_are_ours(samples, tmp_path):
    """labels.txt is compared class by class: one that is exchanged is seen."""
    top = tmp_path / "coco-stuff"
    lay_out([samples / "coco/images/000000000139.jpg"], top / "images/val2017")
    lay_out([samples / "coco/masks/000000000139.png"], top / "annotations/val2017")
    text = (samples / "coco/cocostuff_labels.txt").read_text()
    (top / "labels.txt").write_text(text.replace("182: wood", "182: banner"))
    (said,) = find_pairs("coco-stuff", locate(str(tmp_path)), "val").wrong
    assert said == "labels.txt differs in 1 class name: class 170 is 'wood', there 'banner'"


def test_scene_parsing_masks_become_the_150_classes(samples, tmp_path):
    top = tmp_path / "ADEChallengeData2016"
    lay_out((samples / "ade20k/images").glob("*.jpg"), top / "images/validation")
    lay_out((samples / "ade20k/masks").glob("*.png"), top / "annotations/validation")
    shutil.copy(samples / "ade20k/objectInfo150.txt", top)
    rows = rows_of("ade20k-150", tmp_path)
    assert len(rows) == 2
    for image_id, row in rows.items():
        raw_HW = np.array(Image.open(samples / f"ade20k/masks/{image_id}.png"))
        assert np.array_equal(mask_of(row), raw_HW - np.uint8(1))  # 0 wraps to 255


def test_full_annotations_become_the_847_classes_by_number_and_by_name(samples, maps, tmp_path):
    files = list((samples / "ade20k/full_2021").iterdir())
    lay_out(files, tmp_path / "ADE20K_2021_17_01/images/ADE/training/urban/street")
    rows = rows_of("ade20k-847", tmp_path, "train")
    assert len(rows) == 2
    classes = BENCHMARKS["ade20k-847"].classes
    for image_id, row in rows.items():
        raw_HW3 = np.array(Image.open(samples / f"ade20k/full_2021/{image_id}_seg.png"), np.int64)
        number_HW = raw_HW3[..., 0] // 10 * 256 + raw_HW3[..., 1]
        table = {int(v): index for v, index in maps["ade847_objid_to_train"].items()}
        wanted_HW = np.vectorize(lambda v, table=table: table.get(v, 65535))(number_HW)
        # 1536 x 2048 and 1650 x 2200 have the same short side, then: 512.
        height, width = mask_of(row).shape
        assert (height, width) == (512, 683)
        old_height, old_width = wanted_HW.shape
        lines = np.arange(height) * old_height // height
        columns = np.arange(width) * old_width // width
        assert np.array_equal(mask_of(row), wanted_HW[lines[:, None], columns[None, :]])
        text = (samples / f"ade20k/full_2021/{image_id}.json").read_text("latin-1")
        named = {o["name"] for o in json.loads(text)["annotation"]["object"]}
        shown = {classes[index] for index in np.unique(mask_of(row)) if index != 65535}
        assert shown <= named
        assert {"car, auto, automobile, machine, motorcar", "sky"} <= shown
