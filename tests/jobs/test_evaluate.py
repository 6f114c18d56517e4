import json
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import evaluate
from jobs.evaluate import Args
from pipelines import tracking
from pipelines.outputs import write_run
from pipelines.rows import MANIFEST
from pipelines.shards import write_manifest
from sed import SED, save_model
from sed.config import nano
from tests.pipelines.labelled_scenes import RUN, read_rows, write_output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A nano model that has learned nothing."""
    return str(save_model(SED(nano()), tmp_path_factory.mktemp("model") / "model.safetensors"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "no dataset given"),
        ({"dataset": (("ade20k-150=/data",),)}, "there is no folder /data"),
        ({"dataset": (("scenes",), ("none",))}, "unknown dataset 'none'"),
        ({"dataset": (("scenes",),), "rejection": (("topk:0",),)}, "topk"),
        ({"dataset": (("scenes",),), "limit": 0}, "--limit must be at least 1"),
        ({"dataset": (("scenes",),), "batch_size": 0}, "--batch-size must be at least 1"),
        ({"dataset": (("scenes",),), "workers": 0}, "--workers must be at least 1"),
        ({"dataset": (("scenes",),), "gpus_per_worker": -1.0}, "--gpus-per-worker"),
        ({"dataset": (("scenes",),), "seed": -1}, "--seed"),
        ({"dataset": (("scenes",),), "model": "/nowhere/model.pth"}, "no model at"),
        ({"dataset": (("scenes",),), "allow_errors": -1}, "--allow-errors cannot be negative"),
        ({"dataset": (("scenes",),), "output": "ftp://bucket/x"}, "ftp://bucket/x"),
    ],
)
def test_wrong_input_ends_with_status_2_and_one_sentence(flags, message, checkpoint, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(Args(**{"model": checkpoint} | flags))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_the_scores_of_another_evaluation_are_not_written_over(checkpoint, tmp_path, capsys):
    (tmp_path / "evaluation.json").write_text(json.dumps({"identity": {"limit": 7}}))
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(Args(model=checkpoint, dataset=(("scenes",),), output=str(tmp_path)))
    assert stopped.value.code == 2
    assert "use another --output" in capsys.readouterr().err


def register(checkpoint, mlflow_uri):
    """Make the checkpoint a version of a registered model."""
    with tracking.run(mlflow_uri, "sed", "train") as run:
        return tracking.register_model(run, checkpoint, "untrained")


def write_labels(folder, classes):
    """Write what `label` would, of photos one of which is damaged by now; return its URI."""
    output = write_output(folder, num_images=4, classes=classes)
    uris = [row["image_uri"] for row in read_rows(output)]
    write_run(output, RUN | {"classes": classes, "fingerprint": "sha256:1"})
    shards = [{"image_uri": uri, "shard": 0} for uri in uris]
    write_manifest(output, pa.Table.from_pylist(shards, schema=MANIFEST))
    photo = Path(uris[0])
    photo.write_bytes(photo.read_bytes()[:300])
    return output.uri


@pytest.mark.ray
def test_a_registered_model_is_measured_on_two_datasets_under_two_rejections(
    local_ray, checkpoint, tmp_path, capsys
):
    mlflow_uri = f"sqlite:///{tmp_path}/mlflow.db"
    labels = write_labels(tmp_path, ["sand", "snow", "grass", "red ball"])
    args = Args(
        model=register(checkpoint, mlflow_uri),
        dataset=((f"labels={labels}",), ("scenes-unseen",)),
        rejection=(("none", "topk:1"),),
        limit=4,
        workers=1,
        output=str(tmp_path / "out"),
        mlflow_uri=mlflow_uri,
        json=True,
    )
    assert args.model == "models:/untrained/1"
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(args)
    assert stopped.value.code == 1, "a photo is broken"
    *lines, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    assert f"MLflow: run {found['run_id']} in {mlflow_uri}" in lines
    assert [(one["name"], one["rejection"]) for one in found["datasets"]] == [
        ("labels", "none"),
        ("labels", "topk:1"),
        ("scenes-unseen", "none"),
        ("scenes-unseen", "topk:1"),
    ]
    assert [one["images"] for one in found["datasets"]] == [3, 3, 4, 4]
    assert [one["num_errors"] for one in found["datasets"]] == [1, 1, 0, 0]
    assert all(0 <= one["mIoU"] <= 100 for one in found["datasets"])
    assert found["datasets"][2]["mean_candidates"] == 156
    assert found["datasets"][3]["mean_candidates"] < 156
    assert any("mIoU" in line for line in lines)
    assert any("scene_000.jpg has changed since it was labelled" in line for line in lines)
    check_files(tmp_path / "out")
    check_run(tracking.store.connect(mlflow_uri), found["run_id"])


def check_files(folder):
    stored = json.loads((folder / "evaluation.json").read_text())
    assert stored["model_id"].startswith("sha256:")
    assert stored["complete"]
    assert stored["datasets"][0]["per_class"]
    assert stored["datasets"][0]["errors"][0]["image_id"].endswith("scene_000.jpg")
    assert "Evaluation of models:/untrained/1" in (folder / "report/index.html").read_text()


def check_run(client, run_id):
    run = client.get_run(run_id)
    assert run.data.metrics["labels/none/num_errors"] == 1
    assert "scenes-unseen/topk:1/boundary_mIoU" in run.data.metrics
    assert {one.path for one in client.list_artifacts(run_id)} == {
        "confusion",
        "evaluation.html",
        "evaluation.json",
        "worst",
    }
    assert len(client.list_artifacts(run_id, "worst/labels-none")) == 3
