"""The table of speeds: goals are what they say, and a row is measured and drawn."""

import json
import sys
from dataclasses import replace

import pytest
from PIL import Image

from pipelines import benchmark, suite, suite_picture
from pipelines.benchmark import Case, measure, measure_in_subprocess
from pipelines.suite import Goal, Row, figures, lines
from sed import SED, save_model
from sed.config import nano

MEASURED = {
    "per_encoder": {"whole": 2.5, "encoder": 0.5},
    "seconds": {"whole": 5.0, "labels": 0.2, "encoder": 1.0, "photos": 0.1},
    "peak_memory_gb": 3.0,
    "encoder_memory_gb": 1.75,
    "load_average": 0.5,
    "batch_size": 2,
}


def test_a_bound_is_kept_from_the_side_that_it_says():
    most, least = Goal(figure="a", bound=2), Goal(figure="a", bound=2, least=True)
    assert [most.is_met(value) for value in (1, 2, 3)] == [True, True, False]
    assert [least.is_met(value) for value in (1, 2, 3)] == [False, True, True]


def test_the_table_holds_every_promise():
    promised = {
        (row.name, goal.figure): goal.bound for row in suite.rows("base") for goal in row.goals
    }
    assert promised == {
        ("150 classes", "whole / encoder"): 2.4,
        ("150 classes, two threads", "speed-up"): 1.6,
        ("847 classes, 85 survive", "whole / encoder"): 2.0,
        ("847 classes, fixed:128", "whole / encoder"): 1.7,
        ("847 classes", "whole / encoder"): 10,
        ("847 classes", "GB above encoder"): 2,
        ("class names", "name / encoder"): 0.25,
        ("class names", "each of 16 / encoder"): 0.25,
    }


def test_figures_are_ratios_memory_and_speed_up():
    slower = {"case": MEASURED | {"seconds": {"whole": 4.0}, "batch_size": 1}, "error": None}
    found = figures(MEASURED, slower)
    assert found["whole / encoder"] == 2.5
    assert found["GB above encoder"] == 1.25
    assert found["ms an image"] == pytest.approx(2500)
    assert found["speed-up"] == pytest.approx(1.6), "of an image, whatever the batch"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_a_row_is_compared_with_stands_before_it(device):
    names = []
    for row in suite.rows("base", device):
        assert row.speedup_of in ["", *names]
        assert row.case.device == device
        names.append(row.name)
    assert len(set(names)) == len(names)


def test_a_missed_goal_is_said_beside_what_was_measured():
    goal = {"figure": "whole / encoder", "bound": 2.4, "least": False, "authors": "7.2"}
    row = {
        "figures": figures(MEASURED),
        "case": MEASURED,
        "error": None,
        "goals": [goal | {"value": 2.5, "met": False}],
    }
    *_, last = lines(row)
    assert last.strip() == "whole / encoder 2.50, goal <= 2.4: MISSED (the authors: 7.2)"


def test_rows_are_measured_each_with_its_goals_and_drawn(tmp_path):
    model = str(save_model(SED(nano()), tmp_path / "model.safetensors"))
    first = suite.rows(model)[0]
    case = replace(first.case, classes=3, warmup=0, repeats=1)
    table = (
        Row(name="a", case=case),
        Row(
            name="b",
            case=replace(case, optimize=False),
            goals=(Goal(figure="speed-up", bound=1e-6, least=True),),
            speedup_of="a",
        ),
    )
    said = []
    found = list(suite.run(table, said.append))
    assert [row["name"] for row in json.loads(json.dumps(found))] == ["a", "b"]
    assert found[1]["goals"][0]["met"]
    assert any("goal >= 1e-06: met" in text for text in said)
    suite_picture.draw(found, tmp_path / "suite.png", "a processor")
    with Image.open(tmp_path / "suite.png") as picture:
        assert min(picture.size) > 300


TF32 = {"dtype": "float32", "tf32": True}
COMPILED = {"optimize": True, "batch_size": 16, "compile": True}
ASKED = {
    "150 classes, eager float32 (TF32), batch 1": TF32 | {"channels_last": False},
    "150 classes, eager float32 (TF32), channels last, batch 1": TF32,
    "150 classes, eager bfloat16, batch 1": {},
    "150 classes, eager bfloat16, packed pairs of 16": {"batch_size": 16},
    "150 classes, fast form, batch 1": {"optimize": True},
    "150 classes, fast form, batch 16": {"optimize": True, "batch_size": 16},
    "150 classes, compiled, batch 16": COMPILED,
    "150 classes, compiled, other survivors each time, batch 16": (
        COMPILED | {"varying": True, "warmup": 20}
    ),
    "150 classes, CUDA graphs, batch 16": COMPILED | {"graphs": True},
    "847 classes, compiled, batch 16": COMPILED | {"classes": 847, "survivors": 85},
    "class names": {"optimize": True, "classes": 0, "names": 630, "warmup": 1, "repeats": 2},
}


def test_a_gpu_measures_each_way_against_the_authors():
    usual = {"model": "base", "device": "cuda", "rejection": "topk:8", "survivors": 30,
             "warmup": 3, "repeats": 10, "optimize": False, "dtype": "bfloat16"}  # fmt: skip
    table = {row.name: row for row in suite.rows("base", "cuda")}
    assert {name: row.case for name, row in table.items()} == {
        name: Case(**usual | asked) for name, asked in ASKED.items()
    }
    assert suite.FAST in table
    assert {
        (name, goal.figure): (goal.bound, row.speedup_of)
        for name, row in table.items()
        for goal in row.goals
    } == {
        ("150 classes, compiled, batch 16", "ms an image"): (8, next(iter(ASKED))),
        ("150 classes, compiled, batch 16", "speed-up"): (6, next(iter(ASKED))),
        ("847 classes, compiled, batch 16", "speed-up"): (
            0.5,
            "150 classes, compiled, batch 16",
        ),
        ("class names", "s for 847 names"): (20, ""),
    }


def test_the_rows_of_a_gpu_run_drawn_in_milliseconds(tmp_path, monkeypatch, torch_settings):
    """On a CPU, with a small model: what differs is the device and the compiler."""
    model = str(save_model(SED(nano()), tmp_path / "model.safetensors"))
    compiled = []
    monkeypatch.setattr(benchmark, "compile_model", lambda _, graphs: compiled.append(graphs))
    monkeypatch.setattr(suite, "measure_in_subprocess", lambda case, **_: measure(case))
    monkeypatch.setattr(benchmark, "UNIT_WARMUP", 0)
    monkeypatch.setattr(benchmark, "UNIT_REPEATS", 1)
    small = {"device": "cpu", "classes": 3, "survivors": 2, "warmup": 0, "repeats": 1, "names": 2,
             "image_side": 80, "batch_size": 1}  # fmt: skip
    table = tuple(
        replace(row, case=replace(row.case, **small | {"classes": min(row.case.classes, 3)}))
        for row in suite.rows(model, "cuda")
    )
    said = []
    found = list(suite.run(table, said.append))
    assert [row["name"] for row in found] == list(ASKED)
    assert [row["error"] for row in found] == [None] * len(ASKED)
    assert compiled == [False, False, True, False]
    counted = [row for row in found if "compilations after warm-up" in row["figures"]]
    assert [row["name"] for row in counted] == list(ASKED)[6:10]
    for row in found[:-1]:
        assert row["figures"]["ms an image"] > row["figures"]["encoder ms an image"] > 0
        assert row["figures"]["peak GB"] > 0
        assert row["figures"]["photos s"] > 0
    assert all(goal["value"] > 0 for row in found for goal in row["goals"])
    assert sum("goal" in text for text in said) == 4
    suite_picture.draw(found, tmp_path / "suite.png", "a GPU", suite_picture.MILLISECONDS)
    with Image.open(tmp_path / "suite.png") as picture:
        assert min(picture.size) > 300


def test_a_row_that_fails_misses_its_goals_and_the_others_are_measured(monkeypatch):
    def fail(case, **_):
        if case.compile:
            raise RuntimeError("measuring failed:\nno compiler")
        return MEASURED

    monkeypatch.setattr(suite, "measure_in_subprocess", fail)
    asked = (*list(ASKED)[:7], "847 classes, compiled, batch 16")
    table = [row for row in suite.rows("base", "cuda") if row.name in asked]
    said = []
    *others, compiled, last = suite.run(table, said.append)
    assert [row["error"] for row in others] == [None] * len(others)
    assert "speed-up" in others[-1]["figures"]
    for row in (compiled, last):
        assert row["error"].endswith("no compiler")
        assert row["figures"] == {}
        assert [(goal["value"], goal["met"]) for goal in row["goals"]] == [
            (None, False) for _ in row["goals"]
        ]
    assert "  FAILED: no compiler" in said
    assert "  ms an image not measured, goal <= 8: MISSED" in said


def test_a_row_that_hangs_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", hanging(tmp_path / "python"))
    with pytest.raises(RuntimeError, match=r"measuring Case\(model='nano'.* took more than 0.2 s"):
        measure_in_subprocess(Case(), most_seconds=0.2)


def test_rows_are_chosen_by_name_in_the_order_of_the_table():
    possible = suite.names("base", "cpu")
    assert suite.choose(possible, ()) == possible
    assert suite.choose(possible, ("847 classes", "150 classes")) == ("150 classes", "847 classes")
    with pytest.raises(ValueError, match="no row is called '15 classes'; there are: 20 classes; "):
        suite.choose(possible, ("15 classes",))
    assert suite.names("base", "cuda")[-2:] == ("approximations", "profile")


def test_a_row_that_is_measured_again_is_compared_with_one_measured_earlier(monkeypatch):
    monkeypatch.setattr(suite, "measure_in_subprocess", lambda _, **__: MEASURED)
    slow = MEASURED | {"seconds": MEASURED["seconds"] | {"whole": 50.0}}
    table = [row for row in suite.rows("base") if row.name == "150 classes, two threads"]
    for earlier, speed_up in (({}, None), ({"150 classes": {"case": slow, "error": None}}, 10)):
        (found,) = suite.run(table, lambda _: None, earlier)
        assert found["figures"].get("speed-up") == speed_up


def test_the_memory_of_each_row_is_in_the_table(monkeypatch):
    monkeypatch.setattr(suite, "measure_in_subprocess", lambda _, **__: MEASURED)
    found = list(suite.run(suite.rows("base")[:1], lambda _: None))
    head, line = suite.total(found)
    assert head.split()[-4:] == ["peak", "GB", "above", "encoder"]
    assert line.split() == ["20", "classes", "2500.00", "3.00", "1.25"]


def test_the_picture_says_of_what_machine_and_days_its_figures_are():
    facts = {"command": "c", "date": "2026-11-28", "device": "an H200", "torch": "2.15.0"}
    found = suite_picture.title(facts, [{"date": "2026-11-27"}, {"date": "2026-11-28"}])
    assert found == "command: c, date: 2026-11-27, 2026-11-28, device: an H200, torch: 2.15.0"


def hanging(program):
    """Write a program that does not end by itself soon; return its path."""
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    return str(program)
