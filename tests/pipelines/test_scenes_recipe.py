"""The recipe on scenes: batches by number, steps that learn."""

import dataclasses

import pytest
import torch

from pipelines import scenes
from pipelines.curriculum import Curriculum
from pipelines.scenes_recipe import ScenesConfig, wanted_scenes
from pipelines.train_step import train_step
from pipelines.trainee import Trainee

TINY = ScenesConfig(
    max_steps=2,
    text_steps=2,
    batch_size=2,
    precision="fp32",
    warmup_steps=1,
    curriculum=Curriculum(align_steps=1, scene_size=64, label_size=32, asked=(4,)),
)


def images_of(config, first_step, rank, world_size):
    return [batch.images_BHW3 for (batch,) in config.batches(first_step, rank, world_size)]


def make_trainee(config):
    objective = config.build_objective(config.build_model()).train()
    return objective, config.build_optimizer(objective)


def test_step_and_rank_decide_the_scenes():
    config = dataclasses.replace(TINY, batch_size=4, max_steps=3)
    whole = images_of(config, 0, 0, 1)
    later = images_of(config, 1, 0, 1)
    ranks = [images_of(config, 1, rank, 2) for rank in range(2)]
    assert len(whole) == 3
    assert torch.equal(whole[1], later[0])
    assert torch.equal(torch.cat([ranks[0][0], ranks[1][0]]), later[0])
    number, size = wanted_scenes(config, 1, 0, 1)[0]
    first = scenes.draw(config.seed, number, split="train", size=size)
    assert torch.equal(later[0][0], torch.from_numpy(first.image_HW3))


def test_the_first_steps_draw_more_and_smaller_scenes():
    config = dataclasses.replace(TINY, batch_size=4, max_steps=3)
    steps = [wanted_scenes(config, step, 0, 1) for step in range(3)]
    assert [len(wanted) for wanted in steps] == [16, 4, 4]
    assert [{size for _, size in wanted} for wanted in steps] == [{32}, {64}, {64}]
    numbers = [number for wanted in steps for number, _ in wanted]
    assert len(set(numbers)) == len(numbers)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = ScenesConfig(max_steps=100, warmup_steps=10, learning_rate=1.0)
    assert config.rate(0) == pytest.approx(0.1)
    assert config.rate(9) > 0.9
    assert config.rate(50) == pytest.approx(0.5)
    assert config.rate(100) == pytest.approx(0.0)


def test_steps_on_one_batch_lower_its_loss():
    config = dataclasses.replace(TINY, max_steps=1000, learning_rate=1e-3)
    objective, optimizer = make_trainee(config)
    parts = next(config.batches(0, 0, 1))
    losses = [train_step(objective, optimizer, parts, 0, config)["total"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_norms_are_settled_on_scenes_of_full_size():
    model = TINY.build_model().eval()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    seen = []
    norms[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    before = {name: p.clone() for name, p in model.named_parameters()}
    TINY.settle(model)
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    assert values.shape[1] == 24 * 16 * 16, "24 scenes of 64 x 64 pixels after a stem of stride 4"
    torch.testing.assert_close(norms[0].running_mean, values.mean(1), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not model.training


def test_norms_are_settled_for_the_averaged_weights():
    config = dataclasses.replace(TINY, ema_decay=0.5)
    trainee = Trainee(config.build_objective(config.build_model()), config)
    with torch.no_grad():
        for parameter in trainee.model.image_encoder.parameters():
            parameter.mul_(1.5)
    trainee.average.update()
    trainee.settle()
    wanted = config.build_model()
    with torch.no_grad():
        for parameter in wanted.image_encoder.parameters():
            parameter.mul_(1.25)
    config.settle(wanted)
    found = {name: tensor for name, tensor in trainee.model.named_buffers() if "running" in name}
    assert found
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted.get_buffer(name), rtol=1e-4, atol=1e-5)


def test_norms_and_biases_have_no_weight_decay():
    objective, optimizer = make_trainee(TINY)
    groups = optimizer.param_groups
    for group in groups:
        decays = group["weight_decay"] > 0
        assert all((parameter.ndim > 1) == decays for parameter in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(objective.parameters()))


def test_the_text_encoder_learns_slower():
    config = dataclasses.replace(TINY, learning_rate=0.5, text_rate=0.1, warmup_steps=0)
    objective, optimizer = make_trainee(config)
    train_step(objective, optimizer, next(config.batches(0, 0, 1)), 0, config)
    text = {id(parameter) for parameter in objective.model.text_encoder.parameters()}
    for group in optimizer.param_groups:
        of_text = {id(parameter) in text for parameter in group["params"]}
        assert len(of_text) == 1
        assert group["lr"] == pytest.approx(0.05 if of_text == {True} else 0.5)


@pytest.mark.parametrize(
    "wrong", [{"max_steps": 0}, {"batch_size": 0}, {"precision": "int8"}, {"accumulate": 0}]
)
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScenesConfig(**wrong)


def test_the_digest_tells_recipes_apart():
    assert TINY.digest == dataclasses.replace(TINY).digest
    assert TINY.digest != dataclasses.replace(TINY, seed=1).digest
