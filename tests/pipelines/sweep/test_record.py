"""When a sweep counts as done, and what a start after that does."""

import json
from types import SimpleNamespace

import pytest

from pipelines import tracking
from pipelines.report import PAGE
from pipelines.storage import locate
from pipelines.sweep import record
from pipelines.sweep.plan import REJECTION_FILE, SWEEP_FILE
from pipelines.sweep.results import FOUND
from pipelines.sweep.sweep import is_restorable

RESULT = {"max_miou_drop": 0.2, "chosen": None, **dict.fromkeys(FOUND, 0)}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Returns a function that starts the same sweep, whose searching and drawing take no time."""
    monkeypatch.setattr(record, "sweep", lambda *_: dict(RESULT))
    monkeypatch.setattr(
        record,
        "conclude",
        lambda plan, found, _: {
            **found, "chosen": None, "max_miou_drop": plan.config.max_miou_drop
        },
    )  # fmt: skip
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

    def start(uri=f"sqlite:///{tmp_path}/mlflow.db", max_miou_drop=0.2, **known):
        plan.state |= known
        plan.config.max_miou_drop = max_miou_drop
        return record.recorded_sweep(
            plan, lambda: None, tracking_uri=uri, experiment="sed", params={}
        )

    return start


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


def test_a_start_without_a_server_does_not_forget_the_run(start, tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(record, "sweep", lambda *given: states.append(given[-1]) or dict(RESULT))
    start(mlflow_run_id="1f", uri="http://127.0.0.1:9")
    assert states == [{"mlflow_run_id": "1f"}]


def test_a_sweep_that_is_done_is_not_searched_again(start, monkeypatch):
    start()
    search_is_an_error(monkeypatch)
    assert start() == RESULT


def test_another_bound_asks_for_no_search(start, tmp_path, monkeypatch):
    start()
    search_is_an_error(monkeypatch)
    found = start(max_miou_drop=1.5)
    assert found == {**RESULT, "max_miou_drop": 1.5}
    assert json.loads((tmp_path / "out" / SWEEP_FILE).read_text()) == found


def test_a_kill_amid_another_choice_does_not_bring_the_first_one_back(start, tmp_path, monkeypatch):
    def killed(*_):
        raise RuntimeError("killed")

    start()
    search_is_an_error(monkeypatch)
    with monkeypatch.context() as during:
        during.setattr(record, "record", killed)
        with pytest.raises(RuntimeError, match="killed"):
            start(max_miou_drop=1.5)
    (tmp_path / "out/report/index.html").unlink()
    start()
    assert (tmp_path / "out/report/index.html").exists()  # all is written again


def test_a_sweep_with_failed_trials_is_searched_again(start, tmp_path, monkeypatch):
    start()
    (tmp_path / "out" / SWEEP_FILE).write_text(json.dumps({**RESULT, "failed_trials": 1}))
    assert start() == RESULT
    search_is_an_error(monkeypatch)
    assert start() == RESULT


def test_a_choice_that_a_later_bound_takes_back_leaves_the_run(tmp_path):
    uri, output = f"sqlite:///{tmp_path}/mlflow.db", locate(str(tmp_path / "out"))
    output.at(*PAGE).write(b"page")
    output.at(REJECTION_FILE).write(b"{}")
    trial = {"rejection": "topk:1", "miou": 80.0, "kept": [1, 1, 1], "recall": [1, 1, 1]}
    result = {"chosen": "topk:1", "seconds": 1.0, "front": ["topk:1"], "trials": [trial]}
    client = tracking.store.connect(uri)

    def recorded(result):
        with tracking.run(uri, "sed", "sweep", run_id=known.get("id")) as run:
            known.setdefault("id", run.id)
            record.record(result, output, run)
        tags = client.get_run(known["id"]).data.tags
        return tags.get("chosen"), {file.path for file in client.list_artifacts(known["id"])}

    known = {}
    files = {"rejection.json", "sweep.json", "report"}
    assert recorded(result) == ("topk:1", files)
    output.at(REJECTION_FILE).remove()
    assert recorded(result | {"chosen": None}) == (None, files - {"rejection.json"})
    assert recorded(result | {"chosen": None}) == (None, files - {"rejection.json"})


@pytest.mark.parametrize(
    ("state", "restorable"), [(None, False), ("", False), ('{"trials"', False), ('{"a": 1}', True)]
)
def test_a_kill_before_or_amid_tunes_writing_leaves_nothing_to_restore(tmp_path, state, restorable):
    (tmp_path / "tuner.pkl").write_bytes(b"")
    if state is not None:
        (tmp_path / "experiment_state-2026-01-01_00-00-00.json").write_text(state)
    assert is_restorable(locate(str(tmp_path))) == restorable
