"""When a sweep counts as done, and what a start after that does."""

import json
from types import SimpleNamespace

import pytest

from pipelines.storage import locate
from pipelines.sweep import record
from pipelines.sweep.plan import SWEEP_FILE
from pipelines.sweep.sweep import is_restorable

RESULT = {"max_miou_drop": 0.2, "failed_trials": 0, "chosen": None}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Returns a function that starts the same sweep, whose searching and drawing take no time."""
    monkeypatch.setattr(record, "sweep", lambda *_: dict(RESULT))
    monkeypatch.setattr(record, "conclude", lambda _, found, __: found)
    monkeypatch.setattr(record, "render", lambda _: "page")
    monkeypatch.setattr(record, "draw", lambda _: b"picture")
    monkeypatch.setattr(record, "record", lambda *_: None)
    monkeypatch.setattr(record, "record_trials", lambda *_: None)
    plan = SimpleNamespace(
        config=SimpleNamespace(max_miou_drop=0.2),
        output=locate(str(tmp_path / "out")),
        data=SimpleNamespace(name="scenes", source="scenes", digest="sha256:0"),
        model_id="sha256:1",
        state={"identity": {}},
    )
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return lambda: record.recorded_sweep(
        plan, lambda: None, tracking_uri=uri, experiment="sed", params={}
    )


def search_is_an_error(monkeypatch):
    def sweep(*_):
        raise AssertionError("searched again")

    monkeypatch.setattr(record, "sweep", sweep)


@pytest.mark.parametrize("last", ["record", "record_trials"])
def test_a_sweep_that_was_not_recorded_is_not_done(start, tmp_path, monkeypatch, last):
    def killed(*_):
        raise RuntimeError("killed")

    done = tmp_path / "out" / SWEEP_FILE
    with monkeypatch.context() as during:
        during.setattr(record, last, killed)
        with pytest.raises(RuntimeError, match="killed"):
            start()
    assert (tmp_path / "out/report/index.html").read_text() == "page"
    assert not done.exists()
    assert start() == RESULT
    assert json.loads(done.read_text()) == RESULT


def test_a_sweep_that_is_done_is_not_searched_again(start, monkeypatch):
    start()
    search_is_an_error(monkeypatch)
    assert start() == RESULT


def test_a_sweep_with_failed_trials_is_searched_again(start, tmp_path, monkeypatch):
    start()
    (tmp_path / "out" / SWEEP_FILE).write_text(json.dumps({**RESULT, "failed_trials": 1}))
    assert start() == RESULT
    search_is_an_error(monkeypatch)
    assert start() == RESULT


@pytest.mark.parametrize(
    ("state", "restorable"), [(None, False), ("", False), ('{"trials"', False), ('{"a": 1}', True)]
)
def test_a_kill_before_or_amid_tunes_writing_leaves_nothing_to_restore(tmp_path, state, restorable):
    (tmp_path / "tuner.pkl").write_bytes(b"")
    if state is not None:
        (tmp_path / "experiment_state-2026-01-01_00-00-00.json").write_text(state)
    assert is_restorable(locate(str(tmp_path))) == restorable
