"""Fixtures of the whole suite: a fixed seed, the published numbers, a local Ray."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def torch_settings():
    """Measuring sets threads, and how float32 matrices are multiplied; put both back."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


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


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for the tests of a module.

    A driver that lives long beside the Rays of other processes can stop to hear of its actors:
    with one Ray for the whole session, every test from the middle on waited for ever.
    """
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """The address of an object store on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server, monkeypatch):
    """An empty bucket as s3://NAME, with the variables set that reach it."""
    from pyarrow.fs import S3FileSystem

    from pipelines.buckets import bucket_filesystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    bucket_filesystem.cache_clear()
    name = f"bucket-{os.urandom(4).hex()}"
    S3FileSystem(
        endpoint_override=s3_server,
        access_key="testing",
        secret_key="testing",
        region="us-east-1",
        allow_bucket_creation=True,
    ).create_dir(name)
    yield f"s3://{name}"
    bucket_filesystem.cache_clear()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """A checkpoint of nano's shape that knows nothing."""
    import sed
    from sed.config import nano

    torch.manual_seed(0)
    return sed.save_model(sed.SED(nano()), tmp_path_factory.mktemp("model") / "random.safetensors")
