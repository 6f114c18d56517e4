"""Training: batches by number, steps that learn, and a run that continues."""

import dataclasses

import pytest
import torch

from pipelines import scenes
from pipelines.curriculum import Curriculum, Objective
from pipelines.storage import locate
from pipelines.train import (
    Tracker,
    TrainConfig,
    build_model,
    build_optimizer,
    latest_checkpoint,
    learning_rate,
    train,
    train_step,
    training_batches,
)
from sed import load_model

TINY = TrainConfig(
    max_steps=2,
    text_steps=2,
    batch_size=2,
    precision="fp32",
    checkpoint_every=1,
    warmup_steps=1,
    curriculum=Curriculum(align_steps=1, scene_size=64, label_size=32, asked=(4,)),
)


def test_step_and_rank_decide_the_scenes():
    config = dataclasses.replace(TINY, batch_size=4, max_steps=3)
    whole = [images for images, _ in training_batches(config, 0, 0, 1)]
    later = [images for images, _ in training_batches(config, 1, 0, 1)]
    ranks = [[images for images, _ in training_batches(config, 1, rank, 2)] for rank in range(2)]
    assert len(whole) == 3
    assert torch.equal(whole[1], later[0])
    assert torch.equal(torch.cat([ranks[0][0], ranks[1][0]]), later[0])
    first = scenes.draw(config.seed, 4, split="train", size=64)
    assert torch.equal(later[0][0], torch.from_numpy(first.image_HW3))


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(max_steps=100, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) > 0.9
    assert learning_rate(config, 50) == pytest.approx(0.5)
    assert learning_rate(config, 100) == pytest.approx(0.0)


def test_steps_on_one_batch_lower_its_loss():
    config = dataclasses.replace(TINY, max_steps=1000, learning_rate=1e-3)
    objective = Objective(build_model(config), config.curriculum).train()
    optimizer = build_optimizer(objective, config)
    (batch,) = list(training_batches(dataclasses.replace(config, max_steps=1), 0, 0, 1))
    losses = [train_step(objective, optimizer, batch, 0, config)["total"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_changes_nothing():
    objective = Objective(build_model(TINY), TINY.curriculum).train()
    optimizer = build_optimizer(objective, TINY)
    (batch, *_) = list(training_batches(TINY, 0, 0, 1))
    with torch.no_grad():
        objective.model.text_encoder.text.text_projection.fill_(float("nan"))
    before = objective.model.image_encoder.visual.trunk.stem[0].weight.clone()
    with pytest.raises(FloatingPointError, match="step 0"):
        train_step(objective, optimizer, batch, 0, TINY)
    assert torch.equal(objective.model.image_encoder.visual.trunk.stem[0].weight, before)


def test_norms_and_biases_have_no_weight_decay():
    objective = Objective(build_model(TINY), TINY.curriculum)
    decayed, plain = build_optimizer(objective, TINY).param_groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim <= 1 for parameter in plain["params"])
    assert plain["weight_decay"] == 0


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"batch_size": 0}, {"precision": "int8"}])
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_the_digest_tells_recipes_apart():
    assert TINY.digest == dataclasses.replace(TINY).digest
    assert TINY.digest != dataclasses.replace(TINY, seed=1).digest


@pytest.mark.ray
def test_a_training_continues_from_its_newest_checkpoint(local_ray, tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "test", None)
    output = locate(str(tmp_path / "run"))
    path = train(TINY, output, workers=1, use_gpu=False, tracker=tracker)
    straight = load_model(path).state_dict()
    found = latest_checkpoint(output)
    assert found is not None
    assert found[1] == 2
    output.at("checkpoints", "from-0000000", "step-0000002").remove()
    output.at("model.safetensors").remove()
    again = train(TINY, output, workers=1, use_gpu=False, tracker=tracker)
    for name, tensor in load_model(again).state_dict().items():
        torch.testing.assert_close(tensor, straight[name], atol=1e-6, rtol=1e-5)
    assert output.at("checkpoints", "from-0000001", "step-0000002").exists()
