import json

import pytest

from jobs import verify
from pipelines import outputs
from pipelines.storage import locate
from tests.fakes import write_photos


def args(tmp_path, **options):
    return verify.Args(
        labels=str(tmp_path / "out"), images=str(tmp_path / "photos"), json=True, **options
    )


def test_a_place_without_labels_is_wrong_input(tmp_path, capsys):
    write_photos(tmp_path / "photos", 2)
    with pytest.raises(SystemExit) as stopped:
        verify.main(args(tmp_path))
    assert stopped.value.code == 2
    assert "there is no output of label at" in capsys.readouterr().err


@pytest.fixture
def names(tmp_path):
    """The photos of an output that holds no label of them."""
    run = {
        "status": "done",
        "counts": {"inputs": 2, "labelled": 2, "errors": 0},
        "run_id": "r",
        "classes": ["red"],
        "identity": {"vocabulary_id": "v", "model_id": "m", "rejection": "none"},
        "configuration": {"images_column": "image_uri", "limit": None},
    }
    outputs.write_run(locate(str(tmp_path / "out")), run)
    return write_photos(tmp_path / "photos", 2)


def test_ctrl_c_ends_in_one_line(tmp_path, names, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.verify.judge", stop)
    with pytest.raises(SystemExit) as stopped:
        verify.main(args(tmp_path))
    assert stopped.value.code == 130
    said = "Interrupted: the check did not finish; the same command begins it again."
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_what_is_missing_is_listed_and_the_status_is_1(tmp_path, names, capsys):
    with pytest.raises(SystemExit) as stopped:
        verify.main(args(tmp_path))
    assert stopped.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    for name in names:
        assert f"{tmp_path}/photos/{name}: neither in labels/ nor in errors/" in lines
    assert lines[0] == f"Checked against the 2 images that are in {tmp_path}/photos now"
    result = json.loads(lines[-1])
    assert result["labelled"] == 0
    assert len(result["problems"]) == 4
