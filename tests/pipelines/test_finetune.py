"""Training on images with masks: what a worker sees, the published optimizer, labels that train."""

import dataclasses
import json

import pytest
import torch

import sed
from pipelines.augment import NO_CLASS, Augmentation
from pipelines.finetune import FinetuneConfig, build_optimizer
from sed.checkpoint import OFFICIAL_PREFIX, official_name
from sed.config import base, large

CLASSES = ("grass", "sky", "red ball", "water", "sand")
CONFIG = FinetuneConfig(model="nano", dataset="labels=x", data_digest="d", classes=CLASSES)


@pytest.fixture(scope="module")
def objective():
    return CONFIG.build_objective(CONFIG.build_model())


def test_all_classes_are_asked_or_those_an_image_shows_and_others(objective):
    labels_BHW = torch.tensor([[[4, NO_CLASS], [1, 1]], [[0, 0], [0, 0]]])
    assert objective.ask(labels_BHW, [0, 1]).tolist() == [[0, 1, 2, 3, 4]] * 2
    few = dataclasses.replace(CONFIG, max_asked=3).build_objective(objective.model)
    asked = [few.ask(labels_BHW, [number, 100 + number]).tolist() for number in range(8)]
    for first, second in asked:
        assert len(first) == len(second) == 3
        assert {1, 4} <= set(first)
        assert 0 in second
        assert first == sorted(first)
    assert len({tuple(first) for first, _ in asked}) > 1
    assert few.ask(labels_BHW[1:], [103]).tolist() == [asked[3][1]], "whatever shares its batch"
    one = dataclasses.replace(CONFIG, max_asked=1).build_objective(objective.model)
    assert one.ask(labels_BHW[:1], [0]).tolist() == [[1]], "what fills most of the image"


def test_classes_that_are_not_asked_of_an_image_are_no_part_of_its_loss(objective):
    """Two images that are asked different classes have the mean of their losses."""
    few = dataclasses.replace(CONFIG, max_asked=2).build_objective(objective.model).train()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    labels = torch.tensor([1, 4]).view(2, 1, 1).expand(2, 64, 64)
    with torch.no_grad():
        both = few(images, labels, 0, [0, 1])
        alone = [few(images[i : i + 1], labels[i : i + 1], 0, [i]) for i in range(2)]
    for name, loss in both.items():
        wanted = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-4)


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
        assert CONFIG.rate(int(step)) == pytest.approx(rate, rel=1e-9, abs=1e-15)


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


def test_the_defaults_are_the_published_recipe():
    assert (CONFIG.max_steps, CONFIG.batch_size, CONFIG.warmup_steps) == (80_000, 4, 0)
    assert (CONFIG.accumulate, CONFIG.ema_decay, CONFIG.recompute) == (1, 0.0, False)
    assert CONFIG.augmentation == Augmentation(
        short_sides=(768,), long_side=2666, crop_size=768, max_class_area=1.0
    )
    assert (large().drop_path, large().head_dropout, base().drop_path) == (0.1, 0.1, 0.0)


def test_large_drops_what_the_published_one_drops():
    with torch.device("meta"):
        visual = sed.SED(large()).image_encoder.visual
    assert visual.head.mlp.drop1.p == pytest.approx(0.1)
    blocks = [block for stage in visual.trunk.stages for block in stage.blocks]
    drops = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert drops == pytest.approx([0.1 * index / 35 for index in range(36)])
