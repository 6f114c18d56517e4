"""A Ray of several nodes in a process of its own: drivers, workers and nodes of it can be killed.

In the process of the tests it would disturb the Rays of later ones.
"""

import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 240.0
"""Seconds that a test waits for something at most."""

# Forks of a process that has imported everything: a start takes no time.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["tests.label_driver", "tests.train_driver", "tests.pipelines.sweep.sweep_driver", "mlflow"]
)

RAY = {
    "PYTHONPATH": str(ROOT),
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less to start
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
"""Variables of the nodes and of the drivers."""

SYSTEM = {
    # A dead node is missed after ten seconds instead of half a minute.
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 10,
}


def wait_until(condition, alive=lambda: True, seconds=DEADLINE):
    """Wait until a condition holds, its process is dead or the time is over.

    Returns what the condition said last.
    """
    deadline = time.monotonic() + seconds
    while True:
        goes_on = alive() and time.monotonic() < deadline
        if (found := condition()) or not goes_on:
            return found
        time.sleep(0.05)


def set_environment(more=None):
    """Set variables before Ray starts."""
    # Of one mind, which an earlier Ray of the tests may have set for all forks; left to itself the
    # head would ask the drivers for a token.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(RAY | (more or {}))


def serve(connection, num_cpus):
    """Keep a head until the other end of the connection is closed; add and kill nodes for it."""
    set_environment()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": num_cpus, "include_dashboard": False, "_system_config": SYSTEM}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    connection.send(cluster.address)
    nodes = []
    try:
        while True:
            command, argument = connection.recv()
            if command == "add":
                nodes.append(cluster.add_node(num_cpus=argument))
                cluster.wait_for_nodes()
                connection.send(nodes[-1].node_id)
            else:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                connection.send(None)
    except EOFError:
        cluster.shutdown()


class Machines:
    """A head and the nodes that were added to it, all on this machine."""

    def __init__(self, connection):
        self.connection = connection
        self.address = self.answer()

    def answer(self):
        assert self.connection.poll(DEADLINE)
        return self.connection.recv()

    def add_node(self, num_cpus):
        """Start a node; return its id."""
        self.connection.send(("add", num_cpus))
        return self.answer()

    def kill_node(self):
        """Kill the node that was added last, with all that runs there."""
        self.connection.send(("kill", None))
        self.answer()


@contextmanager
def machines(num_cpus):
    """Give a head with so many CPUs, and end it."""
    ours, theirs = processes.Pipe()
    head = processes.Process(target=serve, args=(theirs, num_cpus))
    head.start()
    theirs.close()
    try:
        yield Machines(ours)
    finally:
        ours.close()
        head.join(DEADLINE)
        assert head.exitcode == 0
