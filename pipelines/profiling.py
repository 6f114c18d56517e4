"""What the time of a model is spent on: parts of the model, and operators.

The parts are the ranges "sed: ..." that the model itself records for whoever profiles it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from pipelines.benchmark import Case, make_labels, make_model, make_rejection, peak_memory, set_up
from pipelines.benchmark import random_text as make_text

RANGE = "sed: "
"""What the name of a part begins with."""

WHOLE = "a batch"
ELSEWHERE = "elsewhere"
TOP = 15
"""Operators that are listed."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Time of one part or one operator, for each batch."""

    name: str
    calls: float

    host_ms: float
    """Of the CPU: of a part with all that it calls, of an operator without."""

    device_ms: float
    """Of the GPU's kernels, likewise; 0 on a CPU."""

    share: float
    """Of the whole on the device that computes."""


@torch.inference_mode()
def measure(case: Case, trace: Path) -> dict[str, Any]:
    """Return what the batches of a case spend their time on, and write the trace of all.

    Args:
        case: `repeats` batches are profiled after `warmup` others.
        trace: JSON for Chrome's tracing; packed where it ends in .gz.
    """
    set_up(case)
    model = make_model(case)
    side = model.config.image_size
    images_B3HW = torch.rand(case.batch_size, 3, side, side, device=case.device)
    text_NPD, rejection = make_text(model, case.classes), make_rejection(case)

    def label() -> int:
        scores = model.score(images_B3HW, text_NPD, rejection)
        make_labels(scores, case.image_side)
        if case.device != "cpu":
            torch.cuda.synchronize(case.device)
        return sum(len(one.candidates_K) for one in scores)

    for _ in range(case.warmup):
        label()
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if case.device != "cpu" else []
    kept = 0
    with profile(activities=activities) as profiler:
        for _ in range(case.repeats):
            with record_function(WHOLE):
                kept = label()
    profiler.export_chrome_trace(str(trace))
    # An annotation is there twice where a GPU computes: the host's own knows both times.
    events = [one for one in profiler.key_averages() if one.device_type.name == "CPU"]
    facts = {
        "kept": kept / case.batch_size,
        "peak_memory_gb": peak_memory(case.device) / 1e9,
    }
    return asdict(case) | facts | summary(events, case.repeats, on_gpu=case.device != "cpu")


def summary(events: Sequence[Any], batches: int, *, on_gpu: bool) -> dict[str, Any]:
    """Return the parts in the order of their times, the operators that take most, and the whole.

    Args:
        events: Averages of the profiler, those of the host.
        batches: That were profiled.
        on_gpu: Whether the GPU's time counts.
    """
    (whole,) = (one for one in events if one.key == WHOLE)
    total = whole.device_time_total if on_gpu else whole.cpu_time_total

    def spent(one: Any, *, own: bool) -> Spent:  # noqa: ANN401  torch exports no type of it
        host = one.self_cpu_time_total if own else one.cpu_time_total
        device = one.self_device_time_total if own else one.device_time_total
        return Spent(
            name=one.key.removeprefix(RANGE),
            calls=one.count / batches,
            host_ms=host / 1000 / batches,
            device_ms=device / 1000 / batches,
            share=(device if on_gpu else host) / max(total, 1e-9),
        )

    parts = [spent(one, own=False) for one in events if one.key.startswith(RANGE)]
    operators = [
        spent(one, own=True) for one in events if one.key != WHOLE and not one.key.startswith(RANGE)
    ]
    all_of_it = spent(whole, own=False)
    parts = [*by_share(parts), rest(parts, all_of_it)]
    return {
        "batch_ms": all_of_it.host_ms,
        "device_busy": all_of_it.device_ms / all_of_it.host_ms if on_gpu else None,
        "parts": [asdict(one) for one in parts],
        "operators": [asdict(one) for one in by_share(operators)[:TOP]],
        "waits": [asdict(one) for one in operators if "Synchronize" in one.name],
    }


def by_share(found: Sequence[Spent]) -> list[Spent]:
    """Return what takes most first."""
    return sorted(found, key=lambda one: one.share, reverse=True)


def rest(parts: Sequence[Spent], whole: Spent) -> Spent:
    """Return what no part has of the whole."""
    return Spent(
        name=ELSEWHERE,
        calls=1,
        host_ms=whole.host_ms - sum(one.host_ms for one in parts),
        device_ms=whole.device_ms - sum(one.device_ms for one in parts),
        share=1 - sum(one.share for one in parts),
    )


def lines(found: dict[str, Any]) -> list[str]:
    """Return the parts, the operators and the waits as a table."""
    rows = [f"{'part or operator':<36} {'calls':>7} {'CPU ms':>9} {'GPU ms':>9} {'share':>6}"]
    for kind in ("parts", "operators", "waits"):
        rows += [
            f"{one['name'][:36]:<36} {one['calls']:>7.0f} {one['host_ms']:>9.2f} "
            f"{one['device_ms']:>9.2f} {one['share']:>6.1%}"
            for one in found[kind]
        ]
    busy = found["device_busy"]
    ends = "" if busy is None else f", the GPU busy {busy:.0%} of it"
    kept, peak = found["kept"], found["peak_memory_gb"]
    whole = f"a batch of {found['batch_size']}: {found['batch_ms']:.1f} ms{ends}"
    return [*rows, f"{whole}; {kept:.0f} classes left; peak {peak:.2f} GB, the profiler's included"]


def title(found: Mapping[str, Any]) -> str:
    """Return what a profile must be read with."""
    names = ("device", "torch", "date", "threads")
    facts = ", ".join(f"{name}: {found[name]}" for name in names if name in found)
    forced = f" forced {found['survivors']}" if found["survivors"] is not None else ""
    case = f"{found['model']}, {found['classes']} classes, {found['rejection']}{forced}"
    whole = f"{found['kept']:.0f} left, batch {found['batch_size']}, {found['batch_ms']:.0f} ms"
    return f"{case}: {whole}\n{facts}"


def draw(found: dict[str, Any], file: Path, title: str) -> None:
    """Draw what the parts and the operators take of the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    kinds = (
        ("parts", "tab:blue", "parts of the model"),
        ("operators", "tab:orange", "operators, without what they call"),
    )
    for axes, (kind, colour, heading) in zip(figure.subplots(1, 2), kinds, strict=True):
        rows = found[kind][:10][::-1]
        names = [one["name"].removeprefix("aten::")[:32] for one in rows]
        bars = axes.barh(range(len(rows)), [100 * one["share"] for one in rows], color=colour)
        axes.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("share of the time of a batch, %", fontsize=9)
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
