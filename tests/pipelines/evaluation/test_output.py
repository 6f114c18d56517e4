import json

import pytest

from pipelines.evaluation.output import SCORES, check_output
from pipelines.storage import locate

IDENTITY = {"model_id": "sha256:1", "dataset": ["scenes"], "rejection": ["none"], "limit": None}


def write(folder, content):
    (folder / SCORES).write_text(content)


def test_an_output_may_be_new_or_the_same_again(tmp_path):
    check_output(locate(str(tmp_path / "new")), IDENTITY)
    write(tmp_path, json.dumps({"identity": IDENTITY}))
    check_output(locate(str(tmp_path)), IDENTITY)


def test_the_output_of_another_job_is_not_written_over(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match="is not empty and holds no evaluation"):
        check_output(locate(str(tmp_path)), IDENTITY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps({"identity": IDENTITY | {"model_id": "sha256:2"}}), "another model_id"),
        (json.dumps({"identity": IDENTITY | {"limit": 5}}), "another limit"),
        (json.dumps({"datasets": []}), "not of this version"),
        (json.dumps([1]), "not of this version"),
        ("no json", "not of this version"),
    ],
)
def test_the_scores_of_another_evaluation_are_not_written_over(tmp_path, content, words):
    write(tmp_path, content)
    with pytest.raises(ValueError, match=words):
        check_output(locate(str(tmp_path)), IDENTITY)
