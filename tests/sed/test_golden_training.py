"""Losses, gradients and one optimizer step are those of the official implementation."""

import json

import pytest
import torch

from sed.checkpoint import OFFICIAL_PREFIX, official_name
from sed.config import base
from sed.decoder import Pairs
from sed.loss import level_losses
from sed.model import SED
from tests.sed.official import fill

pytestmark = pytest.mark.weights

NAMES = {"final": 0, "stride32": 1, "stride16": 2, "stride8": 3}


@pytest.fixture(scope="module")
def step(goldens, recipe, texts, shared_dir):
    """One training step: the model, the losses before and after, the gradients."""
    golden = goldens("train_step")
    model = fill(SED(base()), recipe, OFFICIAL_PREFIX, 0).train()
    model.text_encoder.requires_grad_(False)
    images = golden["image"].float() / 255
    labels, text_NPD = golden["sem_seg"].long(), texts(golden.meta)

    def losses():
        features = model.image_encoder(images)
        pairs = Pairs.all(len(images), len(text_NPD), torch.device("cpu"))
        levels = model.levels(features, text_NPD, pairs)
        return level_losses(levels, labels, pairs.image_M, pairs.class_M)

    before = losses()
    torch.stack(list(before.values())).sum().backward()
    named = {
        OFFICIAL_PREFIX + official_name(name): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    gradients = {name: parameter.grad.clone() for name, parameter in named.items()}
    facts = json.loads((shared_dir / "spec/optimizer_groups_base.json").read_text())
    groups = [
        {"params": [parameter], **facts[name], "betas": tuple(facts[name]["betas"])}
        for name, parameter in named.items()
    ]
    total = torch.nn.utils.clip_grad_norm_(named.values(), golden.meta["clip_norm"])
    torch.optim.AdamW(groups).step()
    with torch.no_grad():
        after = losses()
    return golden, before, gradients, total, after


def test_losses(step):
    golden, before, *_ = step
    for name, index in NAMES.items():
        expected = golden.meta["losses"][f"loss_sem_seg_{index}"]
        assert before[name].item() == pytest.approx(expected, abs=2e-6)


def test_gradient_norms(step):
    golden, _, gradients, total, _ = step
    assert total.item() == pytest.approx(golden.meta["grad_norm_total"], rel=1e-4)
    assert set(gradients) == set(golden.meta["grad_norms"])
    for name, expected in golden.meta["grad_norms"].items():
        assert gradients[name].norm().item() == pytest.approx(expected, rel=1e-3, abs=1e-9), name


def test_gradients(step):
    golden, _, gradients, *_ = step
    slices = [name for name in golden.arrays if name.startswith("grad:")]
    assert len(slices) == 11
    for name in slices:
        gradient = gradients[OFFICIAL_PREFIX + name.removeprefix("grad:")].flatten()
        every = max(1, gradient.numel() // 500)
        expected = golden[name]
        torch.testing.assert_close(
            gradient[::every][:500], expected, atol=5e-3 * expected.abs().max().item(), rtol=0
        )


def test_losses_after_one_step(step):
    golden, *_, after = step
    for name, index in NAMES.items():
        expected = golden.meta["losses_after_step"][f"loss_sem_seg_{index}"]
        assert after[name].item() == pytest.approx(expected, abs=5e-5)
