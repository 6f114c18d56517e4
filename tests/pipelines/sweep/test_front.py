"""The front, the choice on it, and which trials are worth more images."""

import json

import pytest

from pipelines.storage import locate
from pipelines.sweep.front import choose, front, speed_gain
from pipelines.sweep.stopping import ParetoHalving, goes_on


def trial(name, cost, drop, *, reference=False, seconds=None):
    seconds = cost if seconds is None else seconds
    return {
        "rejection": name,
        "cost": cost,
        "drop_points": drop,
        "miou": 80 - drop,
        "reference": reference,
        "images": 32,
        "alone_decoder_seconds": seconds,
        "alone_images_per_second": 1 / (0.5 + seconds),
    }


TRIALS = [
    trial("none", 1, 0),
    trial("topk:8", 0.5, 0.1, reference=True),
    trial("topk:1", 0.1, 3, reference=True),
    trial("fixed:9", 0.2, 0.05),
    trial("prob:0.9", 0.3, 2),
]


def test_the_front_has_what_nobody_dominates_the_cheapest_first():
    assert [one["rejection"] for one in front(TRIALS)] == ["topk:1", "fixed:9", "none"]


def test_of_trials_that_came_out_the_same_one_is_on_the_front():
    trials = [trial("topk:1", 0.2, 1), trial("prob:0.9", 0.2, 1), trial("none", 1, 0)]
    assert [one["rejection"] for one in front(trials)] == ["topk:1", "none"]


def test_the_choice_is_the_fastest_that_loses_little_enough():
    assert choose(TRIALS, 0.2)["rejection"] == "fixed:9"
    assert choose(TRIALS, 5)["rejection"] == "topk:1"
    assert choose(TRIALS, 0)["rejection"] == "none"
    assert choose(TRIALS, -1) is None


def test_the_clock_decides_where_cost_is_no_measure_of_speed():
    trials = [trial("topk:1", 0.1, 0, seconds=0.9), trial("prob:0.5", 0.2, 0, seconds=0.3)]
    assert choose(trials, 0.2)["rejection"] == "prob:0.5"


def test_of_what_the_clock_cannot_tell_apart_the_most_accurate_is_chosen():
    trials = [
        trial("prob:0.9", 0.1, 0.1, seconds=0.50),
        trial("fixed:9", 0.4, 0, seconds=0.50),
        trial("topk:2", 0.2, 0, seconds=0.51),
        trial("topk:1", 0.1, 3, seconds=0.50),
        trial("none", 1, 0),
    ]
    assert choose(trials, 0.2)["rejection"] == "topk:2"


def test_the_gain_is_over_the_most_accurate_single_k():
    gain = speed_gain(TRIALS)
    assert (gain["single_k"], gain["policy"]) == ("topk:8", "fixed:9")
    assert gain["by_decoder"] == gain["by_cost"] == 2.5
    assert gain["by_whole"] == pytest.approx(1 / 0.7)
    assert speed_gain(TRIALS[:1]) is None


def test_undominated_trials_go_on_and_the_worst_do_not():
    rung = {str(index): (index, index) for index in range(9)}
    assert [goes_on(str(index), rung) for index in range(9)] == [True] * 3 + [False] * 6
    assert all(goes_on(str(index), {str(i): (i, -i) for i in range(9)}) for index in range(9))


def test_the_scheduler_spares_references_and_remembers_an_earlier_start(tmp_path):
    place = locate(str(tmp_path))
    (tmp_path / f".half.json.{0:032x}").write_text("")  # a kill amid the writing leaves a draft
    for index, one in enumerate(TRIALS[2:4]):
        place.at(f"{index}.json").write(json.dumps([one]).encode())
    scheduler = ParetoHalving(64, place)
    decide = lambda one: scheduler.on_trial_result(None, None, one)  # noqa: E731
    assert decide(trial("topk:16", 0.9, 0.4, reference=True)) == "CONTINUE"
    assert decide(trial("fixed:20", 0.4, 1)) == "STOP"
    assert decide(trial("fixed:21", 0.05, 1)) == "CONTINUE"
    assert decide(trial("fixed:22", 0.9, 9) | {"images": 64}) == "CONTINUE"
