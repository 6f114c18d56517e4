"""Losses beside the published ones, which the golden tests hold."""

import pytest
import torch

from sed.loss import level_losses, overlap_losses

LABELS = torch.zeros(1, 8, 8, dtype=torch.long)
LABELS[0, :2, :2] = 1
IMAGE_M, CLASS_M = torch.zeros(3, dtype=torch.long), torch.arange(3)


def logits_of(labels_BHW, confidence=20.0):
    wanted = labels_BHW == CLASS_M.view(-1, 1, 1)
    return torch.where(wanted, confidence, -confidence)


def test_a_perfect_map_has_no_loss():
    levels = [logits_of(LABELS)] * 4
    for loss in overlap_losses(levels, LABELS, IMAGE_M, CLASS_M):
        assert loss.item() == pytest.approx(0, abs=1e-6)
    for loss in level_losses(levels, LABELS, IMAGE_M, CLASS_M).values():
        assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_missed_small_object_costs_as_much_as_its_share_of_the_classes():
    missed = logits_of(torch.zeros_like(LABELS))
    loss = overlap_losses([missed], LABELS, IMAGE_M, CLASS_M)[0].item()
    ground = 1 - 2 * 60 / (64 + 60)
    assert loss == pytest.approx((ground + 1) / 2, abs=1e-6)


def test_a_class_that_is_not_shown_does_not_count():
    levels = [logits_of(LABELS)]
    levels[0][2] = 20.0
    assert overlap_losses(levels, LABELS, IMAGE_M, CLASS_M)[0].item() == pytest.approx(0, abs=1e-6)
