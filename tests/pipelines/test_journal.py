"""What is said of a training while it runs, however slow or dead the server is."""

import dataclasses
import itertools
import threading
import time
import types

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import tracking
from pipelines.feed import Feed
from pipelines.journal import Journal, Tracker, journal, learning_rates
from pipelines.tracking.background import BackgroundRun
from pipelines.tracking.system import sample
from tests.training import make_config

CONFIG = make_config(max_steps=3)


@pytest.fixture
def optimizer():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [w], "share": share} for w, share in zip(weights, (1, 0.01), strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * CONFIG.rate(1)
    return optimizer


def write_steps(entries, optimizer, first_step=0, pause=lambda: None):
    feed = Feed(iter(range(3)))
    for step, _ in enumerate(feed, first_step):
        pause()
        found = {"final": 1.0, "total": 2.0, "gradient_norm": 0.5}
        found["broken_images"] = 2 * (step == 1)  # one of them of another worker
        entries.step(step, found, optimizer, feed, ["photo 3: it is gone"] if step == 1 else [])


def test_steps_scores_and_pictures_are_recorded(tmp_path, optimizer):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with journal(Tracker(uri, "test", None), CONFIG, rank=0, every=1) as entries:
        write_steps(entries, optimizer)
        picture = np.zeros((5, 7, 3), np.uint8)
        entries.scores({"name": "scenes", "mIoU": 12.5, "images": 2}, [picture], 3)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    metrics = run.data.metrics
    assert metrics["loss/total"] == 2.0
    assert metrics["scenes/mIoU"] == 12.5
    assert metrics["data/broken_images"] == 2
    assert metrics["learning_rate"] == pytest.approx(CONFIG.rate(1))
    assert metrics["learning_rate_x0.01"] == pytest.approx(0.01 * CONFIG.rate(1))
    assert metrics["rate/images_per_second"] > 0
    path = client.download_artifacts(run.info.run_id, "predictions/scenes/step-0000003.png")
    with Image.open(path) as found:
        assert found.size == (7, 9)


def test_only_rank_0_writes_and_without_a_tracker_nobody_does(tmp_path, optimizer):
    for tracker, rank in ((Tracker(f"sqlite:///{tmp_path}/mlflow.db", "test", None), 1), (None, 0)):
        with journal(tracker, CONFIG, rank=rank, every=1) as entries:
            write_steps(entries, optimizer)
            assert entries.run is None
    assert not (tmp_path / "mlflow.db").exists()


class SlowRun(tracking.Run):
    """A server that answers when it is told to."""

    def __init__(self):
        super().__init__("")
        self.may_answer, self.seen, self.all = threading.Event(), [], []

    def metrics(self, metrics, step=None):
        self.may_answer.wait(20)
        self.seen.append(step)
        self.all.append(metrics)


def test_a_slow_server_holds_nothing_up(optimizer):
    run = SlowRun()
    background = BackgroundRun(run)
    started = time.monotonic()
    write_steps(Journal(background, CONFIG, 1), optimizer)
    assert time.monotonic() - started < 5
    assert run.seen == []
    run.may_answer.set()
    background.close()
    assert run.seen == [0, 1, 2]


@pytest.mark.parametrize(("first_step", "seen"), [(999, [999, 1001]), (998, [999, 1000])])
def test_rates_after_a_restart_are_those_since_then(optimizer, monkeypatch, first_step, seen):
    clock = itertools.count(5000.0, 0.05)
    now = [next(clock)]
    monkeypatch.setattr("pipelines.journal.time", types.SimpleNamespace(monotonic=lambda: now[-1]))
    run = SlowRun()
    run.may_answer.set()
    config = dataclasses.replace(CONFIG, max_steps=first_step + 3)
    entries = Journal(run, config, 1000)
    write_steps(entries, optimizer, first_step, pause=lambda: now.append(next(clock)))
    assert run.seen == seen
    for step, found in zip(seen, run.all, strict=True):
        if step == first_step:  # nothing to measure from
            assert "time/step_seconds" not in found
            continue
        assert found["time/step_seconds"] == pytest.approx(0.05)
        images = CONFIG.batch_size / found["time/step_seconds"]
        assert found["rate/images_per_second"] == pytest.approx(images)


def test_learning_rates_are_named_by_their_share(optimizer):
    assert set(learning_rates(optimizer)) == {"learning_rate", "learning_rate_x0.01"}


def test_the_machine_says_how_busy_it_is():
    found = sample()
    assert 0 < found["system/system_memory_usage_percentage"] <= 100
    assert found["system/process_memory_usage_megabytes"] > 10
