import json

import numpy as np
import pytest

from pipelines.prepare.layouts.folder import find
from pipelines.prepare.reading import PairError, ReadPair
from pipelines.storage import locate
from tests import replicas
from tests.pipelines.prepare.test_layouts import mask_of, read
from tests.replicas import bands


def flat(tmp_path, classes=("sky", "tree"), mask=None, dtype=np.uint8, kind="png"):
    """A folder without splits."""
    mask_HW = bands([0, 1]) if mask is None else mask
    replicas.save_photo(tmp_path / "images/sub/a.jpg")
    replicas.save_mask(tmp_path / f"masks/sub/a.{kind}", mask_HW, dtype)
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    return locate(str(tmp_path))


def test_a_folder_without_splits_is_the_same_for_both(tmp_path):
    top = flat(tmp_path)
    for split in ("train", "val"):
        pairs = find(top, split)
        assert (pairs.split, pairs.classes) == ("all", ["sky", "tree"])
        (row,) = read(pairs)
        assert row["image_id"] == "sub/a"
        assert np.array_equal(mask_of(row), bands([0, 1]))


def test_a_split_that_is_not_there_is_said(tmp_path):
    replica = replicas.make("folder", tmp_path, split="train")
    with pytest.raises(ValueError, match=r"there is no images/val in .*, only images/train"):
        find(locate(str(replica.top)), "val")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"0": "sky", "2": "tree"}, "neither a list of names nor"),
        ([], "at least one class name is needed"),
        (["sky", "Sky"], "'Sky' is there more than once|'sky' is there more than once"),
        ("sky", "neither a list of names nor"),
    ],
)
def test_class_lists_that_make_no_sense_are_errors(tmp_path, classes, message):
    top = flat(tmp_path, classes)
    with pytest.raises(ValueError, match=message):
        find(top, "val")
    (tmp_path / "classes.json").write_text("{")
    with pytest.raises(ValueError, match=r"classes.json is no JSON"):
        find(top, "val")
    (tmp_path / "classes.json").unlink()
    with pytest.raises(ValueError, match=r"there is no .*classes.json: a JSON list"):
        find(top, "val")


def test_classes_may_be_an_object_of_indices(tmp_path):
    assert find(flat(tmp_path, {"1": "tree", "0": "sky"}), "val").classes == ["sky", "tree"]


def test_the_ignore_value_depends_on_the_number_of_classes(tmp_path):
    many = [f"class {index}" for index in range(300)]
    mask_HW = bands([0, 255, 299, 65535])
    (row,) = read(find(flat(tmp_path, many, mask_HW, np.uint16, "tif"), "val"))
    assert np.array_equal(mask_of(row), mask_HW)
    few = many[:255]
    mask_HW = bands([0, 254, 255, 65535])
    (row,) = read(find(flat(tmp_path / "few", few, mask_HW, np.uint16), "val"))
    assert np.array_equal(mask_of(row), bands([0, 254, 255, 255]))


def test_a_mask_beyond_the_class_list_is_named(tmp_path):
    pairs = find(flat(tmp_path, mask=bands([0, 2, 7])), "val")
    with pytest.raises(PairError, match=r"masks/sub/a.png: values that a list of 2 classes does"):
        ReadPair.of(pairs)(pairs.table)


def test_names_that_nowhere_meet_are_said(tmp_path):
    top = flat(tmp_path)
    (tmp_path / "masks/sub/a.png").rename(tmp_path / "masks/sub/a_mask.png")
    with pytest.raises(ValueError, match=r"there are 'sub/a' and 'sub/a_mask'"):
        find(top, "val")


def test_two_images_of_one_name_are_wrong(tmp_path):
    top = flat(tmp_path)
    replicas.save_photo(tmp_path / "images/sub/a.png")
    assert find(top, "val").wrong == ("images has two files for sub/a",)
