"""The published numbers, and the base model with the weights they were made with."""

import pytest
import torch

from sed.checkpoint import save_model
from sed.config import base
from sed.inference.model import FastSED
from sed.model import SED
from tests.sed.official import Golden, fill, load_recipe


@pytest.fixture(scope="session")
def goldens(shared_dir):
    return lambda name: Golden(shared_dir / "spec" / "goldens", name)


@pytest.fixture(scope="session")
def recipe(shared_dir):
    return load_recipe(shared_dir / "spec" / "goldens")


@pytest.fixture(scope="session")
def base_model(recipe):
    """The base model with the recipe's weights, in eval mode."""
    return fill(SED(base()), recipe, "sem_seg_head.predictor.", 0).eval()


@pytest.fixture(scope="session")
def fast_base_model(base_model):
    """The form for inference of the base model."""
    return FastSED(base_model)


@pytest.fixture(params=["plain", "fast"])
def either_base_model(request):
    """The base model in both forms, one after the other."""
    return request.getfixturevalue("base_model" if request.param == "plain" else "fast_base_model")


@pytest.fixture(scope="session")
def texts(recipe):
    """Text features of the recipe, by the facts of a stored result."""
    return lambda meta: torch.from_numpy(recipe.text(meta["T"], 80, 640, meta["text_seed"]))


@pytest.fixture(scope="session")
def base_checkpoint(base_model, tmp_path_factory):
    """The base model in our own format."""
    return save_model(base_model, tmp_path_factory.mktemp("base") / "model.safetensors")
