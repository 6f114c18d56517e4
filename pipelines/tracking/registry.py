"""Models by name: a checkpoint becomes a version of a registered model, and comes back from it.

A version is a folder in MLflow's own format, so that `mlflow.pyfunc.load_model` reads it, too.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.storage import locate
from pipelines.tracking.code import ROOT
from pipelines.tracking.run import Run
from pipelines.tracking.store import connect, redacted, resolve_uri, sentence

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "checkpoint"
"""Where in a run's artifacts its checkpoint lies."""

DIGEST_TAG = "sed.sha256"
"""Says of a version which file of weights it is."""

REQUIREMENTS = (
    "mlflow",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "safetensors",
    "pillow",
)
"""Packages that a registered model needs where it is served."""


def resolve_model(source: str, uri: str | None = None) -> str:
    """Return the local checkpoint of a registered model; other sources pass through.

    Args:
        source: models:/NAME/VERSION, models:/NAME/latest or models:/NAME@ALIAS, or anything else.
        uri: Tracking server; default as `resolve_uri` has it.

    Raises:
        ValueError: The registry cannot be reached or has no such model.
    """
    if not source.startswith("models:/"):
        return source
    uri = resolve_uri(uri)
    client = connect(uri)
    from mlflow import MlflowException
    from mlflow.artifacts import download_artifacts

    try:
        location = client.get_model_version_download_uri(*parse(client, source))
        folder = Path(download_artifacts(artifact_uri=location, tracking_uri=uri))
    except (MlflowException, OSError) as error:
        where = redacted(uri)
        raise ValueError(f"no {source} in MLflow at {where}: {sentence(error)}") from error
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{source} should hold one .safetensors file, it holds {len(files)}")
    return str(files[0])


def copy_of_file(uri: str) -> str:
    """Return the path of a local copy of a rejection file in a bucket.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    try:
        data = locate(uri).read()
    except OSError as error:
        raise ValueError(f"rejection file {uri!r} cannot be read: {sentence(error)}") from error
    copy = Path(tempfile.mkdtemp(prefix="sed-rejection-")) / "rejection.json"
    copy.write_bytes(data)
    return str(copy)


def resolve_rejection(text: str, uri: str | None = None) -> str:
    """Return the local copy of a rejection file in a run or a bucket; other policies pass through.

    Args:
        text: runs:/RUN/rejection.json, s3://BUCKET/rejection.json, or anything else; the last of
            several that are joined by "+" may be such a file too.
        uri: Tracking server; default as `resolve_uri` has it.

    Raises:
        ValueError: The server or the bucket cannot be reached or has no such file.
    """
    if "://" in text.partition("+")[0]:
        return copy_of_file(text)
    if not text.startswith("runs:/"):
        first, joined, rest = text.partition("+")
        return f"{first}+{resolve_rejection(rest, uri)}" if joined else text
    uri = resolve_uri(uri)
    connect(uri)
    from mlflow import MlflowException
    from mlflow.artifacts import download_artifacts

    try:
        return download_artifacts(artifact_uri=text, tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise ValueError(f"no {text} in MLflow at {redacted(uri)}: {sentence(error)}") from error


def parse(client: "MlflowClient", source: str) -> tuple[str, str]:
    """Return the name and the version that a models:/ source stands for."""
    path = source.removeprefix("models:/")
    name, at, alias = path.partition("@")
    if at:
        return name, str(client.get_model_version_by_alias(name, alias).version)
    name, _, version = path.rpartition("/")
    if not name or not (version.isdigit() or version == "latest"):
        raise ValueError(f"a registered model is models:/NAME/VERSION, got {source!r}")
    if version == "latest":
        versions = [int(v.version) for v in client.search_model_versions(f"name='{name}'")]
        if not versions:
            raise ValueError(f"MLflow has no registered model {name!r}")
        version = str(max(versions))
    return name, version


def register_model(
    run: Run, checkpoint_path: str | Path, name: str, classes: Sequence[str] = ()
) -> str | None:
    """Upload a checkpoint to the run and make it the next version of a registered model.

    The same checkpoint of the same run is a version once, however often this is called.

    Args:
        run: Where it comes from.
        checkpoint_path: One file of weights.
        name: Of the registered model.
        classes: What it labels where `mlflow.pyfunc` is asked for nothing else.

    Returns:
        models:/NAME/VERSION, or None where MLflow could not be reached.
    """

    def register(client: "MlflowClient", run_id: str) -> str:
        from mlflow import MlflowException

        from sed.checkpoint import file_digest  # torch: only where a model is there

        digest = file_digest(Path(checkpoint_path))
        for known in client.search_model_versions(f"name='{name}' and run_id='{run_id}'"):
            if known.tags.get(DIGEST_TAG) == digest:
                return f"models:/{name}/{known.version}"
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / FOLDER
            write_package(Path(checkpoint_path), package, classes)
            client.log_artifacts(run_id, str(package), FOLDER)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}"
        version = client.create_model_version(name, source, run_id, tags={DIGEST_TAG: digest})
        return f"models:/{name}/{version.version}"

    return run.insist(f"register {name}", register)


def write_package(checkpoint: Path, folder: Path, classes: Sequence[str]) -> None:
    """Write a model as MLflow reads it: the weights, `served_model.py`, and the code of `sed`."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    names: Any = list(classes)
    params = [
        ParamSpec("classes", DataType.string, names or [""], shape=(-1,)),
        ParamSpec("rejection", DataType.string, "none"),
    ]
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [ColSpec(DataType.binary, "labels"), ColSpec(DataType.double, "confidence")]
        ),
        params=ParamSchema(params),
    )
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "sed"
        # Without the bundled weights: the version has its own.
        shutil.copytree(ROOT / "sed", code, ignore=shutil.ignore_patterns("weights", "__pycache__"))
        logging.getLogger("mlflow.models").setLevel(logging.ERROR)
        pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"checkpoint": str(checkpoint)},
            code_paths=[str(code)],
            signature=signature,
            pip_requirements=list(REQUIREMENTS),
        )
