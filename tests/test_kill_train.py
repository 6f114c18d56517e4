"""What really dies in a training: a worker, the driver; and a loss that is no number."""

import os
import signal
from collections import defaultdict

import pytest
import torch

import sed
from pipelines.checkpoints import Store
from pipelines.storage import locate
from pipelines.train_step import train_step
from pipelines.trainee import Trainee
from tests import train_driver
from tests.machines import DEADLINE, machines, processes, wait_until
from tests.train_driver import EVERY, HELD, LARGE, STEPS
from tests.training import make_config, steps_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def address():
    """The address of a Ray in a process of its own, on this machine."""
    with machines(num_cpus=4) as ray:
        yield ray.address


class Training:
    """The same training, started again and again in processes that can be killed."""

    def __init__(self, address, folder, output=None, **options):
        self.output = output or str(folder / "run")
        self.trace, self.go = folder / "trace", folder / "go"
        self.arguments = (address, self.output, self.trace)
        self.options = {"go": str(self.go), **options}

    def start(self):
        process = processes.Process(
            target=train_driver.run, args=self.arguments, kwargs=self.options
        )
        process.start()
        return process

    def finish(self, process):
        process.join(DEADLINE)
        assert process.exitcode == 0

    def steps(self):
        """What was computed, in this order: (pid, rank, workers, step, loss)."""
        text = self.trace.read_text() if self.trace.exists() else ""
        rows = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(*map(int, row[:4]), float(row[4])) for row in rows]

    def wait_until_held(self, process, workers=2):
        """Wait until all workers are in the same step, past a checkpoint; return their pids."""
        assert wait_until(
            lambda: len(self.in_held()) == workers and self.saved() == [EVERY], process.is_alive
        )
        return self.in_held()

    def in_held(self):
        """The pids of the workers that have come to the step in which they are held."""
        return [pid for pid, _, _, step, _ in self.steps() if step == HELD]

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
    wanted, _ = undisturbed
    found = training.losses()
    assert sorted(found) == list(range(STEPS))
    taken_twice = [step for step, losses in found.items() if len(losses) == 2]
    assert taken_twice == list(range(EVERY, HELD + 1)), "from the checkpoint, not from the start"
    for step, losses in found.items():
        assert set(losses) == {losses[0]}
        assert losses[0] == pytest.approx(wanted[step], rel=1e-3), step
    assert_same_model(training, undisturbed, folder)


def assert_same_model(training, undisturbed, folder):
    model = folder / "trained.safetensors"
    model.write_bytes(locate(training.output).at("model.safetensors").read())
    state = sed.load_model(model).state_dict()
    for name, tensor in undisturbed[1].items():
        torch.testing.assert_close(state[name], tensor, atol=2e-4, rtol=1e-2)


def test_a_training_whose_worker_is_killed_equals_an_undisturbed_one(
    address, tmp_path, undisturbed
):
    training = Training(address, tmp_path)
    process = training.start()
    workers = training.wait_until_held(process)
    os.kill(workers[-1], signal.SIGKILL)
    training.go.touch()
    training.finish(process)
    assert len({pid for pid, *_ in training.steps()}) == 4
    assert_equal(training, undisturbed, tmp_path)


def test_a_training_whose_node_is_killed_goes_on_on_another(tmp_path, undisturbed):
    with machines(num_cpus=1) as ray:  # too small for both workers
        ray.add_node(num_cpus=4)
        training = Training(ray.address, tmp_path)
        process = training.start()
        workers = training.wait_until_held(process)
        ray.kill_node()
        ray.add_node(num_cpus=4)
        training.go.touch()
        training.finish(process)
    assert len({pid for pid, *_ in training.steps()} - set(workers)) == 2
    assert_equal(training, undisturbed, tmp_path)


def test_a_training_grows_with_its_cluster_and_takes_the_same_steps(tmp_path, undisturbed):
    with machines(num_cpus=LARGE + 2) as ray:
        training = Training(ray.address, tmp_path, grow=True)
        process = training.start()
        alone = training.wait_until_held(process, workers=1)
        ray.add_node(num_cpus=LARGE)
        # The group is ended, and begins again from the checkpoint with a worker more.
        assert wait_until(lambda: len(training.in_held()) == 3, process.is_alive)
        training.go.touch()
        training.finish(process)
    by_size = {size: {} for size in (1, 2)}
    for pid, rank, size, step, loss in training.steps():
        assert (pid in alone) == (size == 1)
        by_size[size].setdefault(step, {})[rank] = loss
    assert list(by_size[1]) == list(range(HELD + 1))
    assert sorted(by_size[2]) == list(range(EVERY, STEPS))
    for size, steps in by_size.items():
        for step, losses in steps.items():
            assert len(losses) == size
            assert sum(losses.values()) / size == pytest.approx(undisturbed[0][step], rel=1e-3)
    assert_same_model(training, undisturbed, tmp_path)


def test_a_training_into_a_bucket_whose_driver_is_killed_equals_an_undisturbed_one(
    address, tmp_path, s3_bucket, undisturbed
):
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    training = Training(address, tmp_path, f"{s3_bucket}/run", environment=environment)
    process = training.start()
    training.wait_until_held(process)
    process.kill()
    process.join()
    training.go.touch()
    training.finish(training.start())
    assert_equal(training, undisturbed, tmp_path)


def test_a_loss_that_is_no_number_stops_the_training_and_leaves_what_was_good(address, tmp_path):
    nobody = "http://127.0.0.1:9"  # no reason to stop
    training = Training(address, tmp_path, tracking=nobody, go="", spoil_step=EVERY + 1)
    process = training.start()
    process.join(DEADLINE)
    assert process.exitcode == 1
    assert training.saved() == [EVERY]
    assert len(training.steps()) == 2 * (EVERY + 2), "it was not tried again"
    assert not (tmp_path / "run" / "model.safetensors").exists()
