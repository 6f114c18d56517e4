"""The sweep as a job: what it refuses, and that its choice is used."""

import json
from dataclasses import replace
from importlib.metadata import version

import pytest

from jobs import benchmark, evaluate, label, sweep
from jobs.sweep import Args
from pipelines import datasets
from pipelines.classes import vocabulary_id
from pipelines.sweep.front import CLOCK_NOISE
from pipelines.tracking.code import code_digest
from sed.checkpoint import check_source, file_digest
from tests.fakes import write_photos


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dataset": "nothing"}, "unknown dataset 'nothing'"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"trials": 0}, "--trials must be at least 1"),
        ({"concurrency": 0}, "--concurrency must be at least 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"max_miou_drop": 200.0}, "--max-miou-drop"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**32}, "--seed"),
        ({"space": "nowhere.yaml"}, "there is no space file"),
        ({"classes": ("sky", "sky")}, "more than once"),
        ({"extra_names": ("nonsense",)}, "nonsense"),
        ({"model": "/nowhere/model.pth"}, "no model at"),
        ({"output": "ftp://bucket/x"}, "ftp://bucket/x"),
    ],
)
def test_wrong_input_ends_with_status_2_and_one_sentence(flags, message, tmp_path, capsys):
    args = {"dataset": "scenes", "output": str(tmp_path / "out"), **flags}
    with pytest.raises(SystemExit) as stopped:
        sweep.main(Args(**args))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", ["", "policies: []", 'policies: ["best:3"]'])
def test_an_empty_space_or_a_wrong_policy_ends_with_status_2(content, tmp_path, capsys):
    (tmp_path / "space.yaml").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        sweep.main(Args(dataset="scenes", output=str(tmp_path), space=str(tmp_path / "space.yaml")))
    assert stopped.value.code == 2
    assert "space.yaml' is wrong" in capsys.readouterr().err


@pytest.mark.ray
def test_a_vocabulary_without_any_class_ends_with_status_2(local_ray, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main(Args(dataset="scenes", output=str(tmp_path / "out"), classes=("zebra",)))
    assert stopped.value.code == 2
    assert "none of the 1 names" in capsys.readouterr().err


@pytest.mark.ray
def test_a_sweep_finds_a_policy_that_label_takes(
    local_ray, random_checkpoint, tmp_path, capsys, caplog
):
    names = ("grass", "sand", "blue sky", "water", "red ball", "green box")
    (tmp_path / "space.yaml").write_text(
        'policies: ["fixed:{f}", "prob:{t}"]\nparameters: {f: [2, 4], t: [0.2]}'
    )
    flags = {
        "dataset": "scenes",
        "output": str(tmp_path / "out"),
        "mlflow_uri": f"sqlite:///{tmp_path}/mlflow.db",
    }
    args = Args(
        **flags, classes=names, limit=20, trials=6, concurrency=2, search="grid",
        space=str(tmp_path / "space.yaml"), json=True,
    )  # fmt: skip
    sweep.main(args)
    *lines, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    assert {one["rejection"] for one in found["trials"]} == {
        "none", "topk:1", "topk:2", "topk:4", "fixed:2", "fixed:4", "prob:0.2"
    }  # fmt: skip
    by_name = {one["rejection"]: one for one in found["trials"]}
    check_trials(by_name)
    assert any("chosen" in line for line in lines)
    assert f"MLflow: run {found['run_id']} in {flags['mlflow_uri']}" in lines
    chosen = json.loads((tmp_path / "out/rejection.json").read_text())
    assert chosen["rejection"] == found["chosen"]
    check_evidence(chosen["evidence"], found, names)
    assert "<svg" in (tmp_path / "out/report/index.html").read_text()
    assert (tmp_path / "out/sweep.png").read_bytes().startswith(b"\x89PNG")
    check_mlflow(flags["mlflow_uri"], found)
    check_label(tmp_path, names, found, flags["mlflow_uri"], random_checkpoint, capsys)
    check_evaluate_and_benchmark(tmp_path, found, flags["mlflow_uri"], capsys, caplog)
    sweep.main(args)  # is done already
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1]) == found
    check_another_bound(args, tmp_path, found, capsys)


def check_trials(by_name):
    """What is known of policies that keep a fixed number of classes."""
    assert by_name["fixed:2"]["kept"] == [2, 2, 2]
    assert by_name["fixed:2"]["cost"] == pytest.approx(1 / 3)
    assert by_name["none"]["recall"] == [1, 1, 1]


def check_evidence(evidence, found, names):
    """rejection.json says for what its policy holds, and how it was found."""
    trials = {one["rejection"]: one for one in found["trials"]}
    data = datasets.load("scenes", limit=20)
    assert evidence == {
        "model": "nano",
        "model_id": file_digest(check_source("nano")),
        "vocabulary": list(names),
        "vocabulary_id": vocabulary_id(names),
        "num_scored": 6,
        "dataset": {"name": "scenes", "source": data.source, "digest": data.digest},
        "images": 20,
        "batch_size": 8,
        "device": "cpu",
        "threads": found["threads"],
        "max_miou_drop": 0.2,
        "bootstrap": {"resamples": 1000, "confidence": 95},
        "code": code_digest(),
        "versions": {name: version(name) for name in ("torch", "ray", "optuna")},
        "run_id": found["run_id"],
        "chosen": trials[found["chosen"]],
        "front": [trials[text] for text in found["front"]],
    }
    assert data.source == "scenes?seed=0&images=20"
    assert evidence["chosen"]["drop_points"] <= 0.2
    speed = {text: one["alone_images_per_second"] for text, one in trials.items()}
    allowed = [text for text, one in trials.items() if one["drop_points"] <= 0.2]
    enough = max(speed[text] for text in allowed) / (1 + CLOCK_NOISE)
    assert speed[found["chosen"]] >= enough
    fast = [trials[text]["drop_points"] for text in allowed if speed[text] >= enough]
    assert evidence["chosen"]["drop_points"] == min(fast)
    for one in evidence["front"]:
        assert one["images"] == 20
        assert one["drop_low"] <= one["drop_points"] <= one["drop_high"]
        assert one["alone_images_per_second"] < 1 / found["encoder_seconds"]
    costs = [one["cost"] for one in evidence["front"]]
    assert costs == sorted(costs)


def check_evaluate_and_benchmark(folder, found, uri, capsys, caplog):
    """The choice is used by its file and by the name of its run; other names are remarked on."""
    choice = (str(folder / "out/rejection.json"), f"runs:/{found['run_id']}/rejection.json")
    evaluate.main(
        evaluate.Args(
            dataset=(("scenes",),), rejection=(choice,), limit=4, workers=1, mlflow_uri=uri,
            json=True,
        )
    )  # fmt: skip
    measured = json.loads(capsys.readouterr().out.strip().split("\n")[-1])["datasets"]
    assert [one["rejection"] for one in measured] == [found["chosen"]]  # both are the same policy
    assert measured[0]["mean_candidates"] < 156
    foreign = [one for one in caplog.messages if "tuned for another vocabulary" in one]
    assert len(foreign) == 2
    assert all(any(repr(name) in one for one in foreign) for name in choice)
    benchmark.main(
        benchmark.Args(
            classes=(6,), rejection=choice, image_side=64, repeats=1, warmup=0, mlflow_uri=uri,
            json=True,
        )
    )  # fmt: skip
    cases = json.loads(capsys.readouterr().out.strip().split("\n")[-1])["cases"]
    assert [one["rejection"] for one in cases] == [found["chosen"]] * 2


def check_another_bound(args, folder, found, capsys):
    """A start after a kill continues; where its bound chooses nothing, no choice is left."""
    from mlflow import MlflowClient

    client, run_id = MlflowClient(args.mlflow_uri), found["run_id"]
    artifacts = {file.path for file in client.list_artifacts(run_id)}
    assert "rejection.json" in artifacts
    (folder / "out/sweep.json").unlink()  # as a kill before the end leaves it
    (folder / "out/report/index.html").unlink()
    sweep.main(replace(args, max_miou_drop=-50.0))
    *lines, last = capsys.readouterr().out.strip().split("\n")
    again = json.loads(last)
    policies = {one["rejection"] for one in found["trials"]}
    assert {one["rejection"] for one in again["trials"]} == policies
    assert again["run_id"] == run_id
    assert (folder / "out/report/index.html").exists()
    assert again["chosen"] is None
    assert "No policy gains 50 points of mIoU" in lines
    assert not (folder / "out/rejection.json").exists()
    assert {file.path for file in client.list_artifacts(run_id)} == artifacts - {"rejection.json"}
    check_mlflow(args.mlflow_uri, again)


def check_mlflow(uri, found):
    """The sweep's run has a run below it for each trial."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    parent = client.get_run(found["run_id"])
    assert parent.data.tags.get("chosen") == found["chosen"]
    pages = client.list_artifacts(found["run_id"], "report")
    assert [file.path for file in pages] == ["report/index.html"]
    below = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{found['run_id']}'"
    )
    assert sorted(run.data.params["rejection"] for run in below) == sorted(
        one["rejection"] for one in found["trials"]
    )
    on_front = {
        run.data.params["rejection"] for run in below if run.data.tags["on_front"] == "True"
    }
    assert on_front == set(found["front"])


def check_label(folder, names, found, uri, random_checkpoint, capsys):
    """The choice is used by run and by file, and refused for another vocabulary or model."""
    write_photos(folder / "photos", 2)
    flags = {"images": str(folder / "photos"), "mlflow_uri": uri, "workers": 1, "json": True}
    rejection = f"runs:/{found['run_id']}/rejection.json"
    label.main(
        label.Args(output=str(folder / "labels"), classes=names, rejection=rejection, **flags)
    )
    capsys.readouterr()
    run = json.loads((folder / "labels/run.json").read_text())
    assert run["identity"]["rejection"] == found["chosen"]
    with pytest.raises(SystemExit) as stopped:
        label.main(
            label.Args(output=str(folder / "other"), classes=("sky",), rejection=rejection, **flags)
        )
    assert stopped.value.code == 2
    assert "tuned for another vocabulary" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        label.main(
            label.Args(
                output=str(folder / "other"), classes=names, model=str(random_checkpoint),
                rejection=str(folder / "out/rejection.json"), **flags,
            )
        )  # fmt: skip
    assert stopped.value.code == 2
    assert "tuned for another model" in capsys.readouterr().err
    label.main(
        label.Args(
            output=str(folder / "by-file"), classes=names,
            rejection=str(folder / "out/rejection.json"), **flags,
        )
    )  # fmt: skip
    capsys.readouterr()
    run = json.loads((folder / "by-file/run.json").read_text())
    assert run["identity"]["rejection"] == found["chosen"]
