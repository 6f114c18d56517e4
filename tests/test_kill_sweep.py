"""A sweep whose driver is killed goes on where it was."""

import json
import os
import signal

import pytest

from tests.machines import DEADLINE, machines, processes, wait_until
from tests.pipelines.sweep import sweep_driver

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster():
    """A head with processes of its own, on this machine."""
    with machines(num_cpus=2) as ray:
        yield ray


def complete_trials(output):
    """The files of trials that saw all images, and when each was written."""
    found = {}
    for file in sorted((output / "trials").glob("*.json")):
        if json.loads(file.read_text())[-1]["images"] == 16:
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


def wait_for_trials(process, output, count):
    """Wait until so many trials have seen all images."""
    assert wait_until(lambda: len(complete_trials(output)) >= count, process.is_alive)


def test_a_killed_sweep_continues_and_repeats_no_finished_trial(cluster, tmp_path):
    output = tmp_path / "out"
    process = start(tmp_path, cluster, 1.5)
    wait_for_trials(process, output, 1)
    os.kill(process.pid, signal.SIGINT)  # Ctrl-C is no end of the sweep either
    process.join(DEADLINE)
    assert process.exitcode == 1
    assert not (output / "sweep.json").exists()
    process = start(tmp_path, cluster, 1.5)
    wait_for_trials(process, output, 2)
    process.kill()
    process.join()
    before, none = complete_trials(output), (output / "none.npz").stat().st_mtime_ns
    run_id = json.loads((output / "state.json").read_text())["mlflow_run_id"]
    assert not (output / "sweep.json").exists()
    assert len(before) < 6
    (tmp_path / "trace").unlink()

    process = start(tmp_path, cluster, 0)
    process.join(DEADLINE)
    assert process.exitcode == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["trials"]) == 1 + 6
    assert len({one["rejection"] for one in result["trials"]}) == 1 + 6
    after = complete_trials(output)
    assert {name: after[name] for name in before} == before
    assert (output / "none.npz").stat().st_mtime_ns == none
    assert result["run_id"] == run_id
    assert (output / "rejection.json").exists()


def test_a_sweep_goes_on_where_no_node_has_the_cpus_that_its_trials_had(tmp_path):
    output = tmp_path / "out"
    with machines(num_cpus=2) as large:
        process = start(tmp_path, large, 1.5)
        wait_for_trials(process, output, 1)
        process.kill()
        process.join()
    before = complete_trials(output)
    assert len(before) < 6
    with machines(num_cpus=1) as small:
        process = start(tmp_path, small, 0)
        process.join(DEADLINE)
        assert process.exitcode == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["threads"] == 1
    assert len({one["rejection"] for one in result["trials"]}) == len(result["trials"]) == 1 + 6
    after = complete_trials(output)
    assert {name: after[name] for name in before} == before
