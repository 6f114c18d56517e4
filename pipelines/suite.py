"""The table of speeds that the project promises: each case beside its goal and the authors' figure.

Ratios compare across machines: seconds over those of the plain encoder, timm's own ConvNeXt, in the
same process. The authors' ratios were taken in the same way on a similar machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.benchmark import Case, measure_in_subprocess

Found = Mapping[str, Any]

FAST = "150 classes, fast form, batch 16"
"""Line for a GPU that is profiled too: what bounds it when nothing is compiled away."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound on one figure of a row."""

    figure: str
    """Key of `figures`."""

    bound: float
    """The most it may be, or the least where `least` says so."""

    least: bool = False
    """Whether the figure is to reach the bound and not to stay under it."""

    authors: str = ""
    """What the authors' implementation takes."""

    def is_met(self, value: float) -> bool:
        """Say whether a figure keeps the bound."""
        return value >= self.bound if self.least else value <= self.bound


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    case: Case
    goals: tuple[Goal, ...] = ()

    speedup_of: str = ""
    """Name of an earlier row whose time is divided by this one's."""


def rows(model: str, device: str = "cpu") -> tuple[Row, ...]:
    """Return the lines of the table, for a model of the published sizes.

    Args:
        model: As of `Case`.
        device: cpu or cuda.
    """
    return cpu_rows(model) if device == "cpu" else gpu_rows(model, device)


def gpu_rows(model: str, device: str) -> tuple[Row, ...]:
    """Return the lines for a GPU; the authors' way is the first: float32, eager, one image.

    Each line after it adds one thing: the layout of channels, bfloat16, the pairs of a batch packed
    together, the form for inference, compiled programs for few sizes, CUDA graphs of these.
    """
    eager = Case(
        model=model, device=device, rejection="topk:8", survivors=30, warmup=3, repeats=10,
        optimize=False, dtype="float32", channels_last=False,
    )  # fmt: skip
    last = replace(eager, channels_last=True)
    half = replace(last, dtype="bfloat16")
    fast = replace(half, optimize=True, batch_size=16)
    first, compiled = "150 classes, eager float32, batch 1", "150 classes, compiled, batch 16"
    goals = (Goal(figure="ms an image", bound=8), Goal(figure="speed-up", bound=6, least=True))
    against_first = (
        ("150 classes, eager float32, channels last, batch 1", last, ()),
        ("150 classes, eager bfloat16, batch 1", half, ()),
        ("150 classes, eager bfloat16, packed pairs of 16", replace(half, batch_size=16), ()),
        ("150 classes, fast form, batch 1", replace(fast, batch_size=1), ()),
        (FAST, fast, ()),
        (compiled, replace(fast, compile=True), goals),
        ("150 classes, CUDA graphs, batch 16", replace(fast, compile=True, graphs=True), ()),
    )
    return (
        Row(name=first, case=eager),
        *(
            Row(name=name, case=case, goals=goals, speedup_of=first)
            for name, case, goals in against_first
        ),
        Row(
            name="847 classes, compiled, batch 16",
            case=replace(fast, classes=847, survivors=85, compile=True),
            goals=(Goal(figure="speed-up", bound=0.5, least=True),),
            speedup_of=compiled,
        ),
        Row(
            name="class names",
            case=replace(fast, classes=0, names=630, batch_size=1),  # of the 847: without synonyms
            goals=(Goal(figure="s for 847 names", bound=20),),
        ),
    )


def cpu_rows(model: str) -> tuple[Row, ...]:
    """Return the lines for a CPU."""
    one = Case(model=model, threads=1, repeats=2)
    whole = "whole / encoder"
    return (
        Row(name="20 classes", case=replace(one, classes=20)),
        Row(
            name="150 classes",
            case=replace(one, classes=150),
            goals=(Goal(figure=whole, bound=2.4, authors="7.2"),),
        ),
        Row(
            name="150 classes, two threads",
            case=replace(one, classes=150, threads=2),
            goals=(Goal(figure="speed-up", bound=1.6, least=True, authors="1.65"),),
            speedup_of="150 classes",
        ),
        Row(
            name="150 classes, the plain form",
            case=replace(one, classes=150, optimize=False, repeats=1),
        ),
        Row(name="150 classes, bfloat16", case=replace(one, classes=150, dtype="bfloat16")),
        Row(name="150 classes, 16 of 80 prompts", case=replace(one, classes=150, rank=16)),
        Row(
            name="150 classes, 30 survive",
            case=replace(one, classes=150, rejection="topk:8", survivors=30),
        ),
        Row(
            name="847 classes, 85 survive",
            case=replace(one, classes=847, rejection="topk:8", survivors=85),
            goals=(Goal(figure=whole, bound=2.0, authors="6.4 to 7.2"),),
        ),
        Row(
            name="847 classes, fixed:128",
            case=replace(one, classes=847, rejection="fixed:128"),
            goals=(Goal(figure=whole, bound=1.7),),
        ),
        Row(
            name="847 classes",
            case=replace(one, classes=847, warmup=0, repeats=1),
            goals=(
                Goal(figure=whole, bound=10, authors="33"),
                Goal(figure="GB above encoder", bound=2, authors="about 15"),
            ),
        ),
        Row(
            name="class names",
            case=replace(one, classes=0),
            goals=(
                Goal(figure="name / encoder", bound=0.25, authors="1.9"),
                Goal(figure="each of 16 / encoder", bound=0.25, authors="1.9"),
            ),
        ),
    )


def run(table: tuple[Row, ...], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure row after row, each in a process of its own; return what was found, with goals.

    A row that fails says why, and misses its goals; the others are measured all the same.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        say(f"{row.name} ...")
        found[row.name] = measure_row(row, found.get(row.speedup_of))
        for text in lines(found[row.name]):
            say(text)
    return list(found.values())


def measure_row(row: Row, before: Found | None) -> dict[str, Any]:
    """Return the figures of a row, its goals, and the error where it failed.

    Args:
        row: Of the table.
        before: The row that it is compared with.
    """
    error, measured, values = None, asdict(row.case), {}
    try:
        measured = measure_in_subprocess(row.case)
        values = figures(measured, before)
    except RuntimeError as failed:
        error = str(failed)
    goals = []
    for goal in row.goals:
        value = values.get(goal.figure)
        goals.append(
            asdict(goal) | {"value": value, "met": value is not None and goal.is_met(value)}
        )
    return {
        "name": row.name, "figures": values, "goals": goals, "case": measured, "error": error,
    }  # fmt: skip


def figures(measured: Found, before: Found | None = None) -> dict[str, float]:
    """Return the figures of a row by name.

    Args:
        measured: What `measure` found.
        before: The row that it is compared with.
    """
    ratios, seconds = measured["per_encoder"], measured["seconds"]
    peak = measured["peak_memory_gb"]
    memory = {"peak GB": peak, "GB above encoder": peak - measured["encoder_memory_gb"]}
    if "class name" in ratios:
        several = f"each of {measured['names']} / encoder"
        values = {"name / encoder": ratios["class name"], several: ratios["each of several"]}
        return values | {"s for 847 names": 847 * seconds["each of several"]} | memory
    values = {"whole / encoder": ratios["whole"], "fast / plain encoder": ratios["encoder"]}
    values |= {"ms an image": image_ms(measured), "labels s": seconds["labels"]} | memory
    values["encoder ms an image"] = 1000 * seconds["encoder"] / measured["batch_size"]
    values["photos s"] = seconds["photos"]
    if before is not None and not before.get("error"):
        values["speed-up"] = image_ms(before["case"]) / values["ms an image"]
    return values


def image_ms(measured: Found) -> float:
    """Return milliseconds of encoder and decoder for each image of a batch."""
    return 1000 * measured["seconds"]["whole"] / measured["batch_size"]


def lines(row: Found) -> Iterator[str]:
    """Return a row as text: its figures, then each goal beside what was measured."""
    if row["error"]:
        yield f"  FAILED: {row['error'].splitlines()[-1]}"
    else:
        values = ", ".join(f"{name} {value:.2f}" for name, value in row["figures"].items())
        yield f"  {values}; load {row['case']['load_average']}"
    for goal in row["goals"]:
        sign = ">=" if goal["least"] else "<="
        authors = f" (the authors: {goal['authors']})" if goal["authors"] else ""
        met = "met" if goal["met"] else "MISSED"
        value = "not measured" if goal["value"] is None else f"{goal['value']:.2f}"
        yield f"  {goal['figure']} {value}, goal {sign} {goal['bound']}: {met}{authors}"


@dataclass(frozen=True)
class Unit:
    """Which figures are drawn."""

    whole: str
    encoder: str
    label: str


RATIO = Unit("whole / encoder", "fast / plain encoder", "time / the plain encoder's")
MILLISECONDS = Unit("ms an image", "encoder ms an image", "milliseconds an image")


def draw(found: list[dict[str, Any]], file: Path, title: str, unit: Unit = RATIO) -> None:
    """Draw the times, each with its goal, and the memory beside it."""
    from matplotlib.figure import Figure

    table = [row for row in found if unit.whole in row["figures"]][::-1]
    names = [f"{row['name']}: {row['figures'][unit.whole]:.2f}" for row in table]
    figure = Figure(figsize=(10, 0.45 * len(names) + 2), layout="constrained")
    figure.suptitle(title, fontsize=9)
    times, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    times.barh(names, column(table, unit.whole), color="tab:blue", label="decoder")
    times.barh(names, column(table, unit.encoder), color="tab:cyan", label="encoder")
    goals = [
        (goal["bound"], place)
        for place, row in enumerate(table)
        for goal in row["goals"]
        if goal["figure"] == unit.whole
    ]
    for bound, place in goals:
        times.plot([bound] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    times.plot([], [], color="black", linewidth=2, label="goal")
    times.set_xlabel(unit.label)
    peaks, above = column(table, "peak GB"), column(table, "GB above encoder")
    memory.barh(names, peaks, color="tab:orange", label="above it")
    floors = [peak - extra for peak, extra in zip(peaks, above, strict=True)]
    memory.barh(names, floors, color="moccasin", label="the encoder's peak")
    memory.set_xlabel("peak memory, GB")
    for axes in (times, memory):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    figure.savefig(file, dpi=150)


def column(table: list[dict[str, Any]], name: str) -> list[float]:
    """Return one figure of every row."""
    return [row["figures"][name] for row in table]
