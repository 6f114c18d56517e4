"""What a person looks at after a sweep: one page that needs nothing but itself.

The template is page.html.j2 beside this file; names are somebody's input, it escapes everything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.sweep.front import CLOCK_NOISE
from pipelines.sweep.results import complete, named
from pipelines.sweep.trial import Report
from pipelines.sweep.words import doubt, failures, interval, lost, sentence

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 14, 44
"""Size of a chart and of its margins, in pixels."""

FEW_TICKS = 2
"""An axis with no more of them needs closer ones."""


@dataclass(frozen=True)
class Mark:
    """A trial in a chart."""

    x: float
    y: float
    kind: str
    trial: Report


@dataclass(frozen=True)
class Tick:
    """A line of an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Accuracy over one measure, in pixels."""

    title: str
    marks: list[Mark]
    single: str
    """Corners of the single Ks' line."""
    front: str
    """Corners of the front's line; empty where it has none."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    none_y: float


def render(result: Mapping[str, Any]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    trials = sorted(result["trials"], key=lambda one: (one["images"] < result["images"],
                                                       one["cost"]))  # fmt: skip
    charts = [
        chart(result, "Cost: class-pixels of the decoder, of those without rejection",
              lambda one: one["cost"], joined=True),
        chart(result, "Decoder, milliseconds an image, timed alone",
              lambda one: 1000 * one["alone_decoder_seconds"], joined=False),
    ]  # fmt: skip
    return environment.get_template("page.html.j2").render(
        result=result,
        trials=trials,
        kinds={one["rejection"]: kind_of(one, result) for one in trials},
        charts=charts,
        chosen=None if result["chosen"] is None else named(result, [result["chosen"]])[0],
        unrejected=named(result, ["none"])[0],
        sentence=". ".join(filter(None, (sentence(result), doubt(result), failures(result)))),
        noise=f"{100 * CLOCK_NOISE:.0f}",
        lost=lost,
        interval=interval,
        width=WIDTH,
        height=HEIGHT,
        box=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
    )


def kind_of(trial: Report, result: Mapping[str, Any]) -> str:
    """Return what a trial is shown as."""
    text = trial["rejection"]
    if text == result["chosen"]:
        return "chosen"
    if trial["images"] < result["images"]:
        return "stopped"
    if text in result["single_k"] or text == "none":
        return "single"
    return "front" if text in result["front"] else "other"


def chart(
    result: Mapping[str, Any], title: str, key: Callable[[Report], float], *, joined: bool
) -> Chart:
    """Lay out the trials that saw all images; the front, which is one of costs, joined or not."""
    trials = complete(result)
    values, scores = [key(one) for one in trials], [one["miou"] for one in trials]
    x = Scale(math.log(min(values)), math.log(max(values)), LEFT, WIDTH - RIGHT)
    y = Scale(min(scores), max(scores), HEIGHT - BOTTOM, TOP)

    def corners(some: Sequence[Report]) -> str:
        ordered = sorted(some, key=key)
        return " ".join(f"{x(math.log(key(one))):.1f},{y(one['miou']):.1f}" for one in ordered)

    (none,) = named(result, ["none"])
    return Chart(
        title=title,
        marks=[
            Mark(x(math.log(key(one))), y(one["miou"]), kind_of(one, result), one) for one in trials
        ],
        single=corners([*named(result, result["single_k"]), none]),
        front=corners(named(result, result["front"])) if joined else "",
        x_ticks=[Tick(x(math.log(value)), f"{value:g}") for value in decades(values)],
        y_ticks=[Tick(y(value), f"{value:g}") for value in steps(min(scores), max(scores))],
        none_y=y(none["miou"]),
    )


@dataclass(frozen=True)
class Scale:
    """Turns values into pixels, with a little room at both ends."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        span = (self.high - self.low) or 1.0
        share = 0.04 + 0.92 * (value - self.low) / span
        return self.first + share * (self.last - self.first)


def decades(values: Sequence[float]) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range; closer ones where it has few."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1, 2, 5), range(1, 10), [tenth / 10 for tenth in range(10, 100)]):
        found = [step * 10.0**power for power in powers for step in digits]
        found = [float(f"{value:.3g}") for value in found if low <= value <= high]
        if len(found) > FEW_TICKS:
            break
    return found


def steps(low: float, high: float) -> list[float]:
    """Return about five round values within a range."""
    rough = max(high - low, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first = math.ceil(low / size)
    return [float(f"{index * size:.6g}") for index in range(first, math.floor(high / size) + 1)]
