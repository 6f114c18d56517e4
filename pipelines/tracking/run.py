"""One run of one job: parameters, metrics, artifacts and what was read."""

import getpass
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pipelines.tracking.store import connect, experiment_id, redacted, sentence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.entities import DatasetInput

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 30.0
"""After a failure nothing is sent for this long: a dead server must not slow a job down."""

MAX_VALUE_LENGTH = 6000
"""MLflow refuses longer parameter values."""

MAX_BATCH = 100
"""MLflow refuses more parameters than this in one request."""

MAX_DIGEST_LENGTH = 36
"""MLflow refuses longer dataset digests."""


class Run:
    """One MLflow run; every method tries, and warns where it fails."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.id: str | None = None
        """The run's id; None where the server could not be reached at the start."""
        self._client: MlflowClient | None = None
        self._known_params: set[str] = set()
        self._silent_until = 0.0

    def params(self, params: Mapping[str, object]) -> None:
        """Record parameters; one that a continued run already has keeps its first value."""
        new = {k: str(v)[:MAX_VALUE_LENGTH] for k, v in params.items()}
        items = [(k, v) for k, v in new.items() if k not in self._known_params]
        self._known_params |= set(new)

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Param

            for start in range(0, len(items), MAX_BATCH):
                batch = [Param(k, v) for k, v in items[start : start + MAX_BATCH]]
                client.log_batch(run_id, params=batch)

        self.attempt("record parameters", send)

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, all of one step in one request."""
        now = int(time.time() * 1000)

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Metric

            batch = [Metric(k, float(v), now, step or 0) for k, v in metrics.items()]
            client.log_batch(run_id, metrics=batch)

        self.attempt("record metrics", send)

    def tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; a tag that is there already gets the new value."""

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import RunTag

            client.log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

        self.attempt("set tags", send)

    def remove_tag(self, name: str) -> None:
        """Remove a tag; one that is not there is no failure."""

        def send(client: "MlflowClient", run_id: str) -> None:
            if name in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, name)

        self.attempt(f"remove the tag {name}", send)

    def remove_artifact(self, name: str) -> None:
        """Remove an uploaded file from the top folder; one that is not there is no failure."""

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            if name in {file.path for file in client.list_artifacts(run_id)}:
                uri = str(client.get_run(run_id).info.artifact_uri)
                get_artifact_repository(uri, tracking_uri=self.uri).delete_artifacts(name)

        self.attempt(f"remove {name}", send)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a local file, or a folder with all it holds."""
        path = Path(path)

        def send(client: "MlflowClient", run_id: str) -> None:
            upload = client.log_artifacts if path.is_dir() else client.log_artifact
            upload(run_id, str(path), folder)

        self.attempt(f"upload {path.name}", send)

    def dataset(self, name: str, source: str, digest: str, context: str) -> None:
        """Record what the job read.

        Args:
            name: What the dataset is called.
            source: Its URI.
            digest: Of its content or list of files; "sha256:..." is cut to what MLflow holds.
            context: What it was used for: "labelling", "training", "evaluation".
        """

        def send(client: "MlflowClient", run_id: str) -> None:
            client.log_inputs(run_id, datasets=[dataset_input(name, source, digest, context)])

        self.attempt("record the dataset", send)

    def attempt(self, what: str, call: Callable[["MlflowClient", str], T]) -> T | None:
        """Call MLflow; where that fails, warn and send nothing for a while."""
        if self._client is None or self.id is None or time.monotonic() < self._silent_until:
            return None
        try:
            return call(self._client, self.id)
        except Exception as error:  # HTTP, SQL and object stores each raise errors of their own
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("MLflow: could not %s: %s", what, sentence(error))
            return None

    def insist(self, what: str, call: Callable[["MlflowClient", str], T]) -> T | None:
        """Call MLflow even right after a failure: for what is worth another attempt."""
        self._silent_until = 0.0
        return self.attempt(what, call)

    def start(
        self, experiment: str, name: str, tags: Mapping[str, str], run_id: str | None
    ) -> None:
        """Continue the run `run_id`, or make a new one; warn where there is no server."""
        try:
            client = connect(self.uri)
            if run_id is not None:
                self._resume(client, run_id)
            if self.id is None:
                created = client.create_run(
                    experiment_id(client, experiment),
                    tags={"mlflow.user": user_name(), **tags},
                    run_name=name,
                )
                self.id = created.info.run_id
            self._client = client
        except Exception as error:  # a dead or misconfigured server of whatever kind
            where = redacted(self.uri)
            logger.warning("MLflow at %s: this run is not recorded: %s", where, sentence(error))

    def _resume(self, client: "MlflowClient", run_id: str) -> None:
        """Take up a run again where the server knows it."""
        from mlflow import MlflowException

        try:
            self._known_params = set(client.get_run(run_id).data.params)
            client.update_run(run_id, status="RUNNING")
            self.id = run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            logger.warning("MLflow: no run %s here, a new one is made", run_id)

    def end(self, status: str) -> None:
        """Close the run."""
        self.insist("end the run", lambda client, run_id: client.set_terminated(run_id, status))


@contextmanager
def run(
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, str] | None = None,
    *,
    run_id: str | None = None,
) -> Iterator[Run]:
    """Record what happens inside the block as one MLflow run.

    Args:
        uri: Tracking server, as `resolve_uri` returns it.
        experiment: Made where it does not exist.
        name: Shown in MLflow's list of runs.
        tags: Set at the start.
        run_id: Continue this run; where the server does not know it, a new one is made.
    """
    tracked = Run(uri)
    tracked.start(experiment, name, tags or {}, run_id)
    with ended(tracked):
        yield tracked


class Ends(Protocol):
    """What is told how it ended."""

    def end(self, status: str) -> None:
        """Close it."""
        ...


Ending = TypeVar("Ending", bound=Ends)


@contextmanager
def ended(tracked: Ending) -> Iterator[Ending]:
    """Close a run at the end of the block, and say how that came."""
    status = "FAILED"
    try:
        yield tracked
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracked.end(status)


def dataset_input(name: str, source: str, digest: str, context: str) -> "DatasetInput":
    """Return MLflow's record of a dataset that is known by name, place and digest."""
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    short = digest.rpartition(":")[2][:MAX_DIGEST_LENGTH]
    dataset = MetaDataset(source=dataset_source(source), name=name, digest=short)
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
    return DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags)


def dataset_source(source: str) -> "DatasetSource":
    """Return MLflow's description of a URI; of one it does not know, the text itself."""
    from mlflow import MlflowException
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    try:
        with warnings.catch_warnings(action="ignore"):  # "can be interpreted in multiple ways"
            return resolve_dataset_source(source)
    except MlflowException:
        return CodeDatasetSource(tags={"source": source})


def user_name() -> str:
    """Return who runs this; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
