"""Speed and memory: what is measured of a model whose appetite is known."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.cluster import Pool
from pipelines.rows import PREPARED
from pipelines.sweep.bench import Bench, Held
from pipelines.sweep.peak import PeakMemory
from pipelines.sweep.question import Question
from pipelines.sweep.timing import time_alone, time_encoder
from pipelines.sweep.trial import describe
from pipelines.sweep.validation import Encoded, Encoder, usable
from sed import Rejection
from tests.pipelines.sweep import colours
from tests.pipelines.sweep.colours import NAMES, Hungry, Slow, load_colours, photos

MB = 10**6


class HereRay:
    """Ray whose tasks run in this process, so that the model can be looked at."""

    @staticmethod
    def get(value):
        return value

    @staticmethod
    def remote(**resources):
        return lambda function: type("Task", (), {"remote": staticmethod(function)})


@pytest.fixture
def bench(monkeypatch):
    """Returns a function: a bench of a model in this process, with images in batches of four."""
    for name in ("bench", "timing", "validation"):
        monkeypatch.setattr(f"pipelines.sweep.{name}.ray", HereRay)
    table = pa.Table.from_pylist(photos(8), schema=PREPARED)
    block, (_, count) = usable(Encoder(load_model=load_colours, num_classes=len(NAMES))(table))
    text = load_colours("cpu").embed_classes(NAMES).numpy()
    question = Question(NAMES, NAMES, np.arange(len(NAMES)))

    def make(model, threads=2):
        monkeypatch.setattr("pipelines.sweep.bench.hold", lambda *_: held)
        monkeypatch.setattr("pipelines.sweep.timing.hold", lambda *_: held)
        held = Held(model)
        return Bench(
            encoded=Encoded((block,), (count,), ()), text=text, question=question,
            load_model=load_colours, pool=Pool(1, 1, 0, threads), batch_size=4,
        )  # fmt: skip

    threads = torch.get_num_threads()
    yield make
    torch.set_num_threads(threads)


@pytest.mark.skipif(os.cpu_count() == 1, reason="one thread's clock does not count sleeping")
def test_the_encoder_is_timed_as_the_decoder_is_and_both_make_the_speed(bench):
    model = Slow(encoder_seconds=0.2, decoder_seconds=0.1)
    one = bench(model)
    seconds = time_encoder(one)
    assert seconds == pytest.approx(0.2 / 4, rel=0.2)
    one = replace(one, encoder_seconds=seconds)
    (alone,) = time_alone(one, ["none"]).values()
    assert model.threads["encoder"] == model.threads["decoder"] == {2}
    assert alone["alone_decoder_seconds"] == pytest.approx(0.1 / 4, rel=0.2)
    whole = seconds + alone["alone_decoder_seconds"] + alone["alone_labels_seconds"]
    assert alone["alone_images_per_second"] == pytest.approx(1 / whole)
    tally = one.measure(Rejection(), range(8))
    report = describe(one, tally, tally)
    whole = seconds + report["decoder_seconds"] + report["labels_seconds"]
    assert report["images_per_second"] == pytest.approx(1 / whole)


@pytest.mark.skipif(not PeakMemory("cpu").is_measured, reason="this system does not tell")
def test_the_peak_is_what_the_decoder_takes_in_the_first_trial_as_in_the_second(bench):
    hungry = Hungry(held=300 * MB, kept=200 * MB, taken=100 * MB)
    one = replace(bench(hungry), encoder_seconds=1.0)
    none = one.measure(Rejection(), range(8))
    first = describe(one, none, none)["peak_memory_gb"]
    hungry.taken = 150 * MB
    few = one.measure(Rejection.parse("topk:1"), range(8))
    second = describe(one, none, few)["peak_memory_gb"]
    assert first == pytest.approx(0.1, abs=0.02)
    assert second == pytest.approx(0.15, abs=0.02)


def test_memory_is_not_looked_at_where_the_clock_counts(bench, monkeypatch):
    monkeypatch.setattr("pipelines.sweep.bench.PeakMemory", None)
    one = replace(bench(colours.Colours()), encoder_seconds=1.0)
    assert time_alone(one, ["topk:1"])["topk:1"]["alone_decoder_seconds"] > 0
