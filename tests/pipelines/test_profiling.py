"""A profile: every part of either form is there, and a GPU's time counts where there is one."""

from types import SimpleNamespace

import pytest
import torch

from pipelines import profiling
from pipelines.benchmark import Case
from sed import SED, save_model
from sed.config import nano


def event(name, *, host, device=0.0, own=0.0, own_device=0.0, count=2):
    """Averages of two batches, in microseconds."""
    return SimpleNamespace(
        key=name, count=count, cpu_time_total=host, device_time_total=device,
        self_cpu_time_total=own, self_device_time_total=own_device,
    )  # fmt: skip


EVENTS = [
    event("a batch", host=8000, device=4000),
    event("sed: encoder", host=6000, device=1000),
    event("sed: label map", host=1000, device=2000),
    event("aten::mm", host=5000, device=900, own=4500, own_device=800, count=40),
    event("aten::max", host=500, device=1900, own=300, own_device=1900),
    event("cudaStreamSynchronize", host=700, own=700, count=6),
]


@pytest.mark.parametrize(
    ("on_gpu", "parts", "operators"),
    [
        (True, [("label map", 0.5), ("encoder", 0.25), ("elsewhere", 0.25)], ["max", "mm"]),
        (False, [("encoder", 0.75), ("label map", 0.125), ("elsewhere", 0.125)], ["mm", "cuda"]),
    ],
)
def test_the_time_of_the_device_that_computes_counts(on_gpu, parts, operators):
    found = profiling.summary(EVENTS, 2, on_gpu=on_gpu)
    assert [(one["name"], one["share"]) for one in found["parts"]] == parts
    for one, name in zip(found["operators"], operators, strict=False):
        assert one["name"].removeprefix("aten::").startswith(name)
    assert found["batch_ms"] == 4
    assert found["device_busy"] == (0.5 if on_gpu else None)
    assert [(one["calls"], one["host_ms"]) for one in found["waits"]] == [(3, 0.35)]
    text = profiling.lines(found | {"batch_size": 16, "kept": 3.5, "peak_memory_gb": 2})
    ends = ", the GPU busy 50% of it" if on_gpu else ""
    assert (
        text[-1]
        == f"a batch of 16: 4.0 ms{ends}; 4 classes left; peak 2.00 GB, the profiler's included"
    )
    assert any(row.startswith("cudaStreamSynchronize") for row in text)


def test_the_plain_form_has_the_same_parts(tmp_path):
    checkpoint = str(save_model(SED(nano()), tmp_path / "model.safetensors"))
    case = Case(
        model=checkpoint, classes=5, rejection="topk:1", repeats=1, image_side=80,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    fast, plain = (
        profiling.measure(one, tmp_path / "trace.json")
        for one in (case, Case(**{**case.__dict__, "optimize": False}))
    )
    names = [{one["name"] for one in found["parts"]} for found in (fast, plain)]
    assert names[0] == names[1]
    assert len(names[0]) == 9
    assert (tmp_path / "trace.json").stat().st_size > 1000
