import json

import pyarrow as pa
import pytest

from pipelines import outputs, rows, shards
from pipelines.classes import choose_classes, vocabulary_id
from pipelines.outputs import Identity
from pipelines.storage import Location, locate
from sed.vocabularies import NAMES, vocabulary


def uris(start, stop):
    return pa.array((f"/photos/{i:04d}.jpg" for i in range(start, stop)), pa.large_string())


def groups(manifest):
    return [row["image_uris"] for row in shards.remaining(manifest, set()).to_pylist()]


def test_a_small_corpus_has_eight_shards_and_a_large_one_shards_of_64():
    assert [shards.shard_size(count) for count in (1, 8, 64, 200, 512, 10**6)] == [
        1,
        1,
        8,
        25,
        64,
        64,
    ]


def test_every_image_is_in_one_shard_in_order():
    manifest = shards.extend(shards.no_manifest(), uris(0, 20))
    assert [uri for group in groups(manifest) for uri in group] == uris(0, 20).to_pylist()
    assert {len(group) for group in groups(manifest)} == {3, 2}
    assert shards.extend(shards.no_manifest(), uris(0, 20)).equals(manifest)


def test_later_images_get_new_shards_and_the_old_ones_stay():
    old = shards.extend(shards.no_manifest(), uris(0, 10))
    new = shards.extend(old, uris(0, 13))
    assert groups(new)[: len(groups(old))] == groups(old)
    assert groups(new)[len(groups(old)) :] == [[uri] for uri in uris(10, 13).to_pylist()]
    assert shards.extend(new, uris(3, 7)) is new


def test_done_shards_are_left_out():
    manifest = shards.extend(shards.no_manifest(), uris(0, 16))
    left = shards.remaining(manifest, {0, 2})
    assert left["shard"].to_pylist() == [1, 3, 4, 5, 6, 7]
    assert left.schema == rows.SHARD
    assert not len(shards.remaining(manifest, set(range(8))))


def test_the_manifest_comes_back_from_its_file(tmp_path):
    output = locate(str(tmp_path))
    manifest = shards.extend(shards.no_manifest(), uris(0, 5))
    assert not len(shards.read_manifest(output))
    shards.write_manifest(output, manifest)
    assert shards.read_manifest(output).equals(manifest)


def test_a_shard_is_done_when_its_labels_are_there(tmp_path):
    output = locate(str(tmp_path))
    errors = pa.Table.from_pylist([{"image_uri": "a"}], schema=rows.ERRORS)
    output.at(shards.ERRORS, shards.part_name(3)).write(shards.to_parquet(errors))
    assert shards.done_shards(output) == set()
    shards.write_shard(output, 3, rows.LABELS.empty_table(), errors)
    (tmp_path / "labels" / ".part-00004.parquet.0123").write_bytes(b"half")
    assert shards.done_shards(output) == {3}
    assert shards.count_rows(output, "errors") == 1
    assert shards.count_rows(output, "labels") == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_writer_that_dies_between_the_files_of_a_shard_leaves_it_to_be_written_again(
    tmp_path, monkeypatch, count
):
    class Dies(SystemExit):
        pass

    def write(self, content):
        if len(written) == count:
            raise Dies
        written.append(self.path)
        original(self, content)

    labels = pa.Table.from_pylist([{"image_uri": "b", "shard": 3}], schema=rows.LABELS)
    errors = pa.Table.from_pylist([{"image_uri": "a"}], schema=rows.ERRORS)
    features = pa.Table.from_pylist([{"image_uri": "b"}], schema=rows.FEATURES)
    whole, killed = locate(str(tmp_path / "whole")), locate(str(tmp_path / "killed"))
    shards.write_shard(whole, 3, labels, errors, features)
    original, written = Location.write, []
    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", write)
        with pytest.raises(Dies):
            shards.write_shard(killed, 3, labels, errors, features)
    assert len(written) == count
    assert shards.done_shards(killed) == set()
    shards.write_shard(killed, 3, labels, errors, features)
    assert shards.done_shards(killed) == {3}
    for folder in (shards.LABELS, shards.ERRORS, shards.FEATURES):
        name = shards.part_name(3)
        assert [info.base_name for info in killed.at(folder).files()] == [name]
        assert killed.at(folder, name).read() == whole.at(folder, name).read()


IDENTITY = Identity(
    images="/photos",
    model_id="sha256:1",
    vocabulary_id="sha256:2",
    rejection="none",
    min_confidence=0.0,
)


def claimed(tmp_path, **changes):
    output = locate(str(tmp_path / "out"))
    outputs.write_run(output, {"identity": IDENTITY.__dict__ | changes, "status": "done"})
    return output


def test_an_output_that_is_not_there_or_empty_is_free(tmp_path):
    assert outputs.check_output(locate(str(tmp_path / "new")), IDENTITY, overwrite=False) is None
    assert outputs.check_output(locate(str(tmp_path)), IDENTITY, overwrite=False) is None


def test_the_same_job_continues(tmp_path):
    run = outputs.check_output(claimed(tmp_path), IDENTITY, overwrite=False)
    assert run is not None
    assert run["status"] == "done"


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("images", "/other", r"made with other images \(/other, now"),
        ("model_id", "sha256:9", "another model"),
        ("vocabulary_id", "sha256:9", "another vocabulary"),
        ("rejection", "topk:8", r"another rejection \(topk:8, now none\)"),
        ("min_confidence", 0.5, r"another minimum confidence \(0.5, now 0.0\)"),
    ],
)
def test_another_job_is_refused_with_what_differs(tmp_path, name, value, word):
    output = claimed(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=f"{word}.*--overwrite"):
        outputs.check_output(output, IDENTITY, overwrite=False)
    assert outputs.check_output(output, IDENTITY, overwrite=True) is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_taken(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="not empty and holds no labels"):
        outputs.check_output(locate(str(tmp_path)), IDENTITY, overwrite=overwrite)
    with pytest.raises(ValueError, match="is a file"):
        outputs.check_output(locate(str(tmp_path / "thesis.tex")), IDENTITY, overwrite=overwrite)
    (tmp_path / "run.json").write_text(json.dumps({"mine": True}))
    with pytest.raises(ValueError, match="was not written by"):
        outputs.check_output(locate(str(tmp_path)), IDENTITY, overwrite=overwrite)


def test_starting_anew_removes_only_what_label_writes(tmp_path):
    output = claimed(tmp_path)
    shards.write_shard(output, 0, rows.LABELS.empty_table(), rows.ERRORS.empty_table())
    shards.write_manifest(output, shards.no_manifest())
    output.at("report", "index.html").write(b"x")
    output.at("notes.txt").write(b"mine")
    outputs.start_anew(output)
    assert [info.base_name for info in output.files(recursive=True)] == ["notes.txt"]


def test_what_an_interrupted_removal_left_is_no_ones_labels(tmp_path, monkeypatch):
    output = claimed(tmp_path)
    monkeypatch.setattr(outputs, "OURS", ())  # it is interrupted before the first
    outputs.start_anew(output)
    with pytest.raises(ValueError, match="give --overwrite again"):
        outputs.check_output(output, IDENTITY, overwrite=False)
    assert outputs.check_output(output, IDENTITY, overwrite=True) is None


def test_classes_come_from_the_command_line_a_benchmark_or_a_file(tmp_path):
    assert choose_classes(["sky", " door, double door "], None) == ["sky", "door, double door"]
    assert len(choose_classes([], "ade150")) == 150
    (tmp_path / "a.txt").write_text("sky\ntraffic light\n\n")
    assert choose_classes([], str(tmp_path / "a.txt")) == ["sky", "traffic light"]
    (tmp_path / "a.json").write_text('["sky", "grass"]')
    assert choose_classes([], f"file://{tmp_path}/a.json") == ["sky", "grass"]


@pytest.mark.parametrize(
    ("classes", "vocabulary", "message"),
    [
        ([], None, "no classes given"),
        (["sky"], "ade150", "not both"),
        (["sky", "tree", "sky"], None, "'sky' is there more than once"),
        (["Traffic  light", "traffic light"], None, "more than once"),
        (["sky", " "], None, "class 2 has no name"),
        (["car, automobile", "car"], None, "'car' stands for two classes, 'car, automobile' and"),
        (["car, automobile", "bus, Automobile"], None, "'automobile' stands for two classes"),
        ([], "ade15", "unknown vocabulary 'ade15'; known: coco171"),
        ([], "scene", "voc20b, scenes"),
        ([], "/nowhere/a.txt", "no vocabulary file '/nowhere/a.txt'"),
    ],
)
def test_wrong_classes_are_said(classes, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        choose_classes(classes, vocabulary)


def test_a_list_may_share_synonyms_but_says_so(tmp_path, caplog):
    (tmp_path / "names.txt").write_text("car, automobile\nCar\nbus, automobile\n")
    assert len(choose_classes([], str(tmp_path / "names.txt"))) == 3
    (warning,) = caplog.messages
    assert "'car' stands for two classes, 'car, automobile' and 'Car' (and 1 more" in warning


@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_vocabularies_are_taken_without_a_warning(name, caplog):
    assert choose_classes([], name) == vocabulary(name)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one class"),
        (b"sky\n\ntree\n", "class 2 has no name"),
        (b"[1, 2]", "class 1 has no name"),
        (b'["sky"', "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"sky\nsky\n", "more than once"),
    ],
)
def test_wrong_vocabulary_files_are_said(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        choose_classes([], str(path))


def test_the_vocabulary_id_depends_on_names_and_order():
    ids = {vocabulary_id(names) for names in (["a", "b"], ["b", "a"], ["a"], ["a, b"])}
    assert len(ids) == 4
    assert vocabulary_id(["a", "b"]) == vocabulary_id(("a", "b"))


def test_labels_without_content_are_not_done(tmp_path):
    output = locate(str(tmp_path))
    shards.write_shard(output, 3, rows.LABELS.empty_table(), rows.ERRORS.empty_table())
    (tmp_path / "labels" / "part-00005.parquet").touch()
    assert shards.done_shards(output) == {3}
