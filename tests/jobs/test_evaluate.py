import json

import pytest

from jobs import evaluate
from jobs.evaluate import Args
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
        ({"dataset": (("ade20k-150=/data",),)}, "there is no folder /data"),
        ({"dataset": (("scenes",), ("none",))}, "unknown dataset 'none'"),
        ({"dataset": (("scenes",),), "rejection": (("topk:0",),)}, "topk"),
        ({"dataset": (("scenes",),), "limit": 0}, "--limit must be at least 1"),
        ({"dataset": (("scenes",),), "batch_size": 0}, "--batch-size must be at least 1"),
        ({"dataset": (("scenes",),), "workers": 0}, "--workers must be at least 1"),
        ({"dataset": (("scenes",),), "gpus_per_worker": -1.0}, "--gpus-per-worker"),
        ({"dataset": (("scenes",),), "seed": -1}, "--seed"),
        ({"dataset": (("scenes",),), "model": "/nowhere/model.pth"}, "no model at"),
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


@pytest.mark.ray
def test_a_model_is_measured_on_two_datasets_under_two_rejections(
    local_ray, checkpoint, tmp_path, capsys
):
    args = Args(
        model=checkpoint,
        dataset=(("scenes",), ("scenes-unseen",)),
        rejection=(("none", "topk:1"),),
        limit=3,
        output=str(tmp_path / "out"),
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        json=True,
    )
    evaluate.main(args)
    *lines, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    assert [(one["name"], one["rejection"]) for one in found["datasets"]] == [
        ("scenes", "none"),
        ("scenes", "topk:1"),
        ("scenes-unseen", "none"),
        ("scenes-unseen", "topk:1"),
    ]
    assert all(one["images"] == 3 for one in found["datasets"])
    assert all(0 <= one["mIoU"] <= 100 for one in found["datasets"])
    assert found["datasets"][0]["mean_candidates"] == 156
    assert found["datasets"][1]["mean_candidates"] < 156
    assert any("mIoU" in line for line in lines)
    stored = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert stored["model_id"].startswith("sha256:")
    assert stored["datasets"][0]["per_class"]
