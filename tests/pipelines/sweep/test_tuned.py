"""A rejection that was tuned for one thing is not used for another."""

import json

import pytest

from pipelines.sweep.tuned import check_tuned


@pytest.fixture
def tuned(tmp_path):
    path = tmp_path / "rejection.json"
    evidence = {"model_id": "sha256:abc", "vocabulary": ["sky", "car"], "vocabulary_id": "sha256:v"}
    path.write_text(json.dumps({"rejection": "topk:2", "evidence": evidence}))
    return str(path)


def test_the_same_model_and_names_in_any_order_fit(tuned):
    check_tuned(tuned, model_id="sha256:abc", classes=["car", "sky"])


def test_another_model_is_refused(tuned):
    with pytest.raises(ValueError, match=r"tuned for another model .*sweep again"):
        check_tuned(tuned, model_id="sha256:other", classes=["sky", "car"])


def test_another_vocabulary_is_refused(tuned):
    with pytest.raises(ValueError, match="tuned for another vocabulary"):
        check_tuned(tuned, model_id="sha256:abc", classes=["sky"])


def test_evidence_without_a_vocabulary_fits_none(tmp_path):
    path = tmp_path / "edited.json"
    evidence = {"model_id": "sha256:abc", "vocabulary": None}
    path.write_text(json.dumps({"rejection": "topk:2", "evidence": evidence}))
    with pytest.raises(ValueError, match="tuned for another vocabulary"):
        check_tuned(str(path), model_id="sha256:abc", classes=["sky"])


def test_what_no_sweep_wrote_fits_everything(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"rejection": "topk:2"}')
    for text in ("topk:8", str(path), "nowhere.json"):
        check_tuned(text, model_id="sha256:abc", classes=["sky"])
