"""The table of speeds: goals are what they say, and a row is measured and drawn."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from pipelines import suite
from pipelines.suite import Goal, Row, figures, lines
from sed import SED, save_model
from sed.config import nano

MEASURED = {
    "per_encoder": {"whole": 2.5, "encoder": 0.5},
    "seconds": {"whole": 5.0, "labels": 0.2},
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
    slower = {"case": MEASURED | {"seconds": {"whole": 4.0}, "batch_size": 1}}
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
    found = suite.run(table, said.append)
    assert [row["name"] for row in json.loads(json.dumps(found))] == ["a", "b"]
    assert found[1]["goals"][0]["met"]
    assert any("goal >= 1e-06: met" in text for text in said)
    suite.draw(found, tmp_path / "suite.png", "a processor")
    with Image.open(tmp_path / "suite.png") as picture:
        assert min(picture.size) > 300
