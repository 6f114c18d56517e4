"""The table of speeds as a picture: times beside their goals, and the memory."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]

WIDTH = 130
"""Letters of a line of the title."""


@dataclass(frozen=True)
class Unit:
    """Which figures are drawn."""

    whole: str
    encoder: str
    label: str


RATIO = Unit("whole / encoder", "fast / plain encoder", "time / the plain encoder's")
MILLISECONDS = Unit("ms an image", "encoder ms an image", "milliseconds an image")


def title(facts: Found, found: Sequence[Found]) -> str:
    """Return what the figures must be read with; rows of other days say so."""
    dates = sorted({facts["date"], *(row["date"] for row in found)})
    said = {**facts, "date": ", ".join(dates)}
    return textwrap.fill(", ".join(f"{name}: {value}" for name, value in said.items()), WIDTH)


def draw(found: Sequence[Found], file: Path, title: str, unit: Unit = RATIO) -> None:
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


def column(table: Sequence[Found], name: str) -> list[float]:
    """Return one figure of every row."""
    return [row["figures"][name] for row in table]
