"""A checkpoint holds all that the next steps depend on."""

import dataclasses

import pytest
import torch

import sed
from pipelines.checkpoints import Store
from pipelines.storage import locate
from pipelines.train_step import train_step
from pipelines.trainee import AVERAGE_FILE, Trainee, model_file
from tests.training import make_config, steps_of

CONFIG = make_config(max_steps=4, ema_decay=0.5)


def make_trainee(seed):
    torch.manual_seed(seed)
    model = CONFIG.build_model()
    with torch.no_grad():
        model.decoder.heads[3].weight.add_(0.01 * seed)
    return Trainee(CONFIG.build_objective(model).train(), CONFIG)


def advance(trainee, first_step, last_step):
    found = []
    for step, parts in enumerate(steps_of(CONFIG, first_step), first_step):
        if step == last_step:
            break
        found.append(train_step(trainee.parallel, trainee.optimizer, parts, step, CONFIG))
        trainee.average.update()
    return found


def test_a_training_that_continues_equals_one_that_was_not_disturbed(tmp_path):
    straight = make_trainee(0)
    advance(straight, 0, 2)
    store = Store(locate(str(tmp_path)))
    store.save(2, straight.snapshot(2), {})
    wanted = advance(straight, 2, 4)  # while the checkpoint is being written
    store.wait()

    other = make_trainee(1)
    assert other.restore(store.newest()) == 2
    assert advance(other, 2, 4) == wanted
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], tensor), name
    for name, average in straight.average.averages.items():
        assert torch.equal(other.average.averages[name], average), name


def test_a_checkpoint_is_a_model_and_the_average_is_the_one_to_use(tmp_path):
    trainee = make_trainee(0)
    advance(trainee, 0, 2)
    store = Store(locate(str(tmp_path)))
    store.save(2, trainee.snapshot(2), {})
    store.wait()
    saved = store.newest()
    assert model_file(saved) == AVERAGE_FILE
    found = sed.load_model(tmp_path / "step-0000002" / AVERAGE_FILE).state_dict()
    with trainee.averaged():
        for name, tensor in trainee.model.state_dict().items():
            assert torch.equal(found[name], tensor), name
    own = trainee.model.decoder.heads[3].weight
    assert not torch.equal(found["decoder.heads.3.weight"], own)


def test_without_an_average_the_weights_are_the_model():
    config = dataclasses.replace(CONFIG, ema_decay=0.0)
    trainee = Trainee(config.build_objective(config.build_model()), config)
    assert AVERAGE_FILE not in trainee.snapshot(1)
    with trainee.averaged():
        assert trainee.average is None


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_makes_no_average_is_refused(decay):
    with pytest.raises(ValueError, match="ema_decay"):
        make_config(ema_decay=decay)
