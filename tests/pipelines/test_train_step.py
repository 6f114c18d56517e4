"""A step of the optimizer: the same for any number of workers and of parts; never a bad one."""

import dataclasses
import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pipelines.train_step import LossNotFiniteError, train_step
from pipelines.trainee import Trainee
from tests.training import make_config, steps_of

CONFIG = make_config(max_steps=3, batch_size=8)


def make_trainee(config, place=lambda objective: objective):
    torch.manual_seed(0)
    return Trainee(config.build_objective(config.build_model()).train(), config, place)


def run(config, rank=0, world_size=1, place=lambda objective: objective):
    """Take all steps; return the losses of each, and the weights of the decoder."""
    trainee = make_trainee(config, place)
    losses = [
        train_step(trainee.parallel, trainee.optimizer, with_broken(parts, rank), step, config)
        for step, parts in enumerate(steps_of(config, rank=rank, world_size=world_size))
    ]
    return losses, trainee.model.decoder.state_dict()


def with_broken(parts, count):
    """The parts of a step, as if so many images of the first were broken."""
    return [dataclasses.replace(parts[0], broken=["photo: gone"] * count), *parts[1:]]


def run_worker(rank, world_size, config, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    losses, weights = run(config, rank, world_size, DistributedDataParallel)
    results.put((rank, losses, {name: tensor.numpy() for name, tensor in weights.items()}))
    dist.destroy_process_group()


def run_workers(world_size, config, port):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.trainee", "tests.training"])  # imported once
    results = context.Queue()
    processes = [
        context.Process(target=run_worker, args=(rank, world_size, config, port, results))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    found = sorted((results.get(timeout=240) for _ in processes), key=lambda one: one[0])
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return found


@pytest.fixture(scope="module")
def alone():
    return run(CONFIG)


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def assert_same(losses, weights, alone):
    for mine, wanted in zip(losses, alone[0], strict=True):
        for name, value in wanted.items():
            if name == "broken_images":
                continue
            assert mine[name] == pytest.approx(value, rel=2e-4), name
    for name, tensor in weights.items():
        # AdamW's first steps are as large as the learning rate whatever the gradient is.
        torch.testing.assert_close(torch.as_tensor(tensor), alone[1][name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_together_take_the_step_of_one_with_the_whole_batch(alone, world_size):
    """Two have four images each; three share the eight unevenly, in two parts each."""
    config = dataclasses.replace(CONFIG, accumulate=world_size - 1)
    found = run_workers(world_size, config, free_port())
    assert found[0][1] == found[-1][1], "every worker knows the loss of all"
    for _, losses, weights in found:
        broken = [one.pop("broken_images") for one in losses]
        assert broken == [sum(range(world_size))] * len(losses)
        assert_same(losses, weights, alone)


def test_parts_together_take_the_step_of_the_whole_batch(alone):
    assert_same(*run(dataclasses.replace(CONFIG, accumulate=4)), alone)


def test_computing_activations_twice_changes_nothing(alone):
    assert_same(*run(dataclasses.replace(CONFIG, recompute=True)), alone)


def test_learning_lowers_the_loss():
    config = dataclasses.replace(CONFIG, max_steps=1000, learning_rate=2e-3, clip_norm=1.0)
    trainee = make_trainee(config)
    parts = next(steps_of(config))
    losses = [
        train_step(trainee.parallel, trainee.optimizer, parts, 0, config)["total"] for _ in range(8)
    ]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_stops_with_the_images_and_changes_nothing(where):
    trainee = make_trainee(CONFIG)
    parts = next(steps_of(CONFIG))
    if where == "loss":
        trainee.objective.get_buffer("text_NPD")[0, 0, 0] = float("nan")
    else:
        trainee.model.decoder.heads[3].weight.register_hook(lambda gradient: gradient / 0)
    before = {name: tensor.clone() for name, tensor in trainee.model.state_dict().items()}
    with pytest.raises(LossNotFiniteError, match="step 0") as stopped:
        train_step(trainee.parallel, trainee.optimizer, parts, 0, CONFIG)
    assert stopped.value.ids == parts[0].ids
    assert all(name in str(stopped.value) for name in parts[0].ids)
    for name, tensor in trainee.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_chance_depends_on_the_step_and_the_worker_only():
    from pipelines.train_step import seed_chance

    drawn = []
    for step, rank in ((0, 0), (1, 0), (0, 1), (0, 0)):
        seed_chance(5, step, rank)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[3]
    assert len({tuple(one) for one in drawn}) == 3
