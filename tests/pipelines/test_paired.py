import logging

import pyarrow as pa
import pytest

from pipelines.datasets import check, load
from pipelines.datasets.paired import ReadGroups, first_rows
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.plan import make_plans
from pipelines.prepare.prepare import prepare
from pipelines.prepare.prepared import groups
from pipelines.prepare.reading import ReadPair
from pipelines.rows import PREPARED
from pipelines.storage import locate
from tests import replicas


def prepared(replica, output):
    options = {"split": "val", "allow_partial": True}
    (plan,) = make_plans(replica.name, str(replica.source), str(output), **options)
    return prepare(plan, lambda: None, alone=1000)


@pytest.mark.parametrize("name", list(replicas.MAKERS))
def test_what_is_shipped_and_what_is_prepared_pass_the_check(tmp_path, name, caplog):
    replica = replicas.make(name, tmp_path / "in")
    with caplog.at_level(logging.WARNING):
        check(name, str(replica.source))
    assert ("val has 3 of" in caplog.text) == (name != "folder")
    prepared(replica, tmp_path / "out")
    check(name, str(tmp_path / "out"))


def test_what_is_not_as_it_should_be_is_said_before_anything_starts(tmp_path):
    replica = replicas.make("folder", tmp_path / "in")
    uri = str(replica.source)
    with pytest.raises(ValueError, match="no images/train"):
        check("folder", uri, "train")
    replicas.save_mask(replica.masks["photo 2"], replicas.bands([9]))
    with pytest.raises(
        ValueError, match=r"photo 2.png: .* a list of 3 .* 9 \(1 of 3 pairs that were tried"
    ):
        check("folder", uri)
    replica.masks["photo 2"].unlink()
    for call in (check, load):
        with pytest.raises(ValueError, match="1 image in images/val without a mask in masks/val"):
            call("folder", uri)
    prepared(replica, tmp_path / "out")
    with pytest.raises(ValueError, match="holds the split val, not 'train'"):
        check("folder", str(tmp_path / "out"), "train")
    with pytest.raises(ValueError, match="holds the dataset 'folder', not 'coco-stuff'"):
        check("coco-stuff", str(tmp_path / "out"))


def test_of_a_users_own_folder_every_mask_is_looked_at_first(tmp_path):
    replica = replicas.make("folder", tmp_path, count=200)
    replicas.save_mask(replica.masks["photo 123"], replicas.bands([3]))
    with pytest.raises(ValueError, match=r"photo 123.png: .* \(1 of 200 pairs"):
        check("folder", str(replica.source))


def test_row_groups_hold_every_row_once(tmp_path):
    record = prepared(replicas.make("folder", tmp_path / "in", count=90), tmp_path / "out")
    read = ReadGroups(locate(str(tmp_path / "out/val")))

    def names(total):
        units = pa.Table.from_pylist(list(first_rows(groups(record.parts), total)))
        tables = list(read(units))
        assert all(table.schema == PREPARED for table in tables)
        return [name for table in tables for name in table["image_id"].to_pylist()]

    everything = names(90)
    assert everything == sorted(f"photo {number}" for number in range(1, 91))
    assert [names(total) for total in (1, 8, 9, 31)] == [everything[:n] for n in (1, 8, 9, 31)]


@pytest.mark.ray
def test_rows_are_the_same_from_either_and_their_order_is_that_of_the_seed(local_ray, tmp_path):
    replica = replicas.make("pascal-voc-20b", tmp_path / "in", count=40)
    prepared(replica, tmp_path / "out")
    shipped, ready = str(replica.source), str(tmp_path / "out")
    one, other = (load("pascal-voc-20b", uri) for uri in (shipped, ready))
    assert (len(one.classes), len(one.asked), one.num_images) == (21, 59, 40)
    assert (other.classes, other.asked, other.num_images) == (one.classes, one.asked, 40)
    rows = one.rows.take_all()
    assert {(row.pop("error_type"), row.pop("message")) for row in rows} == {(None, None)}
    assert [row["image_id"] for row in rows] == replica.ids
    assert other.rows.take_all() == rows
    few = load("pascal-voc-20b", ready, limit=11)
    assert (few.num_images, few.rows.take_all()) == (11, rows[:11])
    assert few.digest != other.digest
    epochs = orders(load("pascal-voc-20b", ready, shuffle=5).rows, 2)
    assert orders(load("pascal-voc-20b", ready, shuffle=5).rows, 1) == epochs[:1]
    epochs += orders(load("pascal-voc-20b", shipped, shuffle=5).rows, 1)
    assert all(sorted(order) == replica.ids for order in epochs)
    assert len({tuple(order) for order in (*epochs, replica.ids)}) == 4


def orders(rows, epochs):
    """The names in so many epochs."""
    return [[row["image_id"] for row in rows.iter_rows()] for _ in range(epochs)]


def test_a_bucket_is_read_as_its_authors_ship_it(tmp_path, s3_bucket):
    replica = replicas.make("ade20k-847", tmp_path / "in", count=2)
    there = locate(s3_bucket)
    for path in replica.source.rglob("*"):
        if path.is_file():
            there.at(str(path.relative_to(replica.source))).write(path.read_bytes())
    check("ade20k-847", s3_bucket)
    pairs = find_pairs("ade20k-847", there, "val")
    here = find_pairs("ade20k-847", locate(str(replica.source)), "val")
    assert (pairs.digest, pairs.plan_id) == (here.digest, here.plan_id)
    assert ReadPair.of(pairs)(pairs.table) == ReadPair.of(here)(here.table)
    replica = replicas.make("folder", tmp_path / "mine")
    assert prepared(replica, f"{s3_bucket}/prepared").images == 3
    check("folder", f"{s3_bucket}/prepared")
