"""Training on images with masks: what a worker sees, the published optimizer, labels that train."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sed
from pipelines.finetune import (
    NO_CLASS,
    FinetuneConfig,
    Resize,
    augment,
    build_optimizer,
    nearest,
    translate,
    unpack,
)
from pipelines.masks import to_png
from pipelines.train import learning_rate
from sed.checkpoint import OFFICIAL_PREFIX, official_name
from sed.config import base

CLASSES = ("grass", "sky", "red ball", "water", "sand")
CONFIG = FinetuneConfig(
    model="nano", dataset="labels=x", data_digest="d", classes=CLASSES, crop_size=64
)


@pytest.fixture(scope="module")
def objective():
    return CONFIG.build_objective(CONFIG.build_model())


def numbered(height, width):
    """An image whose pixels say where they are, and a mask that says it too."""
    places = np.arange(height * width).reshape(height, width)
    return np.stack([places % 251, places // 251, places * 0], axis=2).astype(np.uint8), places


@pytest.mark.parametrize("size", [(7, 5), (3, 11), (40, 40), (13, 27)])
def test_masks_are_resized_as_torch_does(size):
    mask_HW = np.random.default_rng(0).integers(0, 9, (13, 27))
    wanted = F.interpolate(torch.from_numpy(mask_HW)[None, None].float(), size, mode="nearest")
    assert (nearest(mask_HW, *size) == wanted[0, 0].numpy()).all()


def test_a_crop_keeps_image_and_mask_together():
    image_HW3, labels_HW = numbered(50, 70)
    tops, flips = set(), set()
    for seed in range(20):
        crop, labels = augment(image_HW3, labels_HW, 32, np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3)
        assert (crop[..., 0] == labels % 251).all()
        assert (crop[..., 1] == labels // 251).all()
        tops.add(int(labels.min()) // 70)
        flips.add(bool(labels[0, 0] > labels[0, 1]))
    assert len(tops) > 5
    assert flips == {False, True}


def test_what_is_smaller_than_the_crop_is_padded_right_and_below():
    image_HW3, labels_HW = numbered(20, 70)
    crop, labels = augment(image_HW3, labels_HW, 32, np.random.default_rng(0))
    assert crop.shape == (32, 32, 3)
    assert (crop[20:] == 128).all()
    assert (labels[20:] == NO_CLASS).all()
    assert (labels[:20] >= 0).all()


def test_rows_are_decoded_resized_and_freed_of_the_ignore_value():
    mask_HW = np.zeros((30, 60), np.uint8)
    mask_HW[:, :30], mask_HW[:10] = 2, 255
    photo = np.full((30, 60, 3), 9, np.uint8)
    row = {"image": {"bytes": to_png(photo)}, "mask": {"bytes": to_png(mask_HW)}}
    image_HW3, labels_HW = unpack(Resize(64, ignore=255).resize(row))
    assert image_HW3.shape == (64, 128, 3)
    assert (image_HW3 == 9).all()
    assert (labels_HW == NO_CLASS).mean() == pytest.approx(1 / 3, abs=0.02)
    assert (labels_HW[30:, :64] == 2).all()
    assert (labels_HW[30:, 64:] == 0).all()


def test_all_classes_are_asked_or_those_shown_and_others(objective):
    labels_BHW = torch.tensor([[[4, NO_CLASS], [1, 1]]])
    assert objective.ask(labels_BHW, 0).tolist() == [0, 1, 2, 3, 4]
    few = dataclasses.replace(CONFIG, max_asked=3).build_objective(objective.model)
    asked = [few.ask(labels_BHW, step).tolist() for step in range(8)]
    assert all(len(one) == 3 and {1, 4} <= set(one) and one == sorted(one) for one in asked)
    assert len({tuple(one) for one in asked}) > 1
    class_K = torch.tensor([1, 3, 4])
    assert translate(labels_BHW, class_K).tolist() == [[[2, NO_CLASS], [0, 0]]]


def test_only_image_encoder_and_decoder_learn(objective):
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    labels = torch.randint(-1, len(CLASSES), (2, 64, 64))
    norms = {n: b.clone() for n, b in objective.named_buffers() if "running_mean" in n}
    losses = objective.train()(images, labels, 0)
    assert set(losses) == {"final", "stride32", "stride16", "stride8"}
    torch.stack(list(losses.values())).sum().backward()
    assert objective.model.image_encoder.visual.trunk.stem[0].weight.grad.any()
    assert all(p.grad is None for p in objective.model.text_encoder.parameters())
    assert norms
    now = dict(objective.named_buffers())
    assert all(torch.equal(now[name], value) for name, value in norms.items())


def test_the_learning_rate_is_the_published_one(shared_dir):
    wanted = json.loads((shared_dir / "spec/lr_schedule.json").read_text())
    for step, rate in wanted.items():
        assert learning_rate(CONFIG, int(step)) == pytest.approx(rate, rel=1e-9, abs=1e-15)


@pytest.mark.weights
def test_the_optimizer_has_the_published_groups(shared_dir):
    """Every parameter of base: learning rate, weight decay, betas."""
    wanted = json.loads((shared_dir / "spec/optimizer_groups_base.json").read_text())
    model = sed.SED(base())
    model.text_encoder.requires_grad_(False)

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

    found = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in build_optimizer(Holder(), CONFIG).param_groups:
        for parameter in group["params"]:
            found[OFFICIAL_PREFIX + official_name(names[id(parameter)])] = group
    assert set(found) == set(wanted)
    for name, group in found.items():
        assert CONFIG.learning_rate * group["share"] == pytest.approx(wanted[name]["lr"])
        assert group["weight_decay"] == wanted[name]["weight_decay"], name
        assert list(group["betas"]) == wanted[name]["betas"]
        assert group["eps"] == wanted[name]["eps"]
    assert CONFIG.clip_norm == 0.01
