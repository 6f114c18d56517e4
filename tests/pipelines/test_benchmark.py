import pytest
import torch

from pipelines import benchmark
from pipelines.benchmark import (
    Case,
    Forced,
    make_model,
    make_plain,
    make_rejection,
    measure,
    measure_form,
    peak_memory,
    same,
    set_up,
)
from sed import SED, Rejection, save_model
from sed.config import nano
from sed.inference.model import FastSED


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(save_model(SED(nano()), tmp_path_factory.mktemp("model") / "model.safetensors"))


def test_forced_survivors_are_as_many_as_asked_for_and_always_the_same():
    forced = Forced(Rejection.parse("topk:2"), same(5))
    kept = forced.keep(torch.randn(30, 4, 4), level=0)
    assert kept.sum() == 5
    assert torch.equal(kept, forced.keep(torch.randn(30, 4, 4), level=0))
    assert forced.keep(torch.randn(5, 4, 4), level=1).all()


def test_survivors_may_differ_from_image_to_image_around_a_number():
    def draw(images):
        forced = make_rejection(Case(rejection="topk:2", survivors=30, varying=True))
        return [forced.keep(torch.zeros(150, 2, 2), level=0) for _ in range(images)]

    kept = draw(200)
    counts = [int(keep_N.sum()) for keep_N in kept]
    assert set(counts) == set(range(20, 41))
    assert sum(counts) / len(counts) == pytest.approx(30, abs=2)
    assert len({tuple(keep_N.tolist()) for keep_N in kept}) == len(kept)
    assert all(map(torch.equal, kept, draw(200))), "another run draws the same"


def test_one_run_after_the_other_has_other_survivors(checkpoint, torch_settings, monkeypatch):
    kept = []

    def remember(model, images_B3HW, rejection, case):
        kept.append(int(rejection.keep(torch.zeros(9, 2, 2), level=0).sum()))
        return {"whole": 1.0}

    monkeypatch.setattr(benchmark, "measure_images", remember)
    case = Case(model=checkpoint, classes=9, rejection="topk:1", survivors=6, varying=True,
                warmup=2, repeats=30)  # fmt: skip
    model = make_model(case)
    timed, compiled = measure_form(model, torch.zeros(0), case)
    assert (len(timed), len(kept), compiled) == (30, 32, None)
    assert set(kept) == {4, 5, 6, 7, 8}


def test_programs_compiled_after_the_warm_up_are_counted(checkpoint, monkeypatch):
    function = torch.compile(lambda x: x + 1, dynamic=False, backend="eager")
    sizes = iter([2, 3, 3, 2, 4, 5])
    monkeypatch.setattr(benchmark, "compile_model", lambda *_, **__: None)
    monkeypatch.setattr(
        benchmark, "measure_images", lambda *_: {"whole": function(torch.ones(next(sizes))).sum()}
    )
    case = Case(model=checkpoint, compile=True, warmup=2, repeats=4)
    _, compiled = measure_form(make_model(case), torch.zeros(0), case)
    assert compiled == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_the_plain_encoder_has_the_precision_and_layout_of_its_case(checkpoint, dtype):
    plain = make_plain(Case(model=checkpoint, dtype=dtype, channels_last=False))
    assert plain.mixed_precision == (dtype != "float32")
    assert plain.memory_format == torch.contiguous_format
    assert all(weight.is_contiguous() for weight in plain.parameters())


def test_the_unit_is_warm_however_few_runs_a_case_has(checkpoint, torch_settings, monkeypatch):
    encoded, encode = [], SED.encode

    def count(model, images_B3HW):
        encoded.append(type(model))
        return encode(model, images_B3HW)

    monkeypatch.setattr(SED, "encode", count)
    measure(Case(model=checkpoint, classes=2, warmup=0, repeats=1))
    assert encoded == [SED, SED, SED, FastSED]


def test_matrices_are_multiplied_as_the_case_has_it():
    before, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        for tf32, precision in ((True, "high"), (False, "highest")):
            set_up(Case(tf32=tf32, threads=threads))
            assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_policy_is_asked_although_its_answer_is_replaced():
    asked = []

    class Remember:
        def acts_at(self, level):
            return True

        def keep(self, logits_NHW, level):
            asked.append(level)
            return torch.ones(len(logits_NHW), dtype=torch.bool)

    forced = Forced(Rejection((Remember(),)), same(2))
    for level in range(3):
        forced.keep(torch.randn(9, 3, 3), level)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("optimize", [False, True])
def test_a_case_has_a_time_for_each_phase(checkpoint, torch_settings, optimize):
    case = Case(
        model=checkpoint, classes=9, rejection="topk:1", survivors=3, batch_size=2, repeats=1,
        optimize=optimize,
    )  # fmt: skip
    found = measure(case)
    assert found["kept"] == 3
    phases = {"photos", "encoder", "decoder", "whole", "labels"}
    assert set(found["seconds"]) == {"plain encoder", *phases}
    assert all(value > 0 for value in found["seconds"].values())
    ratios = found["per_encoder"]
    assert ratios["plain encoder"] == 1
    assert ratios["whole"] == pytest.approx(ratios["encoder"] + ratios["decoder"])
    assert 0 < found["encoder_memory_gb"] <= found["peak_memory_gb"]


def test_no_classes_measure_the_embedding_of_names(checkpoint, torch_settings):
    found = measure(Case(model=checkpoint, classes=0, names=3, repeats=1, warmup=0))
    assert set(found["seconds"]) == {"plain encoder", "class name", "each of several"}


def test_peak_memory_counts_what_was_given_back():
    before = peak_memory("cpu")
    block = torch.ones(before // 4 + 2**24)  # four bytes each: more than ever before
    del block
    assert peak_memory("cpu") > before
