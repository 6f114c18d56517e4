import logging
import socket
from pathlib import Path

import pytest

from pipelines import tracking

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One SQLite store for the module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(uri):
    return mlflow.MlflowClient(tracking_uri=uri)


@pytest.fixture
def dead_uri():
    """The address of a server that is not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://somebody:secret@127.0.0.1:{port}"


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert tracking.resolve_uri(None) == "http://tracking"
    assert tracking.resolve_uri("http://flag") == "http://flag"


def test_a_submitted_job_does_not_keep_its_runs_in_a_folder_that_is_thrown_away(
    monkeypatch, tmp_path
):
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tracking.resolve_uri(None) == f"sqlite:///{tmp_path}/.sed/mlflow.db"


def test_a_run_keeps_what_it_was_told(uri, client, tmp_path):
    report = tmp_path / "index.html"
    report.write_text("<p>report</p>")
    with tracking.run(uri, "photos", "label", {"model": "nano"}) as run:
        run.params({"classes": 150, "rejection": "topk:8", "long": "x" * 9000})
        run.params({f"p{i}": i for i in range(130)})
        run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0, "lr": 0.1}, step=2)
        run.tags({"counted": 3})
        run.artifact(report, "report")
        run.artifact(tmp_path, "everything")
        run.dataset("photos", "s3://bucket/photos", "sha256:" + "ab" * 32, "labelling")
        run.dataset("scenes", "scenes", "0123", "evaluation")
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "label"
    assert found.data.params["classes"] == "150"
    assert len(found.data.params["long"]) == 6000
    assert found.data.params["p129"] == "129"
    assert found.data.metrics == {"loss": 1.0, "lr": 0.1}
    assert [m.step for m in client.get_metric_history(run.id, "loss")] == [1, 2]
    assert found.data.tags["model"] == "nano"
    assert found.data.tags["counted"] == "3"
    assert [file.path for file in client.list_artifacts(run.id, "report")] == ["report/index.html"]
    assert client.list_artifacts(run.id, "everything")
    inputs = {i.dataset.name: i for i in found.inputs.dataset_inputs}
    assert inputs["photos"].dataset.digest == ("ab" * 32)[:36]
    assert "s3://bucket/photos" in inputs["photos"].dataset.source
    assert inputs["scenes"].tags[0].value == "evaluation"


def test_artifacts_lie_beside_the_store(uri, client):
    with tracking.run(uri, "photos", "label") as run:
        pass
    folder = uri.removeprefix("sqlite:///").removesuffix("mlflow.db")
    assert client.get_run(run.id).info.artifact_uri.startswith(f"file://{folder}mlruns/photos/")


def test_a_run_is_continued_and_its_parameters_stand(uri, client):
    with tracking.run(uri, "photos", "label") as first:
        first.params({"workers": 1})
    with tracking.run(uri, "photos", "label", run_id=first.id) as second:
        assert client.get_run(first.id).info.status == "RUNNING"
        second.params({"workers": 2, "limit": 5})
    assert second.id == first.id
    found = client.get_run(first.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"workers": "1", "limit": "5"}


def test_an_unknown_run_becomes_a_new_one(uri, caplog):
    with tracking.run(uri, "photos", "label", run_id="0" * 32) as run:
        pass
    assert run.id not in (None, "0" * 32)
    assert "a new one is made" in caplog.text


def test_a_failed_job_is_a_failed_run(uri, client):
    with pytest.raises(RuntimeError), tracking.run(uri, "photos", "label") as run:
        raise RuntimeError("the job failed")
    assert client.get_run(run.id).info.status == "FAILED"


def test_a_dead_server_is_a_warning_that_hides_the_password(dead_uri, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING), tracking.run(dead_uri, "photos", "label") as run:
        run.params({"classes": 3})
        run.metrics({"loss": 1.0})
        assert tracking.register_model(run, "/nowhere", "sed") is None
    assert run.id is None
    ours = [record for record in caplog.records if record.name.startswith("pipelines")]
    assert len(ours) == 1
    assert "not recorded" in ours[0].message
    assert "secret" not in ours[0].message


def test_a_failure_in_the_middle_is_one_warning_and_the_run_still_ends(uri, client, caplog):
    with tracking.run(uri, "photos", "label") as run:
        run.artifact("/nowhere/report.html")
        run.metrics({"too soon": 1.0})
    assert sum(record.name.startswith("pipelines") for record in caplog.records) == 1
    assert client.get_run(run.id).info.status == "FINISHED"


def test_a_registered_checkpoint_comes_back(uri, client, tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    for content in (b"first", b"second"):
        checkpoint.write_bytes(content)
        with tracking.run(uri, "training", "train") as run:
            name = tracking.register_model(run, checkpoint, "sed-nano")
    assert name == "models:/sed-nano/2"
    client.set_registered_model_alias("sed-nano", "best", "1")
    wanted = {"models:/sed-nano/1": b"first", "models:/sed-nano/latest": b"second"}
    wanted["models:/sed-nano@best"] = b"first"
    for source, content in wanted.items():
        assert Path(tracking.resolve_model(source, uri)).read_bytes() == content


def test_a_checkpoint_is_registered_once_and_even_right_after_a_failure(uri, client, tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"weights")
    found, run_id = [], None
    for _ in range(2):
        with tracking.run(uri, "training", "train", run_id=run_id) as run:
            run_id = run.id
            run.artifact("/nowhere/model.safetensors")
            found.append(tracking.register_model(run, checkpoint, "sed-once"))
    assert found == ["models:/sed-once/1"] * 2
    checkpoint.write_bytes(b"other weights")
    with tracking.run(uri, "training", "train", run_id=run_id) as run:
        assert tracking.register_model(run, checkpoint, "sed-once") == "models:/sed-once/2"


def test_other_sources_pass_through(tmp_path):
    assert tracking.resolve_model("nano") == "nano"
    assert tracking.resolve_model("/data/model.pth") == "/data/model.pth"


@pytest.mark.parametrize(
    "source",
    ["models:/nobody/1", "models:/nobody/latest", "models:/nobody", "models:/nobody@best"],
)
def test_a_model_that_is_not_registered_is_an_input_error(source, uri):
    with pytest.raises(ValueError, match="nobody"):
        tracking.resolve_model(source, uri)
