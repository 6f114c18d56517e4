"""The file of the table of speeds: what was measured is in it, whatever comes after."""

import json

import pytest

from pipelines import suite
from pipelines.benchmark import Case
from pipelines.suite import compare
from pipelines.suite_file import SuiteFile

FACTS = {
    "device": "a processor", "torch": "2.15.0", "model": "base", "allocator": "default",
    "date": "2026-11-28", "command": "all",
}  # fmt: skip
ORDER = ("a", "b", "c")


def row(name, value, error=None):
    return {"name": name, "figures": {"ms an image": value}, "error": error}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "suite.json"


def written(path):
    found = json.loads(path.read_text())
    return [(one["name"], one["figures"]["ms an image"], one["date"]) for one in found["rows"]]


def test_each_row_is_in_the_file_as_soon_as_it_is_measured(path):
    file = SuiteFile(path, FACTS, ORDER)
    for rows, name in enumerate("ab", 1):
        file.put_row(row(name, rows))
        assert len(written(path)) == rows
    assert [one.name for one in path.parent.iterdir()] == ["suite.json"], "no draft is left"


def test_rows_measured_again_take_their_places_among_the_others(path):
    file = SuiteFile(path, FACTS, ORDER)
    for place, name in enumerate("abc"):
        file.put_row(row(name, place))
    file.put_accuracy([{"form": "exact"}])
    file.put_error("profile", "no GPU")
    later = {**FACTS, "date": "2026-11-29", "command": "--rows b"}
    again = SuiteFile(path, later, ("c", "b", "new"))
    again.put_row(row("b", 7))
    assert written(path) == [("c", 2, "2026-11-28"), ("b", 7, "2026-11-29")]
    found = json.loads(path.read_text())
    assert found["rows"][1]["command"] == "--rows b"
    assert found["accuracy"] == [{"form": "exact", "date": "2026-11-28", "command": "all"}]
    assert found["errors"] == {"profile": "no GPU"}


@pytest.mark.parametrize("name", ["device", "torch", "model", "allocator"])
def test_rows_of_another_machine_are_set_aside(path, name):
    SuiteFile(path, FACTS, ORDER).put_row(row("a", 1))
    before = path.read_text()
    SuiteFile(path, {**FACTS, name: "another"}, ORDER).put_row(row("b", 2))
    assert written(path) == [("b", 2, "2026-11-28")]
    assert path.with_name("suite.previous-1.json").read_text() == before


def test_nothing_that_was_set_aside_is_written_over(path):
    for number, device in enumerate("abc"):
        SuiteFile(path, {**FACTS, "device": device}, ORDER).put_row(row("a", number))
    for number in (1, 2):
        found = json.loads(path.with_name(f"suite.previous-{number}.json").read_text())
        assert found["device"] == "ab"[number - 1]


def test_a_row_that_fails_later_leaves_what_was_measured(path):
    SuiteFile(path, FACTS, ORDER).put_row(row("a", 1))
    file = SuiteFile(path, FACTS, ORDER)
    file.put_row({"name": "a", "figures": {}, "error": "no memory"})
    assert written(path) == [("a", 1, "2026-11-28")]
    assert file.failed(("a",)) == ["a"]
    file.put_row(row("a", 2))
    assert written(path) == [("a", 2, "2026-11-28")]
    assert file.failed(("a",)) == []


def measured(seconds):
    """What a row's process finds."""
    times = {"whole": seconds, "encoder": 1, "labels": 1, "photos": 1}
    return {
        "per_encoder": {"whole": 1.0, "encoder": 0.5}, "seconds": times, "batch_size": 1,
        "peak_memory_gb": 2.0, "encoder_memory_gb": 1.0,
    }  # fmt: skip


def test_a_row_is_compared_with_what_was_measured_since(path):
    goal = suite.Goal(figure="speed-up", bound=3, least=True)
    first = suite.Row(name="a", case=Case())
    second = suite.Row(name="b", case=Case(), goals=(goal,), speedup_of="a")
    file = SuiteFile(path, FACTS, ORDER)
    for one, before in ((first, None), (second, {"case": measured(4.0)})):
        case = measured(1.0)
        file.put_row({"name": one.name, "error": None, "case": case} | compare(one, case, before))
    assert file.rows["b"]["figures"]["speed-up"] == 4
    assert file.rows["b"]["goals"][0]["met"]
    file.compare_again((first, second))
    *_, found = json.loads(path.read_text())["rows"]
    assert found["figures"]["speed-up"] == 1
    assert not found["goals"][0]["met"]


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}'])
def test_a_file_that_is_none_of_this_is_set_aside(path, text):
    path.parent.mkdir()
    path.write_text(text)
    SuiteFile(path, FACTS, ORDER).put_row(row("a", 1))
    assert written(path) == [("a", 1, "2026-11-28")]
    assert path.with_name("suite.previous-1.json").read_text() == text


def test_what_failed_is_said_of_what_was_asked_for(path):
    file = SuiteFile(path, FACTS, ORDER)
    file.put_row(row("a", 1, error="no memory"))
    file.put_row(row("b", 1))
    file.put_error("profile", "no GPU")
    assert file.failed(("b", "profile", "approximations")) == ["profile"]
    assert file.failed(("a", "b")) == ["a"]
    file.put_error("profile", None)
    assert file.failed(("profile",)) == []
