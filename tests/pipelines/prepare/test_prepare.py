import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.prepare.plan import make_plans
from pipelines.prepare.prepare import list_errors, prepare
from pipelines.prepare.prepared import GROUP, open_split, read_record
from pipelines.rows import PREPARED, read_classes
from pipelines.storage import locate
from tests import replicas
from tests.pipelines.prepare.test_layouts import expected, mask_of


def no_cluster():
    raise AssertionError("a few images need no cluster")


def run(replica, output, connect=no_cluster, **options):
    """Prepare a replica, partial as it is; return what is said of its only split."""
    options = {"split": "val", "allow_partial": True} | options
    (plan,) = make_plans(replica.name, str(replica.source), str(output), **options)
    return prepare(plan, connect)


def tables(output, split="val"):
    return [pq.read_table(path) for path in sorted((output / split).glob("*.parquet"))]


def stored(output, split="val"):
    return [row for table in tables(output, split) for row in table.to_pylist()]


def times(output):
    return {path: path.stat().st_mtime_ns for path in output.rglob("*.parquet")}


@pytest.mark.parametrize("name", list(replicas.MAKERS))
def test_files_hold_images_as_they_are_masks_names_and_what_they_are(tmp_path, name):
    replica, output = replicas.make(name, tmp_path / "in"), tmp_path / "out"
    record = run(replica, output)
    assert (record.is_done, record.images, record.errors) == (True, 3, 0)
    rows = stored(output)
    assert [row["image_id"] for row in rows] == replica.ids
    for row in rows:
        assert row["image"]["bytes"] == replica.images[row["image_id"]].read_bytes()
        assert np.array_equal(mask_of(row), expected(replica))
    for table in tables(output):
        assert table.schema.remove_metadata() == PREPARED
        assert len(read_classes(table.schema)) == replica.num_classes
        said = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        assert (said["dataset"], said["split"]) == (name, "val")
        assert len(json.loads(said["asked"])) == replica.asked
        images = [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in table.to_pylist()]
        assert [image for _, image, _ in json.loads(said["sha256"])] == images
        shown = json.loads(said["huggingface"])["info"]["features"]
        assert shown == {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}
    assert open_split(name, locate(str(output)), "val") == record


def test_the_same_command_again_does_nothing_and_continues_what_is_missing(tmp_path):
    replica, output = replicas.make("ade20k-150", tmp_path / "in", count=20), tmp_path / "out"
    first = run(replica, output)
    before = times(output)
    assert run(replica, output) == first
    assert times(output) == before
    gone = sorted(before)[1]
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(ValueError, match=r"1 of 7 files are gone from .*, like part-00001.parquet"):
        open_split("ade20k-150", locate(str(output)), "val")
    assert run(replica, output) == first
    assert gone.read_bytes() == content
    changed = {path for path, time in times(output).items() if before[path] != time}
    assert changed == {gone}


def test_the_digest_tells_other_images_and_other_masks(tmp_path):
    replica = replicas.make("ade20k-150", tmp_path / "in")
    first = run(replica, tmp_path / "a").digest
    assert run(replica, tmp_path / "b").digest == first
    replicas.save_mask(replica.masks[replica.ids[0]], replicas.bands([3]))
    second = run(replica, tmp_path / "c").digest
    replicas.save_photo(replica.images[replica.ids[0]], seed=77)
    assert len({first, second, run(replica, tmp_path / "d").digest}) == 3


def test_files_that_cannot_be_used_are_listed_and_stop_the_end_unless_allowed(tmp_path):
    replica, output = replicas.make("folder", tmp_path / "in", count=20), tmp_path / "out"
    broken = replica.images["photo 7"]
    content = broken.read_bytes()
    broken.write_bytes(content[:-300])
    record = run(replica, output, allow_partial=False)
    assert (record.is_done, record.images, record.errors) == (False, 19, 1)
    (plan,) = make_plans("folder", str(replica.source), str(output), split="val")
    (error,) = list_errors(plan)
    assert (error["image_id"], error["error_type"]) == ("photo 7", "DamagedImage")
    assert error["message"].startswith("images/val/photo 7.jpg: ")
    with pytest.raises(ValueError, match="is not complete"):
        open_split("folder", locate(str(output)), "val")

    allowed = run(replica, output, allow_partial=True)
    assert (allowed.is_done, allowed.images, allowed.errors) == (True, 19, 1)
    assert sum(rows for _, rows in allowed.parts) == 19

    broken.write_bytes(content)  # repaired
    before = times(output)
    record = run(replica, output, allow_partial=False)
    assert (record.is_done, record.images, record.errors) == (True, 20, 0)
    rewritten = [path for path, time in times(output).items() if before[path] != time]
    assert len(rewritten) == 1
    assert not list((output / "errors").rglob("*.parquet"))
    assert sorted(row["image_id"] for row in stored(output)) == sorted(replica.ids)


def test_what_is_missing_is_an_input_error_unless_allowed(tmp_path):
    replica, output = replicas.make("coco-stuff", tmp_path / "in"), tmp_path / "out"
    replica.masks[replica.ids[1]].unlink()
    with pytest.raises(ValueError, match="coco-stuff in") as raised:
        run(replica, output, allow_partial=False)
    assert str(raised.value) == (
        f"coco-stuff in {replica.top}: 1 image in images/val2017 without a mask in "
        "annotations/val2017: 000000000002; coco-stuff val has 2 of 5000 pairs "
        "(--allow-partial takes what is there)"
    )
    assert not output.exists()
    record = run(replica, output)
    assert record.images == 2
    assert record.remarks[1] == "coco-stuff val has 2 of 5000 pairs"


@pytest.mark.parametrize("allow_partial", [False, True])
def test_labels_beyond_the_class_list_are_an_input_error(tmp_path, allow_partial):
    replica, output = replicas.make("folder", tmp_path / "in"), tmp_path / "out"
    beyond = replicas.bands([0, 3])
    replicas.save_mask(replica.masks[replica.ids[2]], beyond)
    if allow_partial:
        record = run(replica, output)
        assert (record.images, record.errors) == (2, 1)
        for path in replica.masks.values():
            replicas.save_mask(path, beyond)
    with pytest.raises(ValueError, match=r"values that a list of 3 classes does not have: 3"):
        run(replica, tmp_path / "new", allow_partial=allow_partial)


def test_wrong_classes_are_an_input_error_even_where_less_is_allowed(tmp_path):
    replica = replicas.make("ade20k-150", tmp_path / "in")
    replicas.save_text(replica.top / "objectInfo150.txt", ["Idx\tName", "1\tsky"])
    with pytest.raises(ValueError, match=r"objectInfo150.txt differs in 150 class names"):
        run(replica, tmp_path / "out")


def test_an_output_that_belongs_to_something_else_is_an_input_error(tmp_path):
    replica, output = replicas.make("ade20k-150", tmp_path / "in"), tmp_path / "out"
    run(replica, output)
    other = replicas.make("pascal-voc-20", tmp_path / "in")
    with pytest.raises(ValueError, match="holds the dataset 'ade20k-150' with 150 classes"):
        run(other, output)
    replicas.make("ade20k-150", tmp_path / "in", count=4)
    with pytest.raises(ValueError, match=r"made from other files than those in .*3 pairs, now 4"):
        run(replica, output)
    with pytest.raises(ValueError, match="is not empty and holds no prepared dataset"):
        run(replica, tmp_path / "in")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        run(replica, tmp_path / "file")


def test_both_splits_go_to_one_output(tmp_path):
    for split in ("train", "val"):
        replica = replicas.make("coco-stuff", tmp_path / "in", split=split, count=2)
    with pytest.raises(ValueError, match=r"train has 2 of 118287 .*alone: --split train or val"):
        make_plans("coco-stuff", str(replica.source), str(tmp_path / "out"))
    plans = make_plans("coco-stuff", str(replica.source), str(tmp_path / "out"), allow_partial=True)
    assert [prepare(plan, no_cluster).split for plan in plans] == ["train", "val"]
    place = locate(str(tmp_path / "out"))
    assert read_record(place, "train").images == read_record(place, "val").images == 2
    with pytest.raises(ValueError, match="holds the dataset 'coco-stuff', not 'folder'"):
        open_split("folder", place, "val")


def test_an_image_under_two_names_is_said(tmp_path):
    replica = replicas.make("folder", tmp_path / "in")
    one, other, _ = replica.images.values()
    other.write_bytes(one.read_bytes())
    remarks = run(replica, tmp_path / "out").remarks
    assert remarks == ["1 image under several names: photo 1 = photo 2"]


def test_an_image_of_val_that_is_in_train_too_is_said(tmp_path):
    train = replicas.make("folder", tmp_path / "in", split="train")
    val = replicas.make("folder", tmp_path / "in", split="val")  # the same three photos
    replicas.save_photo(val.images["photo 1"], seed=50)
    assert run(train, tmp_path / "out", split="train").remarks == []
    assert run(val, tmp_path / "out").remarks == ["2 images of val in train, too: photo 2, photo 3"]


def test_classes_are_counted_and_those_that_no_mask_shows_are_said(tmp_path):
    replica, output = replicas.make("pascal-voc-20", tmp_path / "in"), tmp_path / "out"
    record = run(replica, output)
    band = 3 * replicas.WIDTH * replicas.HEIGHT // 4  # of three images
    assert record.pixels == [band, *[0] * 18, band, 2 * band]
    assert record.remarks[1] == ("18 classes in no mask: bicycle, bird, boat, bottle, bus, ...")


def test_a_start_that_ended_before_it_forgot_a_repaired_error_is_continued(tmp_path):
    replica, output = replicas.make("folder", tmp_path / "in", count=20), tmp_path / "out"
    path = replica.images["photo 7"]
    content = path.read_bytes()
    path.write_bytes(b"")
    run(replica, output, allow_partial=False)
    (stale,) = (output / "errors").rglob("*.parquet")
    listed = stale.read_bytes()
    path.write_bytes(content)
    run(replica, output, allow_partial=False)
    stale.write_bytes(listed)
    record = run(replica, output, allow_partial=False)
    assert (record.is_done, record.images, record.errors) == (True, 20, 0)
    assert not stale.exists()


def test_a_record_of_somebody_else_is_an_input_error(tmp_path):
    replica, output = replicas.make("folder", tmp_path / "in"), tmp_path / "out"
    (output / "val").mkdir(parents=True)
    (output / "val/prepared.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match=r"prepared.json was not written by this version"):
        run(replica, output)


def test_row_groups_are_small(tmp_path):
    replica, output = replicas.make("folder", tmp_path / "in", count=100), tmp_path / "out"
    (plan,) = make_plans("folder", str(replica.source), str(output))
    prepare(plan, no_cluster, alone=200)
    sizes = [
        pq.ParquetFile(path).metadata.row_group(0).num_rows for path in output.rglob("*.parquet")
    ]
    assert max(sizes) == GROUP


@pytest.mark.ray
def test_a_cluster_writes_the_same_files(local_ray, tmp_path, s3_bucket):
    replica = replicas.make("pascal-context-59", tmp_path / "in", count=12)
    replica.images["2008_000004"].write_bytes(b"no image")
    alone = run(replica, tmp_path / "out")
    uri = f"{s3_bucket}/prepared"
    options = {"split": "val", "allow_partial": True}
    (plan,) = make_plans(replica.name, str(replica.source), uri, **options)
    record = prepare(plan, lambda: None, alone=0)
    assert record == alone
    assert (record.images, record.errors) == (11, 1)
    for name, _ in record.parts:
        assert locate(uri).at("val", name).read() == (tmp_path / "out/val" / name).read_bytes()
