"""A whole training on Ray Train, and one that goes on."""

import pytest
import torch

from pipelines.checkpoints import Store
from pipelines.crew import Crew
from pipelines.curriculum import Curriculum
from pipelines.datasets import load
from pipelines.scenes_recipe import ScenesConfig
from pipelines.storage import locate
from pipelines.train import train
from pipelines.worker import Setup, Upkeep
from sed import load_model

TINY = ScenesConfig(
    max_steps=2,
    text_steps=2,
    batch_size=2,
    precision="fp32",
    warmup_steps=1,
    curriculum=Curriculum(align_steps=1, scene_size=64, label_size=32, asked=(4,)),
)


@pytest.mark.ray
def test_a_training_on_scenes_goes_on_from_its_newest_checkpoint(local_ray, tmp_path):
    output = locate(str(tmp_path / "run"))
    setup = Setup(
        config=TINY,
        output=output,
        upkeep=Upkeep(checkpoint_every=1, log_every=1),
        validation=[load("scenes", limit=2)],
    )
    first = train(setup, Crew())
    assert first.steps == 2
    straight = load_model(first.path).state_dict()
    assert first.last.facts["validation"][0]["images"] == 2
    store = Store(output.at("checkpoints"))
    assert [saved.step for saved in store.saved()] == [1, 2]
    store.newest().place.remove()
    output.at("model.safetensors").remove()
    again = train(setup, Crew())
    assert again.steps == 1
    for name, tensor in load_model(again.path).state_dict().items():
        torch.testing.assert_close(tensor, straight[name], atol=1e-6, rtol=1e-5)
    assert again.last.facts["losses"] == first.last.facts["losses"]
