import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from jobs import demo
from jobs.demo import Args
from pipelines.storage import locate


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"images": 0}, "--images"),
        ({"model": "/nowhere/model.pth"}, "no model at"),
        ({"rejection": "topk:0"}, "topk"),
        ({"batch_size": 0}, "--batch-size"),
    ],
)
def test_wrong_input_ends_with_status_2_and_one_sentence(
    flags, message, random_checkpoint, tmp_path, capsys
):
    flags = {"model": str(random_checkpoint), "images": 2, "output": str(tmp_path / "demo")} | flags
    with pytest.raises(SystemExit) as stopped:
        demo.main(Args(**flags))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.ray
def test_the_demo_labels_scores_and_when_run_again_has_nothing_to_do(
    local_ray, random_checkpoint, tmp_path, capsys
):
    args = Args(
        output=str(tmp_path / "demo"),
        images=4,
        model=str(random_checkpoint),
        rejection="topk:1",
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        json=True,
    )
    demo.main(args)
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(first["report"]).is_file()
    assert {name: found["images"] for name, found in first["scores"].items()} == {
        "seen": 2,
        "unseen": 2,
    }
    run = mlflow.MlflowClient(tracking_uri=args.mlflow_uri).get_run(first["run_id"])
    assert run.data.metrics["labelled"] == 4
    assert "demo/unseen/mIoU" in run.data.metrics

    demo.main(args)
    *said, last = capsys.readouterr().out.splitlines()
    assert any("nothing is left to do" in line for line in said)
    assert json.loads(last) == first

    changed = demo.make_plan(replace(args, rejection="none"), args.model, locate(args.output))
    assert changed.config.overwrite
    assert changed.num_images == 4
