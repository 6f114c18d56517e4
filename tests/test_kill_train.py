"""What really dies in a training: a worker, the driver; and a loss that is no number."""

import multiprocessing
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch

import sed
from pipelines.checkpoints import Store
from pipelines.storage import locate
from pipelines.train_step import train_step
from pipelines.trainee import Trainee
from tests import train_driver
from tests.train_driver import EVERY, STEPS
from tests.training import make_config, steps_of

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 300.0

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif("SED_SLOW_TESTS" not in os.environ, reason="minutes: SED_SLOW_TESTS=1"),
]


@pytest.fixture(scope="module")
def cluster():
    """A head with processes of its own, on this machine."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.pop("RAY_ADDRESS", None)
    head = {
        "num_cpus": 4,
        "include_dashboard": False,
        "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 10},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


class Training:
    """The same training, started again and again in processes that can be killed."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train_driver", "tests.label_driver", "mlflow"])

    def __init__(self, cluster, output, trace, **options):
        self.output, self.trace = output, trace
        self.arguments = (cluster.address, output, trace)
        self.options = options

    def start(self):
        process = self.context.Process(
            target=train_driver.run, args=self.arguments, kwargs=self.options
        )
        process.start()
        return process

    def steps(self):
        """What was computed, in this order: (pid, rank, workers, step, loss)."""
        text = self.trace.read_text() if self.trace.exists() else ""
        rows = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(*map(int, row[:4]), float(row[4])) for row in rows]

    def wait_for(self, process, step, count=1):
        """Wait until a step was computed so many times; return the processes that did it."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and process.is_alive():
            found = [pid for pid, _, _, other, _ in self.steps() if other == step]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"step {step} was not reached {count} times")

    def losses(self):
        """Every loss that was found for a step, over all workers: the times it was computed."""
        found = defaultdict(lambda: defaultdict(list))
        for _, rank, _, step, loss in self.steps():
            found[step][rank].append(loss)
        return {
            step: [sum(times) / len(ranks) for times in zip(*ranks.values(), strict=False)]
            for step, ranks in found.items()
        }

    def saved(self):
        return [one.step for one in Store(locate(self.output).at("checkpoints")).saved()]


@pytest.fixture(scope="module")
def undisturbed():
    """The losses of the whole batch of each step, by one process without Ray; and the model."""
    config = make_config(max_steps=STEPS)
    trainee = Trainee(config.build_objective(config.build_model()).train(), config)
    losses = [
        train_step(trainee.parallel, trainee.optimizer, parts, step, config)["total"]
        for step, parts in enumerate(steps_of(config))
    ]
    return losses, trainee.model.state_dict()


def assert_equal(training, undisturbed, folder):
    """Steps that were taken again are the same to the last bit; all are those of one process."""
    wanted, weights = undisturbed
    found = training.losses()
    assert sorted(found) == list(range(STEPS))
    repeated = [losses for losses in found.values() if len(losses) > 1]
    assert repeated, "steps after the last checkpoint were taken again"
    assert all(loss == losses[0] for losses in repeated for loss in losses)
    assert len(found[0]) == 1, "not from the start"
    for step, losses in found.items():
        assert losses[0] == pytest.approx(wanted[step], rel=1e-3), step
    model = folder / "trained.safetensors"
    model.write_bytes(locate(training.output).at("model.safetensors").read())
    state = sed.load_model(model).state_dict()
    for name, tensor in weights.items():
        torch.testing.assert_close(state[name], tensor, atol=2e-4, rtol=1e-2)


def test_a_training_whose_worker_is_killed_equals_an_undisturbed_one(
    cluster, tmp_path, undisturbed
):
    training = Training(cluster, str(tmp_path / "run"), tmp_path / "trace")
    process = training.start()
    workers = training.wait_for(process, EVERY + 3, count=2)
    os.kill(workers[-1], signal.SIGKILL)
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert_equal(training, undisturbed, tmp_path)


def test_a_training_into_a_bucket_whose_driver_is_killed_equals_an_undisturbed_one(
    cluster, tmp_path, s3_bucket, undisturbed
):
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    output = f"{s3_bucket}/run"
    training = Training(cluster, output, tmp_path / "trace", environment=environment)
    process = training.start()
    training.wait_for(process, EVERY + 3, count=2)
    process.kill()
    process.join()
    assert training.saved() == [EVERY]
    again = training.start()
    again.join(DEADLINE)
    assert again.exitcode == 0
    assert_equal(training, undisturbed, tmp_path)


def test_a_loss_that_is_no_number_stops_the_training_and_leaves_what_was_good(cluster, tmp_path):
    training = Training(
        cluster,
        str(tmp_path / "run"),
        tmp_path / "trace",
        tracking="http://127.0.0.1:9",  # nobody is there: no reason to stop
        seconds=0.0,
        spoil_step=EVERY + 1,
    )
    process = training.start()
    process.join(DEADLINE)
    assert process.exitcode == 1
    assert training.saved() == [EVERY]
    assert len(training.steps()) == 2 * (EVERY + 2), "it was not tried again"
    assert not (tmp_path / "run" / "model.safetensors").exists()
