import math

import pytest
import torch

from sed import uncertainty
from sed.uncertainty import Rivalry, measure


def test_margin_and_entropy_of_known_probabilities():
    logits_KHW = torch.tensor([0.8, 0.2]).logit().view(2, 1, 1).expand(2, 3, 4)
    found = measure(logits_KHW, torch.tensor([5, 9]))
    assert found.margin == pytest.approx(0.6, abs=1e-6)
    assert found.entropy == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2), abs=1e-6)
    assert found.rivals == []


def test_one_class_has_its_own_probability_as_margin_and_no_class_has_none():
    one = measure(torch.full((1, 2, 2), 0.7).logit(), torch.tensor([3]))
    assert (one.margin, one.entropy) == (pytest.approx(0.7), pytest.approx(0.0))
    assert measure(torch.empty(0, 2, 2), torch.empty(0, dtype=torch.long)).margin == 0


def test_the_pairs_that_contest_the_largest_areas_come_first():
    scores_KHW = torch.full((3, 1, 10), 0.1)
    scores_KHW[0, 0, :6], scores_KHW[1, 0, :6] = 0.60, 0.55
    scores_KHW[2, 0, 6:9], scores_KHW[1, 0, 6:9] = 0.50, 0.45
    scores_KHW[0, 0, 9] = 0.9
    found = measure(scores_KHW.logit(), torch.tensor([10, 20, 30]))
    assert found.rivals == [Rivalry(10, 20, 0.6), Rivalry(30, 20, 0.3)]


def test_chunks_change_nothing(monkeypatch):
    logits_KHW, candidates_K = torch.randn(7, 9, 11), torch.arange(7) * 3
    whole = measure(logits_KHW, candidates_K)
    monkeypatch.setattr(uncertainty, "CHUNK_ELEMENTS", 40)
    parts = measure(logits_KHW, candidates_K)
    assert parts.rivals == whole.rivals
    assert (parts.margin, parts.entropy) == pytest.approx((whole.margin, whole.entropy))


def test_scores_that_are_all_zero_are_no_numbers_to_divide_by():
    found = measure(torch.full((2, 2, 2), -200.0), torch.tensor([0, 1]))
    assert (found.margin, found.entropy) == (0.0, 0.0)
