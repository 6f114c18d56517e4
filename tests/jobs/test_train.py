"""The command line of training: what is refused before anything starts, and one whole training."""

import dataclasses
import hashlib
import json

import mlflow
import pytest

import sed
from jobs.train import Args, main
from pipelines import scenes
from pipelines.crew import Crew
from pipelines.outputs import DONE, write_run
from pipelines.storage import locate
from pipelines.train_plan import claim
from tests.pipelines.labelled_scenes import RUN, write_output
from tests.training import make_config


def args(tmp_path, **changes):
    values = {"dataset": (("scenes",),), "output": str(tmp_path / "out"), "max_steps": 4}
    return Args(**{**values, **changes})


@pytest.fixture
def labels(tmp_path):
    """A small output of label, as a dataset."""
    output = write_output(tmp_path, num_images=8)
    facts = {"status": DONE, "classes": scenes.vocabulary(), "fingerprint": "sha256:1"}
    write_run(output, RUN | facts)
    return f"labels={output.path}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": ()}, "one dataset"),
        ({"dataset": (("cityscapes",),)}, "cityscapes"),
        ({"dataset": (("scenes", "scenes"),)}, "one dataset"),
        ({"dataset": (("scenes-unseen",),)}, "'scenes-unseen'"),
        ({"dataset": (("labels=nowhere",),)}, "no output of label"),
        ({"likely_share": 1.5}, "--likely-share"),
        ({"overlap_weight": -1.0}, "--overlap-weight"),
        ({"asked": ()}, "--asked"),
        ({"validation": (("cityscapes",),)}, "cityscapes"),
        ({"model": "base"}, "scenes train nano"),
        ({"model": "nowhere.pth"}, "nowhere.pth"),
        ({"model": "models:/nobody/1"}, "models:/nobody/1"),
        ({"workers": "0"}, "--workers"),
        ({"workers": "four"}, "a range like 1:4"),
        ({"workers": "4:1"}, "from less to more"),
        ({"workers": "1:"}, "a range like 1:4"),
        ({"workers": "1:2"}, "a single number on scenes"),
        ({"workers": "32"}, "less than an image"),
        ({"max_steps": 0}, "--max-steps"),
        ({"batch_size": 5, "workers": "2"}, "multiple"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"keep": 0}, "--keep must be at least 1"),
        ({"ema_decay": 1.0}, "--ema-decay"),
        ({"scene_size": 100}, "multiple of 64"),
        ({"accumulate": 2}, "--accumulate is a setting of training on photos only"),
        ({"crop_size": 64}, "--crop-size is a setting of training on photos only"),
        ({"use_gpu": True}, "--use-gpu: this machine has no GPU"),
        ({"clip_weights": "x"}, "--clip-weights is a setting of training on photos only"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(tmp_path, capsys, monkeypatch, changes, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    refused(args(tmp_path, **changes), words, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"align_steps": 3}, "--align-steps is a setting of training on scenes only"),
        ({"crop_size": 100}, "--crop-size must be a multiple of 32"),
        ({"workers": "1:9"}, "less than an image"),
        ({"clip_weights": "x"}, "goes with --model base or large"),
        ({"model": "base", "clip_weights": "nowhere.bin"}, "no CLIP weights at 'nowhere.bin'"),
        ({"max_class_area": 2.0}, "--max-class-area must be between 0 and 1"),
        ({"encoder_rate": 2.0}, "--encoder-rate must be between 0 and 1"),
        ({"max_asked": 0}, "--max-asked must be at least 1"),
    ],
)
def test_wrong_settings_for_photos_are_refused(tmp_path, labels, capsys, changes, words):
    refused(args(tmp_path, dataset=((labels,),), **changes), words, capsys)


def test_labels_that_are_not_complete_are_refused(tmp_path, capsys):
    output = write_output(tmp_path, num_images=3)
    write_run(output, RUN | {"status": "running", "classes": scenes.vocabulary()})
    refused(args(tmp_path, dataset=((f"labels={output.path}",),)), "not complete", capsys)


def refused(wrong, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error


def test_an_output_of_another_training_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.json").write_text(json.dumps({"digest": "sha256:other"}))
    refused(args(tmp_path), "other settings", capsys)


def test_a_training_may_go_on_with_less_memory_and_with_nothing_else_changed(tmp_path):
    config = make_config()
    file = locate(str(tmp_path / "out")).at("train.json")
    claim(file, config)
    recipe = json.loads(file.read())["recipe"]
    for change in ({"accumulate": 4}, {"recompute": True}):
        changed = dataclasses.replace(config, **change)
        assert claim(file, changed)["recipe"] == recipe
    with pytest.raises(ValueError, match="other settings"):
        claim(file, make_config(seed=1))
    # As an earlier version wrote it, which took the digest of all settings.
    whole = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    file.write(json.dumps({"digest": f"sha256:{whole}", "recipe": recipe}).encode())
    assert claim(file, dataclasses.replace(config, accumulate=4))["recipe"] == recipe


def test_a_range_of_workers_is_elastic():
    assert Crew.parse("4") == Crew(4, 4)
    assert Crew.parse("4").scaling(cpus=8).num_workers == 4
    elastic = Crew.parse("1:4", use_gpu=True).scaling(cpus=16)
    assert elastic.num_workers == (1, 4)
    assert elastic.resources_per_worker == {"CPU": 1, "GPU": 1}


@pytest.mark.parametrize("workers", ["1", "2", "4", "8", "1:8"])
@pytest.mark.parametrize("cpus", [2, 4, 8])
def test_workers_leave_cpus_to_read_with(workers, cpus):
    crew = Crew.parse(workers)
    assert crew.cpus_each(cpus) * crew.most <= max(cpus - 2, 0.8)


@pytest.mark.parametrize("most", range(1, 17))
def test_ray_train_counts_room_for_every_elastic_worker(most):
    each = Crew(1, most).cpus_each(4)
    assert sum([each] * most) // each == most


@pytest.mark.ray
def test_labels_train_a_model_that_is_validated_recorded_and_registered(
    local_ray, tmp_path, labels, capsys
):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    asked = args(
        tmp_path,
        dataset=((labels,),),
        validation=((labels,),),
        crop_size=64,
        max_steps=3,
        workers="1:2",
        log_every=1,
        precision="fp32",
        mlflow_uri=uri,
        register="trained",
        json=True,
    )
    main(asked)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["registered"] == "models:/trained/1"
    (scores,) = found["validation"]
    assert scores["images"] == 8
    assert found["best"] == {"steps": 3, "mIoU": scores["mIoU"]}
    assert sed.source_config(found["model"]) == sed.source_config("nano")
    assert not (tmp_path / "out" / "ray").exists()

    client = mlflow.MlflowClient(uri)
    run = client.get_run(found["run_id"])
    assert {"seed", "code_digest", "data_digest", "dataset", "max_steps"} <= set(run.data.params)
    names = {"loss/final", "loss/stride32", "learning_rate", "learning_rate_x0.01", "labels/mIoU"}
    names |= {"rate/images_per_second", "rate/ingest_images_per_second", "time/data_wait_seconds"}
    assert names | {"gradient_norm", "data/broken_images"} <= set(run.data.metrics)
    history = client.get_metric_history(run.info.run_id, "loss/total")
    assert [entry.step for entry in history] == [0, 1, 2]
    (picture,) = client.list_artifacts(run.info.run_id, "predictions/labels")
    assert picture.path.endswith("step-0000003.png")

    main(asked)  # complete: nothing is trained again, nor registered
    said = capsys.readouterr().out.splitlines()
    assert "Nothing was left to do: all 3 steps were taken before" in said
    again = json.loads(said[-1])
    same = ("validation", "run_id", "registered")
    assert [again[name] for name in same] == [found[name] for name in same]
    cannot_register(asked, capsys)


def cannot_register(asked, capsys):
    """Without a server, the model is there, but the job has failed."""
    with pytest.raises(SystemExit) as stopped:
        main(dataclasses.replace(asked, mlflow_uri="http://127.0.0.1:9"))
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["registered"] is None
    assert "could not be registered as trained" in said.err


def test_a_folder_that_holds_something_else_is_no_output(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as stopped:
        main(Args(dataset=(("scenes",),), output=str(tmp_path)))
    assert stopped.value.code == 2
    assert "is not empty and holds no training" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
