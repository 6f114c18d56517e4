"""The average of a model's weights."""

import pytest
import torch
from torch import nn

from sed.ema import WeightAverage


@pytest.fixture
def layer():
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    return layer


def test_the_average_follows_the_weights_by_its_definition(layer):
    average = WeightAverage(layer, 0.75)
    wanted = layer.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            layer.weight.add_(step)
        average.update()
        wanted = 0.75 * wanted + 0.25 * layer.weight.detach()
    torch.testing.assert_close(average.averages["weight"], wanted)


def test_what_does_not_learn_has_no_average(layer):
    assert set(WeightAverage(layer, 0.5).state_dict()) == {"weight"}


def test_the_model_has_the_average_for_a_while(layer):
    average = WeightAverage(layer, 0.5)
    with torch.no_grad():
        layer.weight.add_(1)
    own, parameter = layer.weight.detach().clone(), layer.weight
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), own - 1)
        torch.testing.assert_close(layer.state_dict()["weight"], own - 1)
    assert layer.weight is parameter
    assert torch.equal(layer.weight, own)


def test_an_average_comes_back_and_another_models_does_not(layer):
    average = WeightAverage(layer, 0.5)
    other = WeightAverage(nn.Linear(2, 1), 0.5)
    with pytest.raises(ValueError, match="another model: bias"):
        average.load_state_dict(other.state_dict())
    average.load_state_dict({"weight": torch.ones(1, 2)})
    assert torch.equal(average.averages["weight"], torch.ones(1, 2))


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_without_sense_is_refused(layer, decay):
    with pytest.raises(ValueError, match="between 0 and 1"):
        WeightAverage(layer, decay)
