"""A run is recorded where the job was started, wherever rank 0 of a training is."""

import mlflow
import pytest
import ray
from ray._private.state import actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.journal import Tracker, journal
from tests.machines import DEADLINE, machines, processes, set_environment
from tests.training import make_config


def write(tracker):
    with journal(tracker, make_config(), rank=0, every=1) as entries:
        entries.run.metrics({"loss": 2.0}, step=1)
        entries.run.file("predictions/seen.txt", lambda path: path.write_text("a cat"))


def write_from(address, node, uri):
    """Write from a node; require that it came to the store from this one."""
    set_environment()
    ray.init(address=address)
    here = ray.get_runtime_context().get_node_id()
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(write).options(num_cpus=1, scheduling_strategy=there)
    ray.get(task.remote(Tracker(uri, "test", None, here)))
    scribes = [one for one in actors().values() if one["ActorClassName"] == "Scribe"]
    assert [one["Address"]["NodeID"] for one in scribes] == [here]
    assert here != node


@pytest.mark.ray
def test_a_worker_on_another_node_writes_to_the_store_of_the_driver(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with machines(num_cpus=1) as cluster:
        node = cluster.add_node(num_cpus=1)
        process = processes.Process(target=write_from, args=(cluster.address, node, uri))
        process.start()
        process.join(DEADLINE)
        assert process.exitcode == 0
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 2.0
    (file,) = client.list_artifacts(run.info.run_id, "predictions")
    assert file.path == "predictions/seen.txt"
