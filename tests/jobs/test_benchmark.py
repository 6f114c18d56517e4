import gzip
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from jobs import benchmark
from jobs.benchmark import Args, cases
from pipelines import approximations, cpu_work, suite
from pipelines.benchmark import measure
from sed import SED, save_model
from sed.config import nano

PARTS = {
    "encoder", "image guidance", "cost map", "rejection", "decoder to stride 16",
    "decoder to stride 8", "decoder to stride 4", "label map", "elsewhere",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(save_model(SED(nano()), tmp_path_factory.mktemp("model") / "model.safetensors"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"classes": (20, 0)}, "--classes must be at least 1, got 0"),
        ({"classes": ()}, "--classes needs at least one value"),
        ({"rejection": ("topk",)}, "rejection 'topk' is not understood"),
        ({"survivors": (-1,)}, "--survivors must be at least 1"),
        ({"warmup": -1}, "--warmup cannot be negative"),
        ({"device": "tpu"}, "--device is cpu or cuda, got 'tpu'"),
        ({"model": "/nowhere"}, "no model at '/nowhere'"),
        ({"plot": "memory.png"}, "--plot shows the memory of a label job: it needs --pipeline"),
        (
            {"pipeline": True, "plot": "/nowhere/memory.png"},
            "--plot is a file in a folder that exists, got '/nowhere/memory.png'",
        ),
        ({"pipeline": True, "plot": "/tmp"}, "--plot is a file in a folder that exists"),
        ({"suite": True, "pipeline": True}, "--suite and --pipeline measure different things"),
        ({"decode": True, "pipeline": True}, "--pipeline and --decode measure different things"),
        ({"decode": True, "model_ms": 0.0}, "--model-ms must be more than 0"),
        ({"suite": True, "output": __file__}, "--output is a folder, got the file"),
        ({"profile": True, "output": __file__}, "--output is a folder, got the file"),
        (
            {"rows": ("150 classes",)},
            "--rows chooses rows of the table of speeds: it needs --suite",
        ),
        ({"suite": True, "rows": ("15 classes",)}, "no row is called '15 classes'; there are: 20"),
        ({"profile": True, "suite": True}, "--suite and --profile measure different things"),
    ],
)
def test_wrong_input_ends_with_status_2_and_one_sentence(flags, message, checkpoint, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(Args(**{"model": checkpoint} | flags))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_survivors_are_forced_where_a_policy_could_reject_so_many():
    found = cases(Args(classes=(20, 150), rejection=("none", "topk:8"), survivors=(30, 85)))
    assert [(one.classes, one.rejection, one.survivors) for one in found] == [
        (20, "none", None),
        (20, "topk:8", None),
        (150, "none", None),
        (150, "topk:8", 30),
        (150, "topk:8", 85),
    ]


def test_each_case_is_measured_in_a_process_of_its_own(checkpoint, tmp_path, capsys):
    args = Args(
        model=checkpoint,
        classes=(12,),
        rejection=("topk:1",),
        survivors=(4,),
        repeats=1,
        warmup=0,
        device="cpu",
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        json=True,
    )
    benchmark.main(args)
    *lines, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    (case,) = found["cases"]
    assert (case["classes"], case["kept"], case["survivors"]) == (12, 4, 4)
    assert 0.1 < case["peak_memory_gb"] < 2
    assert found["weights"] == "as given"
    assert found["class_name"]["seconds"]["class name"] > 0
    assert any("topk:1 forced 4" in line for line in lines)


@pytest.fixture
def small_suite(checkpoint, tmp_path, monkeypatch):
    """A table of one small row, and the flags of the suite."""
    (row, *_) = suite.rows(checkpoint)
    goal = suite.Goal(figure="peak GB", bound=100)
    row = replace(row, case=replace(row.case, classes=2, warmup=0, repeats=1), goals=(goal,))
    monkeypatch.setattr(suite, "rows", lambda *_: (row,))
    monkeypatch.setattr(benchmark, "SCENES", 1)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return Args(model=checkpoint, suite=True, output=str(tmp_path / "out"), mlflow_uri=uri)


def test_the_suite_writes_its_table_as_json_and_as_a_picture(
    small_suite, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    benchmark.main(small_suite)
    written = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert written["rows"][0]["figures"]["whole / encoder"] > 0
    assert written["command"].endswith("--suite")
    assert len(written["date"]) == len("2026-11-25")
    assert written["torch"]
    assert written["allocator"] == "MALLOC_ARENA_MAX=2"
    assert written["accuracy"][0]["form"] == "exact"
    assert written["errors"] == {}
    assert (tmp_path / "out" / "suite.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "goal <= 100: met" in said
    assert "1 of 1 goals met" in said


def test_what_fails_late_takes_nothing_from_what_was_measured(
    small_suite, tmp_path, capsys, monkeypatch
):
    out, there = tmp_path / "out", []

    def fail(*_, **__):
        there.append(json.loads((out / "suite.json").read_text())["rows"][0]["name"])
        raise MemoryError("no room")

    threads = torch.get_num_threads()
    monkeypatch.setattr(
        suite, "measure_in_subprocess", lambda case, **_: measure(replace(case, threads=threads))
    )
    monkeypatch.setattr(approximations, "measure", fail)
    with pytest.raises(SystemExit, match="error: these rows failed: approximations"):
        benchmark.main(replace(small_suite, json=True))
    assert there == ["20 classes"]
    *_, last = capsys.readouterr().out.strip().split("\n")
    found = json.loads(last)
    assert found["errors"] == {"approximations": "MemoryError: no room"}
    assert found["rows"][0]["error"] is None
    monkeypatch.setattr(approximations, "measure", lambda *_, **__: [])
    benchmark.main(replace(small_suite, rows=("approximations",)))
    written = json.loads((out / "suite.json").read_text())
    assert written["errors"] == {}
    assert written["rows"] == found["rows"]


def test_a_figure_names_the_command_that_made_it():
    args = Args(
        model="base", suite=True, classes=(20, 150), optimize=False, json=True, output="here"
    )
    words = "python -m jobs.benchmark --model base --classes 20 150 --no-optimize --suite"
    assert benchmark.command(args) == words
    assert benchmark.command(Args(model="a b")) == "python -m jobs.benchmark --model 'a b'"


def test_the_work_of_a_core_is_measured_at_three_sizes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cpu_work, "SIZES", ((64, 48), (160, 120), (400, 300)))
    monkeypatch.setattr(cpu_work, "DRAWN_SIDE", 64)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    benchmark.main(Args(decode=True, model_ms=2.0, mlflow_uri=uri, repeats=1, json=True))
    *lines, last = capsys.readouterr().out.strip().split("\n")
    sizes = json.loads(last)["sizes"]
    assert [(one["width"], one["height"]) for one in sizes] == list(cpu_work.SIZES)
    for one in sizes:
        assert one["decode_seconds"] > 0 < one["describe_seconds"]
        assert one["decode_cores"] == one["decode_seconds"] / 0.002
        assert one["describe_cores"] == one["describe_seconds"] / 0.002
    assert sizes[0]["kilobytes"] < sizes[1]["kilobytes"] < sizes[2]["kilobytes"]
    assert "for 2 ms: decode  describe cores" in lines[-4]
    assert len(lines[-4:]) == len(sizes) + 1


def test_a_profile_says_what_the_parts_of_the_model_take(checkpoint, tmp_path, capsys):
    benchmark.main(
        Args(
            model=checkpoint, profile=True, classes=(12,), rejection=("topk:1",), survivors=(4,),
            repeats=2, device="cpu", output=str(tmp_path / "out"),
            mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        )
    )  # fmt: skip
    out = tmp_path / "out"
    found = json.loads((out / "profile.json").read_text())
    assert {one["name"] for one in found["parts"]} == PARTS
    assert sum(one["share"] for one in found["parts"]) == pytest.approx(1)
    assert all(one["share"] > 0 for one in found["parts"] if one["name"] != "elsewhere")
    assert {"a batch", "encoder"}.isdisjoint(one["name"] for one in found["operators"])
    assert found["operators"][0]["host_ms"] == max(one["host_ms"] for one in found["operators"])
    assert 0 < sum(one["host_ms"] for one in found["parts"]) == pytest.approx(found["batch_ms"])
    assert (found["classes"], found["kept"], found["device_busy"]) == (12, 4, None)
    assert 0 < found["peak_memory_gb"] < 4
    assert found["device"] == benchmark.cpu_name()
    with gzip.open(out / "trace.json.gz") as trace:
        names = {event.get("name") for event in json.load(trace)["traceEvents"]}
    assert "sed: encoder" in names
    with Image.open(out / "profile.png") as picture:
        assert min(picture.size) > 300
    said = capsys.readouterr().out
    assert "decoder to stride 4" in said
    assert "trace.json.gz" in said
