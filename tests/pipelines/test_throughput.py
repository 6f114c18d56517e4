from functools import partial

import pytest

from pipelines.plan import LabelConfig
from pipelines.suite import goal_line
from pipelines.throughput import (
    StandIn,
    Throughput,
    draw_photos,
    goals,
    measure,
    steady_state,
    time_alone,
)
from sed.config import base, nano


def scored(*lines):
    return [{"start": s, "end": e, "images": n, "thread": 0} for s, e, n in lines]


def test_the_clock_starts_after_the_first_tenth():
    found = scored((0, 5, 1), (5, 6, 1), (6, 7, 4), (8, 9, 4))
    result = steady_state(found, 10, 1, alone=4.0, whole_job=1.0)
    assert result.pipeline == pytest.approx(9 / 4)
    assert result.busy == pytest.approx(3 / 4)
    assert result.ratio == pytest.approx(9 / 16)


def test_two_copies_share_the_work():
    found = scored((0, 1, 2), (0, 1, 2), (1, 3, 4), (1, 3, 4))
    result = steady_state(found, 12, 2, alone=5.0, whole_job=1.0)
    assert result.pipeline == pytest.approx(10 / 4)
    assert result.busy == pytest.approx(1)


def test_the_goal_of_a_job_is_judged_by_what_was_measured():
    found = Throughput(images=9, model_alone=10, pipeline=9.6, busy=0.8, whole_job=5)
    (speed,), (busy,) = goals(found, base()), goals(found, None)
    assert goal_line(speed) == "pipeline / model alone 0.96, goal >= 0.95: met"
    assert goal_line(busy) == "busy 0.80, goal >= 0.85: MISSED"
    assert (speed["value"], speed["met"], busy["met"]) == (0.96, True, False)
    assert goals(found, nano()) == []


def test_many_photos_take_the_room_of_few(tmp_path):
    draw_photos(tmp_path / "photos", 200, width=64, height=48)
    files = [path.stat().st_ino for path in (tmp_path / "photos").iterdir()]
    assert (len(files), len(set(files))) == (200, 64)


@pytest.mark.ray
def test_a_job_is_measured(local_ray, tmp_path, random_checkpoint):
    draw_photos(tmp_path / "photos", 70, width=64, height=48)
    assert len(list((tmp_path / "photos").iterdir())) == 70
    config = LabelConfig(
        images=str(tmp_path / "photos"),
        output=str(tmp_path / "out"),
        classes=[f"class {index}" for index in range(StandIn.num_survivors)],
        model=str(random_checkpoint),
        workers=1,
    )
    load_model = partial(StandIn, seconds=0.002)
    alone = time_alone(load_model(), config, batches=2)
    assert 0 < alone <= 500
    found = measure(
        config, load_model, folder=tmp_path / "measured", connect=lambda: None, alone=alone
    )
    assert found.images == 70
    assert 0 < found.busy <= 1
    assert found.pipeline > 0
    assert found.whole_job > 0
    assert {point.images for point in found.memory_curve} <= set(range(71))
    held = (found.memory_start_gb, found.memory_end_gb)
    assert all(0.1 < gb <= found.memory_peak_gb < 30 for gb in held)
