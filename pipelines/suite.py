"""The table of speeds that the project promises: each case beside its goal and the authors' figure.

Ratios compare across machines: seconds over those of the plain encoder, timm's own ConvNeXt, in the
same process. The authors' ratios were taken in the same way on a similar machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.benchmark import Case, measure_in_subprocess

Found = Mapping[str, Any]

ACCURACY = "approximations"
"""What approximations cost: measured after the rows, and chosen like one."""

PROFILE = "profile"
"""Of `FAST`: the last thing that is measured on a GPU."""

MOST_SECONDS = 1800.0
"""For one row: one that takes so long hangs. On the slowest machine seen none took a tenth."""

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

    Float32 is as the authors have it, with matrices multiplied in TF32. Each line after it adds one
    thing: the layout of channels, bfloat16, the pairs of a batch packed together, the form for
    inference, compiled programs for few sizes, other survivors each time, CUDA graphs.
    """
    eager = Case(
        model=model, device=device, rejection="topk:8", survivors=30, warmup=3, repeats=10,
        optimize=False, dtype="float32", tf32=True, channels_last=False,
    )  # fmt: skip
    last = replace(eager, channels_last=True)
    half = replace(last, dtype="bfloat16", tf32=False)  # as jobs on a GPU compute
    fast = replace(half, optimize=True, batch_size=16)
    programs = replace(fast, compile=True)
    first, compiled = (
        "150 classes, eager float32 (TF32), batch 1",
        "150 classes, compiled, batch 16",
    )
    goals = (Goal(figure="ms an image", bound=8), Goal(figure="speed-up", bound=6, least=True))
    against_first = (
        ("150 classes, eager float32 (TF32), channels last, batch 1", last, ()),
        ("150 classes, eager bfloat16, batch 1", half, ()),
        ("150 classes, eager bfloat16, packed pairs of 16", replace(half, batch_size=16), ()),
        ("150 classes, fast form, batch 1", replace(fast, batch_size=1), ()),
        (FAST, fast, ()),
        (compiled, programs, goals),
        (
            "150 classes, compiled, other survivors each time, batch 16",
            replace(programs, varying=True, warmup=20),  # all sizes have come by then
            (),
        ),
        ("150 classes, CUDA graphs, batch 16", replace(programs, graphs=True), ()),
    )
    return (
        Row(name=first, case=eager),
        *(
            Row(name=name, case=case, goals=goals, speedup_of=first)
            for name, case, goals in against_first
        ),
        Row(
            name="847 classes, compiled, batch 16",
            case=replace(programs, classes=847, survivors=85),
            goals=(Goal(figure="speed-up", bound=0.5, least=True),),
            speedup_of=compiled,
        ),
        Row(
            name="class names",
            case=replace(  # of the 847 names: those without synonyms
                fast, classes=0, names=630, batch_size=1, warmup=1, repeats=2
            ),
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
        Row(
            name="150 classes, 16 of 80 prompts (speed only)",
            case=replace(one, classes=150, rank=16),
        ),
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


def names(model: str, device: str) -> tuple[str, ...]:
    """Return what can be measured: the rows of the table, then the parts beside it."""
    parts = (ACCURACY,) if device == "cpu" else (ACCURACY, PROFILE)
    return (*(row.name for row in rows(model, device)), *parts)


def choose(possible: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the names that were asked for in their order, or all if none was.

    Raises:
        ValueError: A name that there is not.
    """
    for name in asked:
        if name not in possible:
            raise ValueError(f"no row is called {name!r}; there are: {'; '.join(possible)}")
    return tuple(name for name in possible if name in asked or not asked)


def run(
    table: Sequence[Row], say: Callable[[str], None], found: dict[str, dict[str, Any]] | None = None
) -> Iterator[dict[str, Any]]:
    """Measure row after row, each in a process of its own; yield what was found, with goals.

    A row that fails says why, and misses its goals; the others are measured all the same.

    Args:
        table: The rows.
        say: Is given each line for a person.
        found: Rows measured earlier, by name: one is compared with them too.
    """
    found = dict(found or {})
    for row in table:
        say(f"{row.name} ...")
        found[row.name] = measure_row(row, found.get(row.speedup_of))
        for text in lines(found[row.name]):
            say(text)
        yield found[row.name]


def measure_row(row: Row, before: Found | None) -> dict[str, Any]:
    """Return the figures of a row, its goals, and the error where it failed.

    Args:
        row: Of the table.
        before: The row that it is compared with.
    """
    try:
        measured = measure_in_subprocess(row.case, most_seconds=MOST_SECONDS)
    except RuntimeError as failed:
        goals = [judge(goal, {}) for goal in row.goals]
        nothing = {"figures": {}, "goals": goals, "case": asdict(row.case)}
        return {"name": row.name, "error": str(failed)} | nothing
    return {"name": row.name, "error": None, "case": measured} | compare(row, measured, before)


def compare(row: Row, measured: Found, before: Found | None) -> dict[str, Any]:
    """Return the figures of a row and its goals.

    Args:
        row: Of the table.
        measured: What `measure` found.
        before: The row that it is compared with.
    """
    values = figures(measured, before)
    return {"figures": values, "goals": [judge(goal, values) for goal in row.goals]}


def judge(goal: Goal, values: Mapping[str, float]) -> dict[str, Any]:
    """Return a goal with what was measured, and whether that keeps the bound."""
    value = values.get(goal.figure)
    return asdict(goal) | {"value": value, "met": value is not None and goal.is_met(value)}


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
    if measured.get("compilations") is not None:
        values["compilations after warm-up"] = measured["compilations"]
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
        yield f"  {goal_line(goal)}"


def goal_line(goal: Found) -> str:
    """Return a judged goal as text."""
    sign = ">=" if goal["least"] else "<="
    authors = f" (the authors: {goal['authors']})" if goal["authors"] else ""
    met = "met" if goal["met"] else "MISSED"
    value = "not measured" if goal["value"] is None else f"{goal['value']:.2f}"
    return f"{goal['figure']} {value}, goal {sign} {goal['bound']}: {met}{authors}"


def total(found: Sequence[Found]) -> Iterator[str]:
    """Return the time and the memory of all rows as a table."""
    yield f"{'row':<52} {'ms an image':>11} {'speed-up':>8} {'peak GB':>8} {'above encoder':>13}"
    for row in found:
        figures = ("ms an image", "speed-up", "peak GB", "GB above encoder")
        texts = [
            f"{row['figures'][name]:.2f}" if name in row["figures"] else "" for name in figures
        ]
        time, speed_up, peak, above = texts
        yield f"{row['name'][:52]:<52} {time:>11} {speed_up:>8} {peak:>8} {above:>13}"
