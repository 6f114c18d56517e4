"""What the trials of a sweep take of a cluster."""

import pytest
import ray

from pipelines.cluster import Pool
from pipelines.sweep.plan import SweepConfig


@pytest.fixture
def machines(monkeypatch):
    """Say that Ray has these nodes."""

    def have(*nodes):
        known = [{"Alive": True, "Resources": node} for node in nodes]
        total = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
        monkeypatch.setattr(ray, "cluster_resources", lambda: total)
        monkeypatch.setattr(ray, "nodes", lambda: known)
        monkeypatch.setenv("RAY_ADDRESS", "auto")  # not this machine, which may have no GPU

    return have


@pytest.mark.parametrize(
    ("nodes", "flags", "pool"),
    [
        ([{"CPU": 2}], {}, Pool(2, 1, 0, 1)),
        ([{"CPU": 2}], {"concurrency": 1}, Pool(1, 2, 0, 2)),
        ([{"CPU": 2}], {"concurrency": 4}, Pool(4, 1, 0, 1)),  # Ray lets two run at a time
        ([{"CPU": 64}], {}, Pool(8, 8, 0, 8)),
        ([{"CPU": 8}, {"CPU": 4}], {"concurrency": 1}, Pool(1, 8, 0, 8)),  # no node has twelve
        ([{"CPU": 8}], {"trials": 2}, Pool(2, 4, 0, 4)),
        ([{"CPU": 4, "GPU": 1}] * 4, {}, Pool(4, 0, 1.0, None)),
        ([{"CPU": 4, "GPU": 1}] * 4, {"gpus_per_trial": 0.25}, Pool(16, 0, 0.25, None)),
        ([{"CPU": 4, "GPU": 1}], {"gpus_per_trial": 0.5, "trials": 1}, Pool(1, 0, 0.5, None)),
        ([{"CPU": 4, "GPU": 1}], {"gpus_per_trial": 0}, Pool(4, 1, 0, 1)),
    ],
)
def test_trials_share_a_cluster_without_asking_for_more_than_it_has(machines, nodes, flags, pool):
    machines(*nodes)
    found = SweepConfig(output="out", **flags).pool()
    assert found == pool
    cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    if "concurrency" not in flags:
        assert found.size * found.num_cpus <= cpus
        assert found.size * found.num_gpus <= gpus


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_share_of_a_gpu_that_none_can_give_is_refused(share):
    with pytest.raises(ValueError, match="--gpus-per-trial is 0, a fraction"):
        SweepConfig(output="out", gpus_per_trial=share)
