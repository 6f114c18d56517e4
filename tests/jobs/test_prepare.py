import json

import pytest

from jobs import prepare, session
from tests import replicas


def arguments(replica, output, *more):
    return [replica.name, "--source", str(replica.source), "--output", str(output), *more]


def run(monkeypatch, *argv):
    """What `python -m jobs.prepare ARGV` does; returns its exit status."""
    monkeypatch.setattr("sys.argv", ["prepare", *argv])
    try:
        prepare.main(session.parse(prepare.Args))
    except SystemExit as stopped:
        return stopped.code
    return 0


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_folder_is_prepared_and_the_result_is_said(monkeypatch, tmp_path, capsys):
    replica = replicas.make("folder", tmp_path / "in")
    assert run(monkeypatch, *arguments(replica, tmp_path / "out", "--json")) == 0
    (result,) = last_json(capsys)["splits"]
    assert (result["dataset"], result["split"]) == ("folder", "val")
    assert (result["images"], result["errors"], result["classes"]) == (3, 0, 3)
    assert result["digest"].startswith("sha256:")
    assert result["output"] == str(tmp_path / "out/val")


def test_files_that_cannot_be_used_are_listed_and_the_status_is_1(monkeypatch, tmp_path, capsys):
    replica = replicas.make("folder", tmp_path / "in")
    replica.images["photo 2"].write_bytes(b"no image")
    argv = arguments(replica, tmp_path / "out", "--json")
    assert run(monkeypatch, *argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("photo 2: DamagedImage: images/val/photo 2.jpg: ")
    assert json.loads(lines[-1])["splits"][0]["problems"][0]["image_id"] == "photo 2"
    assert run(monkeypatch, *argv, "--allow-partial") == 0
    assert last_json(capsys)["splits"][0]["images"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--split", "train"], "there is no images/train in"),
        (["--source", "/nowhere"], "there is no folder /nowhere"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(monkeypatch, tmp_path, capsys, change, words):
    replica = replicas.make("folder", tmp_path / "in")
    assert run(monkeypatch, *arguments(replica, tmp_path / "out", *change)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_not_given_or_unknown_is_said(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "name a dataset (coco-stuff, ade20k-150" in capsys.readouterr().err
    assert run(monkeypatch, "cityscapes", "--source", "a", "--output", "b") == 2
    assert "unknown dataset 'cityscapes'" in capsys.readouterr().err
    assert run(monkeypatch, "folder", "--source", "a") == 2
    assert "--output is needed" in capsys.readouterr().err


def test_the_list_says_what_there_is_and_where_to_get_it(monkeypatch, capsys):
    assert run(monkeypatch, "--list", "--json") == 0
    out = capsys.readouterr().out
    assert "ade20k-847: ADE20K 2021_17_01, 847 classes" in out
    found = {each["name"]: each for each in json.loads(out.splitlines()[-1])["datasets"]}
    assert [len(found), found["pascal-voc-20b"]["classes"], found["pascal-voc-20b"]["asked"]] == [
        7,
        21,
        59,
    ]
    assert found["coco-stuff"]["counts"] == {"train": [118287], "val": [5000]}
    for each in found.values():
        assert each["licence"]
        assert all(place.startswith("http") or "DeepLab" in place for place in each["places"])
