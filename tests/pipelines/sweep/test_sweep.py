"""Whole sweeps on Ray Tune, with a model that takes no time."""

import json

import pytest

from pipelines.sweep.record import recorded_sweep
from pipelines.sweep.space import Space
from pipelines.sweep.sweep import sweep
from pipelines.sweep.timing import ROUNDS
from tests.pipelines.sweep.colours import Counting, Failing, colour_plan, load_colours

pytestmark = pytest.mark.ray

NUM_IMAGES = 70
"""More than two rungs: trials report after 32, 64 and all of them."""

SPACE = Space(
    ("fixed:{f}", "topk:{k0},{k1},{k2}", "fixed:{f}+topk:{k}"),
    {"f": (1, 2, 3, 4), "k": (1, 2), "k0": (1, 2, 3), "k1": (1, 2), "k2": (1, 2)},
)


def test_optuna_suggests_policies_beyond_the_list_and_some_are_stopped_early(local_ray, tmp_path):
    plan = colour_plan(
        local_ray, tmp_path / "out", images=NUM_IMAGES, trials=14, space=SPACE, search="optuna"
    )
    found = sweep(plan, load_colours, {})
    assert found["failed_trials"] == 0
    none, *trials = found["trials"]
    assert none["rejection"] == "none"
    tried = [one["rejection"] for one in trials]
    assert len(tried) == len(set(tried)) == 14
    assert plan.listed == ["topk:1", "topk:2", "topk:4"]
    assert set(plan.listed) < set(tried)
    assert len(set(tried) - set(plan.listed)) == 11
    images = {one["rejection"]: one["images"] for one in trials}
    assert set(images.values()) >= {32, NUM_IMAGES}
    assert {images[text] for text in plan.listed} == {NUM_IMAGES}
    for one in trials:
        stopped = one["images"] < NUM_IMAGES
        assert ("alone_decoder_seconds" in one) != stopped
        assert one["peak_memory_gb"] is None or one["peak_memory_gb"] >= 0
        if stopped:  # somebody was better in one respect and as good in the other
            assert any(
                other["cost"] <= one["cost"] and other["drop_points"] <= one["drop_points"] + 1e-9
                for other in trials
                if other is not one
            )
    assert none["peak_memory_gb"] is None or none["peak_memory_gb"] >= 0


def test_each_image_is_encoded_once_whatever_is_tried(local_ray, tmp_path):
    grid = Space(("fixed:{f}",), {"f": (2, 3)})
    plan = colour_plan(local_ray, tmp_path / "out", images=20, trials=5, space=grid, search="grid")
    log = tmp_path / "encoded"
    found = sweep(plan, Counting(str(log)), {})
    assert len(found["trials"]) == 1 + 5
    photos, noise = 20, (1 + ROUNDS) * 8  # the clock of the encoder runs on a batch of noise
    assert sum(map(int, log.read_text().split())) == photos + noise


def test_a_trial_that_failed_is_counted_and_tried_again_by_the_same_command(local_ray, tmp_path):
    fault = tmp_path / "fault"
    fault.touch()

    def start():
        grid = Space(("fixed:{f}",), {"f": (2, 3)})
        plan = colour_plan(
            local_ray, tmp_path / "out", images=6, trials=5, space=grid, search="grid"
        )
        return recorded_sweep(
            plan, Failing("fixed:3", str(fault)), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
            experiment="sed", params={},
        )  # fmt: skip

    first = start()
    assert first["failed_trials"] == 1
    rest = ["none", "topk:1", "topk:2", "topk:4", "fixed:2"]
    assert sorted(one["rejection"] for one in first["trials"]) == sorted(rest)
    assert first["chosen"] in rest
    page = tmp_path / "out/report/index.html"
    assert "1 trial failed" in page.read_text()
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out/trials").iterdir()}
    fault.unlink()
    again = start()
    assert again["failed_trials"] == 0
    assert sorted(one["rejection"] for one in again["trials"]) == sorted([*rest, "fixed:3"])
    assert "failed" not in page.read_text()
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert json.loads((tmp_path / "out/sweep.json").read_text()) == again
