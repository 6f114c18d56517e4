import json
from typing import get_args, get_type_hints

import pytest

from jobs import export
from pipelines.export import FORMATS
from pipelines.export.export import WritePiece
from pipelines.storage import Location
from tests.pipelines.export.corpora import NAMES, many, tree, write_labels


def args(tmp_path, kind="coco", **options):
    places = {"labels": str(tmp_path / "labels"), "output": str(tmp_path / "out")} | options
    return export.Args(format=kind, json=True, **places)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Whatever these tests do, so few images need no Ray; a wrong input starts none."""

    def connect():
        raise AssertionError("Ray was started")

    monkeypatch.setattr(export.session, "connect", connect)


def test_the_flag_knows_every_format():
    assert get_args(get_type_hints(export.Args)["format"]) == tuple(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_says_where_it_is(tmp_path, capsys, kind):
    write_labels(tmp_path)
    export.main(args(tmp_path, kind))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith(f"{len(NAMES)} images, ")
    assert lines[-2].endswith(f" segments as {kind}: {tmp_path}/out")
    result = json.loads(lines[-1])
    assert (result["status"], result["format"], result["images"]) == ("done", kind, len(NAMES))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": "/nowhere"}, "there is no output of label at '/nowhere'"),
        ({"labels": "ftp://host/x"}, "is no path"),
        ({"kind": "cvat"}, "at most 255 classes, these labels have 256"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(tmp_path, capsys, change, words):
    write_labels(tmp_path, classes=many(256))
    with pytest.raises(SystemExit) as stopped:
        export.main(args(tmp_path, **change))
    assert stopped.value.code == 2
    found = capsys.readouterr().err.splitlines()
    assert words in found[-1]
    assert found[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_full_output_is_refused(tmp_path, capsys):
    write_labels(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        export.main(args(tmp_path))
    assert stopped.value.code == 2
    assert "is not empty: use another --output" in capsys.readouterr().err


def stop_after_a_piece(monkeypatch):
    write = WritePiece.write

    def once(self, piece):
        write(self, piece)
        raise KeyboardInterrupt

    monkeypatch.setattr(WritePiece, "write", once)


def stop_while_parts_are_removed(monkeypatch):
    remove = Location.remove

    def half(self):
        if not self.at("images").exists():
            return remove(self)
        remove(self.at("images"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Location, "remove", half)


@pytest.mark.parametrize("stop", [stop_after_a_piece, stop_while_parts_are_removed])
def test_ctrl_c_ends_in_one_line_and_the_same_command_continues(
    tmp_path, capsys, monkeypatch, stop
):
    write_labels(tmp_path)
    export.main(args(tmp_path, output=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        stop(patch)
        with pytest.raises(SystemExit) as stopped:
            export.main(args(tmp_path))
    assert stopped.value.code == 130
    said = "Interrupted: the same command continues where this one stopped."
    assert capsys.readouterr().out.splitlines()[-1] == said
    export.main(args(tmp_path))
    one, two = tree(tmp_path / "whole"), tree(tmp_path / "out")
    assert json.loads(two.pop("export.json"))["status"] == "done"
    del one["export.json"]
    assert one == two
