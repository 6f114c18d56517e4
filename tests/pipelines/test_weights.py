"""A checkpoint reaches workers that do not see the disk it lies on."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.weights import Weights, share_weights
from sed import load_model
from sed.checkpoint import file_digest


def test_a_local_ray_reads_the_file_itself(random_checkpoint, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    weights = share_weights(str(random_checkpoint))
    assert weights.content is None
    assert weights.fetch() == str(random_checkpoint)
    assert share_weights("nano")("cpu").config.encoder == "nano"


@pytest.mark.ray
def test_another_node_writes_the_file_once(local_ray, random_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = local_ray.put(np.fromfile(random_checkpoint, dtype=np.uint8))
    digest = file_digest(random_checkpoint)
    weights = Weights("/only/on/the/head/model.safetensors", digest, content)
    fetched = weights.fetch()
    assert file_digest(Path(fetched)) == digest
    assert weights.fetch() == fetched
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["model.safetensors"]
    state = load_model(random_checkpoint).state_dict()
    for name, tensor in load_model(fetched).state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert weights("cpu").digest == digest


@pytest.mark.ray
def test_a_joined_cluster_gets_the_bytes(local_ray, random_checkpoint, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "joined")
    weights = share_weights(str(random_checkpoint))
    assert local_ray.get(weights.content).tobytes() == random_checkpoint.read_bytes()
