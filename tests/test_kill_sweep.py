"""A sweep whose driver is killed goes on where it was."""

import json
import os
import signal

import pytest

from pipelines.sweep.trial import file_name
from tests.machines import DEADLINE, machines, processes, wait_until
from tests.pipelines.sweep import sweep_driver
from tests.pipelines.sweep.sweep_driver import NUM_IMAGES, NUM_TRIALS

pytestmark = pytest.mark.ray

SECONDS = 0.6
"""That the model takes for a batch: the kill is to come amid the trials."""


@pytest.fixture
def cluster():
    """A head with processes of its own, on this machine."""
    with machines(num_cpus=2) as ray:
        yield ray


def complete_trials(output):
    """The files of trials that saw all images, and when each was written."""
    found = {}
    for file in sorted((output / "trials").glob("*.json")):
        if json.loads(file.read_text())[-1]["images"] == NUM_IMAGES:
            found[file.name] = file.stat().st_mtime_ns
    return found


def start(folder, cluster, seconds):
    process = processes.Process(
        target=sweep_driver.run,
        args=(folder,),
        kwargs={"address": cluster.address, "seconds": seconds},
    )
    process.start()
    return process


def check_result(folder, before):
    """All trials are there, each once, and what had seen all images has, and was not repeated."""
    result = json.loads((folder / "result.json").read_text())
    names = [one["rejection"] for one in result["trials"]]
    assert len(set(names)) == len(names) == 1 + NUM_TRIALS
    images = {file_name(one["rejection"]): one["images"] for one in result["trials"]}
    assert {images[name] for name in before} == {NUM_IMAGES}
    after = complete_trials(folder / "out")
    assert {name: after[name] for name in before} == before
    return result


def continued(folder):
    """How many starts took up what Tune itself knew."""
    return (folder / "log").read_text().count("Continuing the trials of an earlier start")


def wait_for_trials(process, output, count):
    """Wait until so many trials have seen all images."""
    assert wait_until(lambda: len(complete_trials(output)) >= count, process.is_alive)


def test_a_killed_sweep_continues_and_repeats_no_finished_trial(cluster, tmp_path):
    output = tmp_path / "out"
    process = start(tmp_path, cluster, SECONDS)
    wait_for_trials(process, output, 1)
    os.kill(process.pid, signal.SIGINT)  # Ctrl-C is no end of the sweep either
    process.join(DEADLINE)
    assert process.exitcode == 1
    assert not (output / "sweep.json").exists()
    process = start(tmp_path, cluster, SECONDS)
    wait_for_trials(process, output, 2)
    process.kill()
    process.join()
    before, none = complete_trials(output), (output / "none.npz").stat().st_mtime_ns
    run_id = json.loads((output / "state.json").read_text())["mlflow_run_id"]
    assert not (output / "sweep.json").exists()
    assert len(before) < NUM_TRIALS
    earlier = continued(tmp_path)

    process = start(tmp_path, cluster, 0)
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert continued(tmp_path) == earlier + 1
    result = check_result(tmp_path, before)
    assert (output / "none.npz").stat().st_mtime_ns == none
    assert result["run_id"] == run_id
    assert (output / "rejection.json").exists()


def test_a_sweep_goes_on_where_no_node_has_the_cpus_that_its_trials_had(tmp_path):
    output = tmp_path / "out"
    with machines(num_cpus=2) as large:
        process = start(tmp_path, large, SECONDS)
        wait_for_trials(process, output, 1)
        process.kill()
        process.join()
    before = complete_trials(output)
    assert len(before) < NUM_TRIALS
    with machines(num_cpus=1) as small:
        process = start(tmp_path, small, 0)
        process.join(DEADLINE)
        assert process.exitcode == 0
    assert check_result(tmp_path, before)["threads"] == 1
