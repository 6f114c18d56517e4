"""How far approximations move the logits of the official implementation."""

import pytest
import torch

from sed.inference.low_rank import LowRankSED, PromptBasis
from sed.inference.model import FastSED

pytestmark = pytest.mark.weights

EXACT = 2e-5
"""The most that the exact form moves a logit; logits reach 3.2."""


@pytest.fixture(params=["full_B_256x256_T20_norej", "full_B_192x256_T150_norej"])
def golden(request, goldens):
    return goldens(request.param)


@torch.inference_mode()
def compare(golden, model, text):
    """Largest change of a logit, and the share of places whose best class stays."""
    features = model.image_encoder(golden["image"].unsqueeze(0).float() / 255)
    (scores,) = model.decode(features, text)
    found = golden.sliced("final_logits", scores.logits_KHW.float().unsqueeze(0))
    wanted = golden["final_logits"]
    same = found.argmax(dim=1) == wanted.argmax(dim=1)
    return (found - wanted).abs().max().item(), same.float().mean().item()


def test_half_precision_moves_logits_by_a_twentieth(golden, base_model, texts):
    model = FastSED(base_model, torch.bfloat16)
    moved, same = compare(golden, model, texts(golden.meta))
    assert EXACT < moved < 0.06
    assert same > 0.93


def test_a_basis_that_moves_no_cosine_moves_no_logit(golden, base_model, texts):
    """The recipe's prompts are random: a bound of 0.1 needs all 80, as it should say."""
    text_NPD = texts(golden.meta)
    basis = PromptBasis.within(text_NPD, 0.1)
    model = LowRankSED(base_model, basis)
    assert basis.basis_PR.shape == (80, 80)
    moved, _ = compare(golden, model, model.project(text_NPD))
    assert moved < EXACT


def test_a_shorter_basis_of_random_prompts_moves_labels(golden, base_model, texts):
    """Random prompts are its worst case: a tenth of them less, and labels change."""
    text_NPD = texts(golden.meta)
    basis = PromptBasis.within(text_NPD, 0.3)
    model = LowRankSED(base_model, basis)
    assert 60 < basis.basis_PR.shape[1] < 80
    moved, same = compare(golden, model, model.project(text_NPD))
    assert EXACT < moved < 0.8
    assert 0.4 < same < 0.7
