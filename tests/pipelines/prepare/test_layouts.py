import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines.masks import ignore_value
from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.reading import ReadPair
from pipelines.rows import PREPARED
from pipelines.storage import locate
from tests import replicas
from tests.replicas import MAKERS, NONE, bands

NAMES = list(MAKERS)


def find(replica, split="val", source=None):
    return find_pairs(replica.name, locate(str(source or replica.source)), split)


def read(pairs):
    return ReadPair.of(pairs, whole=True)(pairs.table).to_pylist()


def mask_of(row):
    return np.array(Image.open(io.BytesIO(row["mask"]["bytes"])))


def expected(replica):
    ignore = ignore_value(replica.num_classes)
    return bands([ignore if index == NONE else index for index in replica.bands])


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_is_read_as_its_authors_ship_it(tmp_path, name):
    replica = replicas.make(name, tmp_path)
    pairs = find(replica)
    assert (pairs.wrong, pairs.unmatched, pairs.notes) == ((), (), ())
    assert (len(pairs.classes), len(pairs.asked)) == (replica.num_classes, replica.asked)
    rows = read(pairs)
    assert [row["image_id"] for row in rows] == replica.ids
    for row in rows:
        assert row.keys() == set(PREPARED.names)
        assert row["image"]["bytes"] == replica.images[row["image_id"]].read_bytes()
        assert mask_of(row).dtype == (np.uint16 if replica.num_classes > 255 else np.uint8)
        assert np.array_equal(mask_of(row), expected(replica))
        assert (row["width"], row["height"]) == (replicas.WIDTH, replicas.HEIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_itself_may_be_named_and_train_too(tmp_path, name):
    replica = replicas.make(name, tmp_path, split="train", count=2)
    assert len(find(replica, "train", source=replica.top).table) == 2


@pytest.mark.parametrize("name", NAMES)
def test_another_place_is_said_to_be_none(tmp_path, name):
    with pytest.raises(ValueError, match=r"there is no folder (images|JPEGImages|.*2017)"):
        find_pairs(name, locate(str(tmp_path)), "val")
    with pytest.raises(ValueError, match=r"there is no folder .*/nowhere"):
        find_pairs(name, locate(str(tmp_path / "nowhere")), "val")


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_fewer_pairs_than_the_authors_ship_are_said(tmp_path, name):
    (said,) = find(replicas.make(name, tmp_path)).fewer
    wanted = " or ".join(map(str, BENCHMARKS[name].counts["val"]))
    assert said == f"{name} val has 3 of {wanted} pairs"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pascal-context-59"])
def test_an_image_without_a_mask_and_a_mask_without_an_image_are_named(tmp_path, name):
    replica = replicas.make(name, tmp_path, count=8)
    replica.masks[replica.ids[0]].unlink()
    for gone in replica.ids[1:7]:
        replica.images[gone].unlink()
    pairs = find(replica)
    assert pairs.table["image_id"].to_pylist() == replica.ids[7:]
    one, six = sorted(pairs.unmatched, key=lambda text: replica.ids[0] not in text)
    assert one.startswith("1 ")
    assert six.startswith("6 ")
    assert replica.ids[0] in one
    assert all(key in six for key in replica.ids[1:6])
    assert six.endswith(", ...")


def test_segments_without_a_photo_are_named(tmp_path):
    replica = replicas.make("pascal-context-59", tmp_path)
    replica.images["2008_000002"].unlink()
    (said,) = find(replica).unmatched
    assert said == "1 of 3 listed names have no image in JPEGImages: 2008_000002"


def test_an_image_without_segments_is_named(tmp_path):
    replica = replicas.make("pascal-context-59", tmp_path)
    path = replica.masks["2008_000003"]
    found = json.loads(path.read_text())
    found["annos_segmentation"] = [
        segment for segment in found["annos_segmentation"] if segment["image_id"] != 2008000003
    ]
    path.write_text(json.dumps(found))
    (said,) = find(replica).unmatched
    assert said == "1 of 3 listed names have no segment in trainval_merged.json: 2008_000003"


def test_other_files_among_the_images_are_noted(tmp_path):
    replica = replicas.make("ade20k-150", tmp_path)
    (replica.top / "images/validation/readme.txt").write_text("")
    (replica.top / "images/validation/.DS_Store").write_text("")
    assert find(replica).notes == ("1 other file in images/validation, not read: readme.txt",)


def swapped(names):
    names = list(names)
    names[3], names[7] = names[7], names[3]
    return names


def test_another_order_of_classes_is_wrong(tmp_path):
    replica = replicas.make("ade20k-150", tmp_path)
    ours = BENCHMARKS["ade20k-150"].classes
    place = replica.top / "objectInfo150.txt"

    def write(names):
        lines = [f"{n + 1}\t0.1\t1\t1\t{name}, a synonym" for n, name in enumerate(names)]
        replicas.save_text(place, ["Idx\tRatio\tTrain\tVal\tName", *lines])
        return find(replica)

    assert (write(ours).wrong, write(ours).notes) == ((), ())
    (said,) = write(swapped(ours)).wrong
    assert said.startswith("objectInfo150.txt differs in 2 class names: class 3 is 'floor', there")
    (said,) = write([*ours[:-1], "another"]).notes
    assert "class 149 is 'flag', there 'another, a synonym'" in said
    (said,) = write(f"{name} thing" for name in ours).wrong
    assert "differs in 150 class names" in said


def test_another_order_of_classes_is_wrong_in_each_list_that_authors_ship(tmp_path):
    coco = replicas.make("coco-stuff", tmp_path)
    names = coco_names()
    lines = [f"{value + 1}: {name}" for value, name in names.items()]
    replicas.save_text(coco.top / "labels.txt", ["0: unlabeled", *lines])
    assert find(coco).wrong == ()
    names[0], names[1] = names[1], names[0]
    replicas.save_text(coco.top / "labels.txt", [f"{v + 1}: {n}" for v, n in names.items()])
    assert "class 0 is 'person', there 'bicycle'" in find(coco).wrong[0]

    context = replicas.make("pascal-context-459", tmp_path)
    ours = BENCHMARKS["pascal-context-459"].classes
    for wanted, order in ((0, ours), (1, swapped(ours))):
        replicas.save_text(
            context.top / "labels.txt", [f"{n + 1}: {name}" for n, name in enumerate(order)]
        )
        assert len(find(context).wrong) == wanted


def coco_names():
    """COCO-Stuff's names by mask value."""
    from pipelines.prepare.encodings import original_values

    return dict(zip(original_values("coco-stuff"), BENCHMARKS["coco-stuff"].classes, strict=True))


def test_categories_of_another_dataset_are_wrong(tmp_path):
    replica = replicas.make("pascal-context-59", tmp_path)
    path = replica.masks[replica.ids[0]]
    found = json.loads(path.read_text())
    found["categories"][0]["name"], found["categories"][1]["name"] = "bag", "aeroplane"
    path.write_text(json.dumps(found))
    assert "class 0 is 'aeroplane', there 'bag'" in find(replica).wrong[0]


def test_object_numbers_of_another_edition_are_wrong(tmp_path):
    replica = replicas.make("ade20k-847", tmp_path)
    for path in replica.top.rglob("*.json"):
        path.write_text(path.read_text("latin-1").replace('"wall"', '"tree"'), "latin-1")
    (said,) = find(replica).wrong
    assert (
        said == "*.json beside the images differs in 1 class name: class 0 is 'wall', there 'tree'"
    )


def test_the_names_of_459_classes_come_from_the_published_list_or_from_voc(tmp_path):
    replica = replicas.make("pascal-context-459", tmp_path)
    (replica.top / "pascalcontext_val.txt").unlink()
    with pytest.raises(ValueError, match=r"there is neither pascalcontext_val.txt nor ImageSets"):
        find(replica)
    replicas.save_text(replica.top / "ImageSets/Main/val.txt", replica.ids[:2])
    assert find(replica).table["image_id"].to_pylist() == replica.ids[:2]
    replicas.save_text(replica.source / "pascalcontext_val.txt", replica.ids)
    assert len(find(replica).table) == 3


def test_training_names_of_voc_are_the_augmented_ones_where_these_are_listed(tmp_path):
    replica = replicas.make("pascal-voc-20", tmp_path, split="train")
    replicas.save_text(replica.top / "ImageSets/Segmentation/trainaug.txt", replica.ids[:1])
    assert len(find(replica, "train").table) == 1
    shutil.move(replica.top / "SegmentationClassAug", replica.top / "SegmentationClass")
    assert len(find(replica, "train").table) == 1


CONVERTED = {
    "coco-stuff": ("annotations/val2017", "annotations_detectron2/val2017", "png"),
    "ade20k-150": ("annotations/validation", "annotations_detectron2/validation", "png"),
    "pascal-context-59": ("trainval_merged.json", "annotations_detectron2/pc59_val", "png"),
    "pascal-context-459": ("trainval", "annotations_detectron2/pc459_val", "tif"),
    "pascal-voc-20": ("SegmentationClassAug", "annotations_detectron2/val", "png"),
    "pascal-voc-20b": ("SegmentationClassAug", "annotations_detectron2_bg/val", "png"),
}


@pytest.mark.parametrize("name", list(CONVERTED))
def test_masks_that_the_official_preparation_wrote_are_read(tmp_path, name):
    replica = replicas.make(name, tmp_path)
    original, folder, kind = CONVERTED[name]
    shutil.move(replica.top / original, tmp_path / "moved")
    ignore = 459 if name == "pascal-context-459" else 255
    written = bands([ignore if index == NONE else index for index in replica.bands])
    if ignore == 459:
        written[0, 0] = 65535  # what 0 - 1 became there
    for image_id in replica.ids:
        replicas.save_mask(
            replica.top / folder / f"{image_id}.{kind}",
            written,
            np.uint16 if kind == "tif" else np.uint8,
        )
    rows = read(find(replica))
    assert len(rows) == 3
    assert all(np.array_equal(mask_of(row), expected(replica)) for row in rows)


def test_what_the_official_preparation_of_847_classes_wrote_is_read(tmp_path):
    replica = replicas.make("ade20k-847", tmp_path)
    shutil.move(replica.top / "images", tmp_path / "moved")
    for number, name in enumerate(replica.ids):
        replicas.save_photo(
            replica.top / f"images_detectron2/validation/{name}.jpg", 600, 700, number
        )
        replicas.save_mask(
            replica.top / f"annotations_detectron2/validation/{name}.tif",
            bands([65535, 846], 600, 700),
            np.uint16,
        )
    row = read(find(replica))[0]
    assert (row["width"], row["height"]) == (600, 700)  # reduced before, or not at all
    assert np.array_equal(mask_of(row), bands([65535, 846], 600, 700))
