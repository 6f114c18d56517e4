"""Clocks of a model and of a job: what counts is when the device computed, not when it was told."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch

from pipelines import clocked, throughput
from pipelines.clocked import Clocked, GpuClock
from pipelines.plan import LabelConfig
from pipelines.throughput import StandIn, time_alone

GPU = torch.device("meta")
"""A device that is no CPU, for tensors that are never computed."""


class FakeGpu:
    """Does what it is told one after the other, each taking its time; `told` says when all is done.

    The host's own time is `now`: it goes on when the host waits.
    """

    def __init__(self):
        self.now = self.told = 100.0

    def tell(self, seconds):
        self.told = max(self.told, self.now) + seconds

    def synchronize(self, _=None):
        self.now = max(self.now, self.told)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose time stands still until it is waited for."""
    fake = FakeGpu()

    class Event:
        def __init__(self, **_):
            pass

        def record(self, _):
            self.time = max(fake.told, fake.now)

        def synchronize(self):
            fake.now = max(fake.now, self.time)

        def elapsed_time(self, other):
            return 1000 * (other.time - self.time)

    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    clock = SimpleNamespace(time=lambda: fake.now, perf_counter=lambda: fake.now)
    monkeypatch.setattr(clocked, "time", clock)
    monkeypatch.setattr(throughput, "time", clock)
    return fake


class Found:
    """Scores whose label map is there already."""

    def label_map(self, height, width):
        return torch.zeros(height, width), None


class Launching:
    """A model that tells its GPU to compute half a second for each image, and returns at once."""

    config = StandIn.config

    def __init__(self, gpu):
        self.gpu = gpu

    def embed_classes(self, classes):
        return torch.zeros(len(classes), 1, 1, device=GPU)

    def prepare(self, pixels_HW3):
        return torch.empty(3, 1, 1, device=GPU)

    def score(self, images_B3HW, text_NPD, rejection=None):
        self.gpu.tell(0.5 * len(images_B3HW))
        return [Found()] * len(images_B3HW)


def written(model):
    model.writer.shutdown()
    return [json.loads(line) for line in model.file.read_text().splitlines()]


def test_a_model_alone_is_as_fast_as_its_gpu_computes(gpu):
    config = LabelConfig(images="", output="", classes=["a"], batch_size=4)
    assert time_alone(Launching(gpu), config, batches=3) == pytest.approx(2)


def test_a_gpu_s_clock_says_when_it_got_to_a_mark(gpu):
    gpu.tell(3)
    clock = GpuClock(GPU)
    assert gpu.now == 103, "compared while the GPU has nothing to do"
    gpu.tell(2)
    mark = clock.mark()
    assert gpu.now == 103, "a mark is not waited for"
    assert clock.time(mark) == 105


def test_a_line_says_when_the_gpu_computed_and_no_call_waits_for_it(gpu, tmp_path, monkeypatch):
    model, free = Clocked(Launching(gpu), tmp_path), threading.Event()
    monkeypatch.setattr(model, "note", wait_before(free, model.note))
    for count in (2, 4):
        assert len(model.score(torch.empty(count, 3, 1, 1, device=GPU), torch.empty(0))) == count
    assert gpu.now == 100, "the host went on at once"
    free.set()
    lines = written(model)
    assert [(line["start"], line["end"], line["images"]) for line in lines] == [
        (100, 101, 2),
        (101, 103, 4),
    ]
    assert {line["thread"] for line in lines} == {threading.get_ident()}


def wait_before(event, function):
    """Return a function that starts when a test says so."""

    def later(*args):
        assert event.wait(10)
        function(*args)

    return later


def test_on_a_cpu_a_line_is_there_when_the_call_returns(tmp_path):
    model = Clocked(StandIn(seconds=0.001), tmp_path)
    model.score(torch.empty(3, 3, 1, 1), torch.empty(0))
    (line,) = [json.loads(text) for text in model.file.read_text().splitlines()]
    assert line["images"] == 3
    assert line["end"] - line["start"] >= 0.003
