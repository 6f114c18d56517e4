import io
import json
import pickle
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import rows, shards
from pipelines.export import FORMATS, export, make_plan
from pipelines.export.corpus import PIECE
from pipelines.export.export import tally_of, writer_of
from pipelines.export.files import CHUNK, SEPARATOR, append, writing
from pipelines.export.format import fragment
from pipelines.export.survey import look_at, read_classes
from pipelines.storage import Location, locate
from tests.pipelines.export.corpora import (
    NAMES,
    export_alone,
    many,
    masks_of,
    never,
    read_json,
    tree,
    write_labels,
)
from tests.together import Together


@pytest.fixture
def labels(tmp_path):
    return write_labels(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_always_the_same_and_leaves_nothing_else(labels, tmp_path, kind):
    record = export_alone(labels, kind, tmp_path / "one")
    assert (record["status"], record["images"], record["complete"]) == ("done", len(NAMES), True)
    export_alone(labels, kind, tmp_path / "two")
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert json.loads(one.pop("export.json")) == record
    del two["export.json"]
    assert one == two
    assert {name.split("/")[0] for name in one} == set(FORMATS[kind].owns)


@pytest.mark.parametrize("kind", ["coco", "cvat", "huggingface"])
def test_an_export_that_was_killed_goes_on(labels, tmp_path, kind):
    whole = tmp_path / "whole"
    export_alone(labels, kind, whole)
    plan = make_plan(labels.uri, kind, str(tmp_path / "out"))
    begun = read_json(whole, "export.json") | {"status": "running", "output": plan.output.uri}
    plan.output.at("export.json").write(json.dumps(begun).encode())
    first = pa.Table.from_pylist([plan.pieces[0].to_row()], schema=PIECE)
    assert writer_of(plan)(first)["images"].to_pylist() == [plan.pieces[0].num_images]
    written = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*part-00000*")}
    export_alone(labels, kind, tmp_path / "out")
    still = {path: path.stat().st_ino for path in written if path.exists()}
    assert still.items() <= written.items(), "what was written is not written again"
    one, two = tree(whole), tree(tmp_path / "out")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one if name != "export.json")


def test_what_a_task_unpickles_does_not_grow_with_the_corpus(labels, tmp_path):
    plan = make_plan(labels.uri, "coco", str(tmp_path / "out"))
    many_parts = replace(plan.corpus, parts=100 * plan.corpus.parts)
    large = replace(plan, corpus=many_parts, pieces=100 * plan.pieces)
    assert len(pickle.dumps(writer_of(large))) == len(pickle.dumps(writer_of(plan)))


def test_what_was_seen_of_a_file_does_not_hold_its_class_names(tmp_path):
    sizes = []
    for count in (4, 250):
        labels = write_labels(tmp_path / str(count), classes=many(count))
        place = labels.at(shards.LABELS, "part-00000.parquet")
        look = look_at(place, root="", classes=read_classes(place))
        assert look.has_classes
        sizes.append(len(pickle.dumps(replace(look, place=labels))))
    assert sizes[0] - 20 < sizes[1] < sizes[0] + 20


def test_the_same_export_again_does_nothing(labels, tmp_path):
    record = export_alone(labels, "coco", tmp_path / "out")
    before = tree(tmp_path / "out")
    plan = make_plan(labels.uri, "coco", str(tmp_path / "out"))
    assert plan.is_done
    again = export(plan, connect=never)
    assert again == record
    assert tree(tmp_path / "out") == before


def test_an_export_of_labels_that_have_grown_is_brought_up_to_date(tmp_path):
    labels = write_labels(tmp_path, names=NAMES[:5], status="running")
    record = export_alone(labels, "ade20k", tmp_path / "out")
    assert (record["images"], record["complete"]) == (5, False)
    assert (tmp_path / "out/annotations/training/7.png").exists() is False
    write_labels(tmp_path, names=["b/z.jpg", *NAMES[1:]])
    record = export_alone(labels, "ade20k", tmp_path / "out")
    assert (record["images"], record["complete"]) == (8, True)
    masks = list((tmp_path / "out/annotations").rglob("*.png"))
    assert len(masks) == 8, "masks of images that are gone are gone"


def test_images_of_one_name_keep_a_mask_each(labels, tmp_path):
    export_alone(labels, "ade20k", tmp_path / "out")
    folder = tmp_path / "out" / "annotations" / "training"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert len({name.lower() for name in found}) == len(NAMES)
    assert {"a/x.png", "b/x.png", "7.png", "no ending.png"} <= set(found)
    assert sum(name.startswith("x-") for name in found) == 2


def test_what_is_no_output_of_label_is_said(tmp_path):
    with pytest.raises(ValueError, match="there is no output of label at"):
        make_plan(str(tmp_path), "coco", str(tmp_path / "out"))


def test_an_output_without_a_labelled_image_is_said(tmp_path):
    labels = write_labels(tmp_path, names=[])
    with pytest.raises(ValueError, match="holds no labelled image yet"):
        make_plan(labels.uri, "coco", str(tmp_path / "out"))


def test_a_format_that_nobody_knows_is_said(labels, tmp_path):
    with pytest.raises(ValueError, match="--format is one of ade20k, coco"):
        make_plan(labels.uri, "voc", str(tmp_path / "out"))


def test_a_place_that_holds_something_else_is_refused(labels, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        make_plan(labels.uri, "coco", str(tmp_path / "full"))
    with pytest.raises(ValueError, match="is a file"):
        make_plan(labels.uri, "coco", str(tmp_path / "full" / "thesis.txt"))
    with pytest.raises(ValueError, match="is not empty"):
        make_plan(labels.uri, "coco", labels.uri)
    export_alone(labels, "coco", tmp_path / "coco")
    with pytest.raises(ValueError, match=r"holds an export of .* as coco"):
        make_plan(labels.uri, "cvat", str(tmp_path / "coco"))
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"version": "sed-export-0"}'])
def test_a_record_that_is_not_ours_is_refused(labels, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text(text)
    with pytest.raises(ValueError, match=r"export.json (is damaged|was not written by this)"):
        make_plan(labels.uri, "coco", str(tmp_path / "out"))


def test_damaged_and_foreign_files_are_named(labels, tmp_path):
    place = labels.at(shards.LABELS, "part-00001.parquet")
    table = pq.read_table(place.path)
    pq.write_table(
        table.replace_schema_metadata(rows.with_metadata(table.schema, many(4)).metadata),
        place.path,
    )
    with pytest.raises(ValueError, match=r"part-00001.parquet has other classes than"):
        make_plan(labels.uri, "coco", str(tmp_path / "out"))
    pq.write_table(table.drop_columns(["image_uri"]), place.path)
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read"):
        make_plan(labels.uri, "coco", str(tmp_path / "out"))
    place.write(b"no parquet")
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read"):
        make_plan(labels.uri, "coco", str(tmp_path / "out"))


def test_what_pieces_left_is_read_several_files_at_a_time(tmp_path):
    labels = write_labels(tmp_path, per_shard=1)
    plan = make_plan(labels.uri, "coco", str(tmp_path / "out"))
    for piece in plan.pieces:
        writer_of(plan).write(piece)
    output = Location(Together(4), plan.output.path)
    tally = tally_of(replace(plan, output=output))
    assert (tally.images, tally.segments) == (len(NAMES), plan.corpus.num_segments)
    stream = io.BytesIO(b"[")
    stream.seek(1)
    append(
        stream, [fragment(output, "images", piece) for piece in plan.pieces], separator=SEPARATOR
    )
    records = json.loads(stream.getvalue() + b"]")
    assert [record["id"] for record in records] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_large_and_empty_files_are_put_together(tmp_path):
    contents = [b"", b"x" * (CHUNK - 1) + b"yz", b"", b"end", b""]
    for index, content in enumerate(contents):
        (tmp_path / str(index)).write_bytes(content)
    stream = io.BytesIO()
    append(stream, [locate(str(tmp_path / str(index))) for index in range(5)], separator=b", ")
    assert stream.getvalue() == contents[1] + b", end"


def write_half(place):
    with writing(place) as stream:
        stream.write(b"half")
        raise RuntimeError


def test_a_file_that_fails_half_way_is_not_there(tmp_path):
    place = locate(str(tmp_path / "file"))
    with pytest.raises(RuntimeError):
        write_half(place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["coco-panoptic", "huggingface", "fiftyone"])
def test_buckets_are_read_and_written(tmp_path, s3_bucket, kind):
    labels = write_labels(tmp_path, uri=f"{s3_bucket}/labels")
    export_alone(labels, kind, f"{s3_bucket}/out")
    export_alone(labels, kind, tmp_path / "out")
    place = locate(f"{s3_bucket}/out")
    found = {info.path.removeprefix(place.path + "/"): info for info in place.files(recursive=True)}
    local = tree(tmp_path / "out")
    assert found.keys() == local.keys()
    for name, data in local.items():
        assert name == "export.json" or place.at(name).read() == data
    assert export(make_plan(labels.uri, kind, place.uri), connect=never)["status"] == "done"


def test_a_file_that_fails_half_way_is_not_in_a_bucket(s3_bucket):
    place = locate(f"{s3_bucket}/file")
    with pytest.raises(RuntimeError):
        write_half(place)
    assert not place.exists()


@pytest.mark.ray
@pytest.mark.parametrize("kind", FORMATS)
def test_a_cluster_writes_the_same(local_ray, labels, tmp_path, kind):
    export_alone(labels, kind, tmp_path / "alone")
    plan = make_plan(labels.uri, kind, str(tmp_path / "spread"))
    export(plan, connect=lambda: None, alone=0)
    shutil.copy(tmp_path / "alone" / "export.json", tmp_path / "spread" / "export.json")
    assert tree(tmp_path / "spread") == tree(tmp_path / "alone")
    assert len(masks_of(labels)) == len(NAMES)
