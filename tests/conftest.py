"""Fixtures of the whole suite: a fixed seed, the published numbers, one local Ray."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Text embeddings of a test run are cached in a folder of its own."""
    os.environ["SED_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_dir():
    """The folder that holds the spec, the published numbers and sample photos."""
    if not SHARED.is_dir():
        pytest.skip("the folder with the published numbers is not beside this clone")
    return SHARED


@pytest.fixture(scope="session")
def local_ray():
    """One Ray for the whole test session."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
