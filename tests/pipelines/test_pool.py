"""How many copies of the model a cluster gets, and what is said where it has no GPU yet."""

import pytest

from pipelines import cluster
from pipelines.cluster import Pool, choose_calls, choose_pool


@pytest.fixture
def has(monkeypatch):
    """Sets what the cluster has."""

    def set_resources(**resources):
        monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: resources)

    return set_resources


def test_there_is_a_copy_for_each_gpu_or_for_two_cpus(has, caplog):
    has(CPU=16, GPU=2)
    assert choose_pool(None, None) == Pool(2, 0, 1.0, None)
    assert choose_pool(None, 0.5) == Pool(4, 0, 0.5, None)
    assert choose_pool(None, None, num_tasks=1).size == 1
    assert choose_pool(None, 0) == Pool(8, 1, 0, 2)
    has(CPU=2)
    assert choose_pool(None, None) == Pool(1, 1, 0, 2)
    assert choose_pool(2, None) == Pool(2, 0, 0, 1)
    assert not caplog.records


def test_a_cluster_whose_gpus_start_on_demand_is_told_what_to_ask_for(has, caplog, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    has(CPU=4)
    assert choose_pool(None, None).device == "cpu"
    assert "no GPU now: computing on CPUs" in caplog.text
    assert "--gpus-per-worker 1" in caplog.text
    caplog.clear()
    assert choose_pool(None, 0).device == "cpu"
    assert not caplog.records
    assert choose_pool(None, 1) == Pool(1, 0, 1, None)
    assert "waiting for a node that has 1; for one model" in caplog.text
    caplog.clear()
    assert choose_pool(4, 1) == Pool(4, 0, 1, None)
    assert caplog.text.strip().endswith("waiting for a node that has 1")


def test_each_core_of_a_gpus_node_has_labels_to_describe(monkeypatch):
    def calls(pool, *nodes):
        found = [{"Alive": alive, "Resources": resources} for alive, resources in nodes]
        monkeypatch.setattr(cluster.ray, "nodes", lambda: found)
        return choose_calls(pool)

    whole, half = Pool(1, 0, 1.0, None), Pool(2, 0, 0.5, None)
    workers = (True, {"CPU": 64})
    assert calls(Pool(1, 1, 0, 2), workers) == 3
    assert calls(whole, workers) == 6
    assert calls(whole, workers, (True, {"CPU": 4, "GPU": 1})) == 6
    eight = (True, {"CPU": 8, "GPU": 1})
    assert calls(whole, eight, (True, {"CPU": 96, "GPU": 8})) == 10
    assert calls(whole, eight, (False, {"CPU": 1, "GPU": 8})) == 10
    assert calls(half, (True, {"CPU": 16, "GPU": 1})) == 10
    assert calls(whole, (True, {"CPU": 192, "GPU": 8})) == 16
