"""Where runs are kept: a server, or a SQLite file with its artifacts beside it."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def resolve_uri(flag: str | None) -> str:
    """Return the tracking server to use: the flag, else MLFLOW_TRACKING_URI, else a SQLite file.

    The file lies in the current folder. A submitted Ray job runs in a folder that is thrown away,
    so there it lies in the home folder of the head node.
    """
    uri = flag or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    folder = Path.cwd()
    if "working_dir_files" in folder.parts:
        folder = Path.home() / ".sed"
        folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def connect(uri: str) -> "MlflowClient":
    """Return a client of one server, without usage reports, with little patience, no chatter."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for chatty in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, made if need be."""
    from mlflow import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_location(client, name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
        assert found is not None, "another job made this experiment a moment ago"
    return found.experiment_id


def artifact_location(client: "MlflowClient", experiment: str) -> str | None:
    """Return a folder beside the SQLite file; a server chooses by itself."""
    if not client.tracking_uri.startswith("sqlite:///"):
        return None
    store = Path(client.tracking_uri.removeprefix("sqlite:///")).resolve()
    return (store.parent / "mlruns" / experiment).as_uri()


def redacted(text: str) -> str:
    """Return a text without the passwords of the URIs in it, for logs."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1@", text)


def sentence(error: BaseException) -> str:
    """Return the first line of an error, at a length that a log can bear."""
    lines = redacted(str(error)).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
