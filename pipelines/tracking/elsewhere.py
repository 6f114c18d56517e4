"""A run that is recorded from another node than the one that has something to say.

A SQLite store is a file of the machine on which the job was started, and so may a server be one
that only this machine reaches; rank 0 of a training may be on any.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.tracking.run import Run, ended, run

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """What can be told to a run from wherever it is recorded."""

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, all of one step in one request."""
        ...

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a local file."""
        ...


class Scribe:
    """An actor on the node where runs are kept, with one run."""

    def __init__(self, uri: str, experiment: str, name: str, run_id: str | None) -> None:
        self.run = Run(uri)
        self.run.start(experiment, name, {}, run_id)

    def metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Record numbers."""
        self.run.metrics(metrics, step)

    def artifact(self, name: str, content: bytes, folder: str | None) -> None:
        """Upload a file."""
        with tempfile.TemporaryDirectory() as own:
            path = Path(own) / name
            path.write_bytes(content)
            self.run.artifact(path, folder)

    def end(self, status: str) -> None:
        """Close the run."""
        self.run.end(status)


class Messenger:
    """Tells a scribe on another node; where that does not answer, it is a warning."""

    def __init__(self, scribe: Any) -> None:  # noqa: ANN401  a handle of Ray
        self.scribe = scribe

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, all of one step in one request."""
        self.tell("metrics", dict(metrics), step)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a local file."""
        self.tell("artifact", Path(path).name, Path(path).read_bytes(), folder)

    def end(self, status: str) -> None:
        """Close the run."""
        self.tell("end", status)

    def tell(self, what: str, *values: object) -> None:
        """Let the scribe do something, and wait until it is done."""
        try:
            ray.get(getattr(self.scribe, what).remote(*values))
        except RayError as error:
            logger.warning("MLflow: the node that records this run is away: %s", error)


@contextmanager
def run_on(
    node: str | None, uri: str, experiment: str, name: str, *, run_id: str | None
) -> Iterator[Recorder]:
    """Record what happens inside the block as `run` does, but from a node of the cluster.

    Args:
        node: Ray's id of the node; None: this one, whichever it is.
        uri: Tracking server, as that node reaches it.
        experiment: Made where it does not exist.
        name: Shown in MLflow's list of runs.
        run_id: Continue this run; where the server does not know it, a new one is made.
    """
    if node is None or node == ray.get_runtime_context().get_node_id():
        with run(uri, experiment, name, run_id=run_id) as found:
            yield found
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    scribe = ray.remote(Scribe).options(num_cpus=0, scheduling_strategy=there)
    with ended(Messenger(scribe.remote(uri, experiment, name, run_id))) as found:
        yield found
