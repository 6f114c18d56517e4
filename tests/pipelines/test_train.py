"""Training: batches by number, steps that learn, and a run that continues."""

import dataclasses

import pytest
import torch

from pipelines import scenes
from pipelines.curriculum import Curriculum, CurriculumObjective
from pipelines.storage import locate
from pipelines.train import (
    Tracker,
    TrainConfig,
    build_model,
    build_optimizer,
    latest_checkpoint,
    learning_rate,
    settle_norms,
    train,
    train_step,
    training_batches,
    wanted_scenes,
)
from sed import load_model, save_model

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
    config = TrainConfig(max_steps=100, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) > 0.9
    assert learning_rate(config, 50) == pytest.approx(0.5)
    assert learning_rate(config, 100) == pytest.approx(0.0)


def test_steps_on_one_batch_lower_its_loss():
    config = dataclasses.replace(TINY, max_steps=1000, learning_rate=1e-3)
    objective = CurriculumObjective(build_model(config), config.curriculum).train()
    optimizer = build_optimizer(objective, config)
    (batch,) = list(training_batches(dataclasses.replace(config, max_steps=1), 0, 0, 1))
    losses = [train_step(objective, optimizer, batch, 0, config)["total"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_norms_are_settled_on_scenes_of_full_size():
    model = build_model(TINY).eval()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    seen = []
    norms[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    before = {name: p.clone() for name, p in model.named_parameters()}
    settle_norms(model, TINY)
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    assert values.shape[1] == 24 * 16 * 16, "24 scenes of 64 x 64 pixels after a stem of stride 4"
    torch.testing.assert_close(norms[0].running_mean, values.mean(1), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not model.training


def test_a_loss_that_is_not_finite_stops_and_changes_nothing():
    objective = CurriculumObjective(build_model(TINY), TINY.curriculum).train()
    optimizer = build_optimizer(objective, TINY)
    (batch, *_) = list(training_batches(TINY, 0, 0, 1))
    with torch.no_grad():
        objective.model.text_encoder.text.text_projection.fill_(float("nan"))
    before = objective.model.image_encoder.visual.trunk.stem[0].weight.clone()
    with pytest.raises(FloatingPointError, match="step 0"):
        train_step(objective, optimizer, batch, 0, TINY)
    assert torch.equal(objective.model.image_encoder.visual.trunk.stem[0].weight, before)


def test_norms_and_biases_have_no_weight_decay():
    objective = CurriculumObjective(build_model(TINY), TINY.curriculum)
    groups = build_optimizer(objective, TINY).param_groups
    for group in groups:
        decays = group["weight_decay"] > 0
        assert all((parameter.ndim > 1) == decays for parameter in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(objective.parameters()))


def test_the_text_encoder_learns_slower():
    config = dataclasses.replace(TINY, learning_rate=0.5, text_rate=0.1, warmup_steps=0)
    objective = CurriculumObjective(build_model(config), config.curriculum).train()
    optimizer = build_optimizer(objective, config)
    (batch, *_) = list(training_batches(config, 0, 0, 1))
    train_step(objective, optimizer, batch, 0, config)
    text = {id(parameter) for parameter in objective.model.text_encoder.parameters()}
    for group in optimizer.param_groups:
        of_text = {id(parameter) in text for parameter in group["params"]}
        assert len(of_text) == 1
        assert group["lr"] == pytest.approx(0.05 if of_text == {True} else 0.5)


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"batch_size": 0}, {"precision": "int8"}])
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_the_digest_tells_recipes_apart():
    assert TINY.digest == dataclasses.replace(TINY).digest
    assert TINY.digest != dataclasses.replace(TINY, seed=1).digest


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    output = locate(str(tmp_path))
    assert latest_checkpoint(output) is None
    folders = [tmp_path / "checkpoints" / "from-0000000" / f"step-{n:07d}" for n in (1, 2, 3)]
    for folder in folders:
        save_model(build_model(TINY), folder / "model.safetensors")
        torch.save({"step": 1}, folder / "state.pt")

    def newest():
        found = latest_checkpoint(output)
        return found and found[1]

    assert newest() == 3
    for folder, name in ((folders[2], "state.pt"), (folders[1], "model.safetensors")):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) - 100])
    assert newest() == 1
    (folders[0] / "state.pt").unlink()
    assert newest() is None


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
