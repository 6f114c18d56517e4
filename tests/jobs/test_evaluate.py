import json
from dataclasses import replace

import pyarrow as pa
import pytest

from jobs import evaluate
from jobs.evaluate import Args
from pipelines import tracking
from pipelines.datasets import load
from pipelines.rows import PREPARED
from sed import SED, save_model
from sed.config import nano


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A nano model that has learned nothing."""
    return str(save_model(SED(nano()), tmp_path_factory.mktemp("model") / "model.safetensors"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "no dataset given"),
        ({"dataset": (("ade20k-150=/data",),)}, "'ade20k-150' is not part of this version yet"),
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


def break_one(name, uri=None, **options):
    """Load scenes of which the first has a photo that cannot be read."""
    data = load(name, uri, **options)
    return replace(data, rows=data.rows.map_batches(cut, batch_format="pyarrow"))


def cut(batch):
    rows = batch.to_pylist()
    for row in rows:
        if row["image_id"].endswith("0"):
            row["image"]["bytes"] = row["image"]["bytes"][:99]
    return pa.Table.from_pylist(rows, schema=PREPARED)


@pytest.mark.ray
def test_a_registered_model_is_measured_on_two_datasets_under_two_rejections(
    local_ray, checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluate, "load", break_one)
    mlflow_uri = f"sqlite:///{tmp_path}/mlflow.db"
    args = Args(
        model=register(checkpoint, mlflow_uri),
        dataset=(("scenes",), ("scenes-unseen",)),
        rejection=(("none", "topk:1"),),
        limit=4,
        output=str(tmp_path / "out"),
        mlflow_uri=mlflow_uri,
        json=True,
    )
    assert args.model == "models:/untrained/1"
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(args)
    assert stopped.value.code == 1, "two photos are broken"
    *lines, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    assert [(one["name"], one["rejection"]) for one in found["datasets"]] == [
        ("scenes", "none"),
        ("scenes", "topk:1"),
        ("scenes-unseen", "none"),
        ("scenes-unseen", "topk:1"),
    ]
    assert all(one["images"] == 3 for one in found["datasets"])
    assert all(one["num_errors"] == 1 for one in found["datasets"])
    assert all(0 <= one["mIoU"] <= 100 for one in found["datasets"])
    assert found["datasets"][0]["mean_candidates"] == 156
    assert found["datasets"][1]["mean_candidates"] < 156
    assert any("mIoU" in line for line in lines)
    assert any("seen-0-000000: the photo:" in line for line in lines)
    stored = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert stored["model_id"].startswith("sha256:")
    assert stored["datasets"][0]["per_class"]
    assert stored["datasets"][0]["errors"][0]["image_id"] == "seen-0-000000"
    assert "Evaluation of models:/untrained/1" in (tmp_path / "out/report/index.html").read_text()
    client = tracking.store.connect(mlflow_uri)
    run = client.get_run(found["run_id"])
    assert run.data.metrics["scenes/none/num_errors"] == 1
    assert "scenes-unseen/topk:1/boundary_mIoU" in run.data.metrics
    paths = {one.path for one in client.list_artifacts(found["run_id"])}
    assert paths == {"confusion", "evaluation.html", "evaluation.json", "worst"}
    worst = client.list_artifacts(found["run_id"], "worst/scenes-none")
    assert len(worst) == 3
