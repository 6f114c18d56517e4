import pytest
import torch

from pipelines.benchmark import Case, Forced, measure, peak_memory
from sed import SED, Rejection, save_model
from sed.config import nano


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(save_model(SED(nano()), tmp_path_factory.mktemp("model") / "model.safetensors"))


@pytest.fixture
def one_thread():
    """Measuring sets the number of threads; put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_forced_survivors_are_as_many_as_asked_for_and_always_the_same():
    forced = Forced(Rejection.parse("topk:2"), 5)
    kept = forced.keep(torch.randn(30, 4, 4), level=0)
    assert kept.sum() == 5
    assert torch.equal(kept, forced.keep(torch.randn(30, 4, 4), level=0))
    assert forced.keep(torch.randn(5, 4, 4), level=1).all()


def test_the_policy_is_asked_although_its_answer_is_replaced():
    asked = []

    class Remember:
        def acts_at(self, level):
            return True

        def keep(self, logits_NHW, level):
            asked.append(level)
            return torch.ones(len(logits_NHW), dtype=torch.bool)

    forced = Forced(Rejection((Remember(),)), 2)
    for level in range(3):
        forced.keep(torch.randn(9, 3, 3), level)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("optimize", [False, True])
def test_a_case_has_a_time_for_each_phase(checkpoint, one_thread, optimize):
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


def test_no_classes_measure_the_embedding_of_names(checkpoint, one_thread):
    found = measure(Case(model=checkpoint, classes=0, names=3, repeats=1, warmup=0))
    assert set(found["seconds"]) == {"plain encoder", "class name", "each of several"}


def test_peak_memory_counts_what_was_given_back():
    before = peak_memory("cpu")
    block = torch.ones(before // 4 + 2**24)  # four bytes each: more than ever before
    del block
    assert peak_memory("cpu") > before
