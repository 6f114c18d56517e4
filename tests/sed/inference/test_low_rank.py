"""A vocabulary's prompts in a basis of fewer."""

import pytest
import torch

from sed.config import nano
from sed.inference.low_rank import LowRankSED, PromptBasis, project
from sed.inference.model import FastSED
from sed.model import SED
from sed.rejection import Rejection


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(5)
    return SED(nano()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def similar():
    """A vocabulary whose eight prompts are two directions of each class and a little noise."""
    torch.manual_seed(6)
    two_N2D, mixture_P2 = torch.randn(30, 2, 128), torch.randn(8, 2)
    text_NPD = torch.einsum("pk,nkd->npd", mixture_P2, two_N2D)
    text_NPD = text_NPD / text_NPD.norm(dim=(1, 2), keepdim=True)
    text_NPD = text_NPD + 1e-4 * torch.randn_like(text_NPD)
    return text_NPD / text_NPD.norm(dim=-1, keepdim=True)


def test_the_bound_holds_for_every_cosine(similar):
    basis = PromptBasis.of_rank(similar, 3)
    image_LD = torch.nn.functional.normalize(torch.randn(500, 128), dim=-1)
    coarse_NPD = torch.einsum("pr,nrd->npd", basis.basis_PR, project(similar, basis.basis_PR))
    moved = (image_LD @ (similar - coarse_NPD).flatten(0, 1).T).abs().max().item()
    assert 0 < moved <= basis.error


def test_the_rank_is_the_smallest_within_the_bound(similar):
    bound = 0.05
    found = PromptBasis.within(similar, bound)
    rank = found.basis_PR.shape[1]
    assert found.error <= bound
    assert 1 < rank < 8
    assert PromptBasis.of_rank(similar, rank - 1).error > bound


def test_no_error_needs_every_prompt():
    text_NPD = torch.nn.functional.normalize(torch.randn(9, 8, 128), dim=-1)
    assert PromptBasis.within(text_NPD, 0).basis_PR.shape == (8, 8)
    with pytest.raises(ValueError, match="negative, got -1"):
        PromptBasis.within(text_NPD, -1)


@pytest.mark.parametrize("rejection", ["none", "topk:1"])
def test_every_prompt_in_another_basis_changes_nothing(plain, similar, rejection):
    images, policy = torch.rand(2, 3, 256, 256), Rejection.parse(rejection)
    model = LowRankSED(plain, PromptBasis.of_rank(similar, 8))
    for expected, found in zip(
        FastSED(plain).score(images, similar, policy),
        model.score(images, model.project(similar), policy),
        strict=True,
    ):
        assert torch.equal(found.candidates_K, expected.candidates_K)
        torch.testing.assert_close(found.logits_KHW, expected.logits_KHW, atol=1e-5, rtol=0)


def test_fewer_prompts_move_the_logits_a_little(plain, similar):
    images = torch.rand(1, 3, 256, 256)
    basis = PromptBasis.within(similar, 0.02)
    model = LowRankSED(plain, basis)
    assert basis.basis_PR.shape[1] < 8
    moved = model(images, model.project(similar)) - plain(images, similar)
    assert 0 < moved.abs().max() < 0.02


def test_class_names_come_in_the_basis(plain, similar):
    model = LowRankSED(plain, PromptBasis.of_rank(similar, 3))
    assert model.embed_classes(["a", "b"]).shape == (2, 3, 128)
    with pytest.raises(ValueError, match="embed_classes"):
        model(torch.rand(1, 3, 256, 256), similar)


def test_the_plain_model_stays_as_it_was(plain, similar):
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    LowRankSED(plain, PromptBasis.of_rank(similar, 2))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, before[name]), name
