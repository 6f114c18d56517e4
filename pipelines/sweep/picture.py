"""The trade-off as a picture: accuracy over cost, and over measured time."""

import io
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from pipelines.sweep.results import complete, named
from pipelines.sweep.trial import Report

INK, SOFT, ACCENT, SINGLE = "#14181f", "#8a94a3", "#2f5bea", "#d1622b"

NEAR = 0.05
"""Share of the side of a panel within which two points share a line of text."""

Key = Callable[[Report], float]


def draw(result: Mapping[str, Any]) -> bytes:
    """Return the picture as a PNG."""
    figure = Figure(figsize=(11, 4.6), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_panel(left, result, lambda one: one["cost"], joined=True)
    # The front is one of costs: over time other trials may lie beyond it.
    draw_panel(right, result, lambda one: 1000 * one["alone_decoder_seconds"], joined=False)
    left.set_xlabel("cost: class-pixels the decoder works on, of those without rejection")
    right.set_xlabel("decoder, ms an image (timed alone)")
    left.set_ylabel("mIoU, %")
    left.legend(loc="lower right", frameon=False, fontsize=9)
    figure.suptitle(
        f"{result['model']} on {result['dataset']['name']}: {result['images']} images, "
        f"{result['num_names']} names",
        fontsize=12,
    )
    figure.draw_without_rendering()  # only now it is known where the points lie
    write_names(left, result, lambda one: one["cost"])
    write_names(right, result, lambda one: 1000 * one["alone_decoder_seconds"])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_panel(axes: Axes, result: Mapping[str, Any], key: Key, *, joined: bool) -> None:
    """Draw all trials that saw every image, over one measure; the front as a line, or not."""
    (none,) = named(result, ["none"])
    best = named(result, result["front"])
    lines = {*result["single_k"], *result["front"], "none"}
    others = [one for one in complete(result) if one["rejection"] not in lines]
    axes.axhline(none["miou"], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    scatter(axes, others, key, color=SOFT, marker="o", size=16, label="other trials")
    curve = single_ks(result, key)
    axes.plot(
        [key(one) for one in curve],
        [one["miou"] for one in curve],
        color=SINGLE,
        marker="s",
        markersize=5,
        linewidth=1.2,
        label="topk:K, one K (the paper), then none",
    )
    draw_front(axes, sorted(best, key=key), key, joined=joined)
    if result["chosen"] is not None:
        scatter(axes, named(result, [result["chosen"]]), key, color=ACCENT, marker="*", size=190,
                label=f"chosen: {result['chosen']}")  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.12)
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def single_ks(result: Mapping[str, Any], key: Key) -> list[Report]:
    """Return the single Ks along a measure, then none."""
    return [*sorted(named(result, result["single_k"]), key=key), *named(result, ["none"])]


def write_names(axes: Axes, result: Mapping[str, Any], key: Key) -> None:
    """Write the single Ks beside their points; where points lie together, in one line."""
    curve = single_ks(result, key)
    points = axes.transData.transform([(key(one), one["miou"]) for one in curve])
    places = axes.transAxes.inverted().transform(points)
    starts = [0]
    for index in range(1, len(curve)):
        if (abs(places[index] - places[starts[-1]]) >= NEAR).any():
            starts.append(index)
    for start, end in pairwise([*starts, len(curve)]):
        first, after = curve[start], curve[start + 1 : start + 2]
        falls = bool(after) and after[0]["miou"] < first["miou"]  # then there is room above
        policies = [one["rejection"] for one in curve[start:end]]
        right, up = (12 if result["chosen"] in policies else 4), (7 if falls else -13)
        at_edge = places[start][0] > 1 - NEAR
        axes.annotate(", ".join(policies).replace("topk:", "K="), (key(first), first["miou"]),
                      (-right if at_edge else right, up), textcoords="offset points",
                      ha="right" if at_edge else "left", fontsize=8, color=SINGLE)  # fmt: skip


def draw_front(axes: Axes, best: list[Report], key: Key, *, joined: bool) -> None:
    """Draw the front, with the interval that the bootstrap gives each point."""
    axes.errorbar(
        [key(one) for one in best],
        [one["miou"] for one in best],
        yerr=[
            [max(one["drop_high"] - one["drop_points"], 0) for one in best],
            [max(one["drop_points"] - one["drop_low"], 0) for one in best],
        ],
        color=ACCENT,
        ecolor=ACCENT + "55",
        marker="o",
        markersize=4.5,
        linewidth=1.2 if joined else 0,
        elinewidth=1.2,
        label="front by cost, 95 % interval of the difference to none",
    )


def scatter(
    axes: Axes,
    trials: list[Report],
    key: Key,
    *,
    color: str,
    marker: str,
    size: float,
    label: str,
) -> None:
    """Draw some trials as points."""
    axes.scatter(
        [key(one) for one in trials],
        [one["miou"] for one in trials],
        color=color,
        marker=marker,
        s=size,
        label=label,
        zorder=3,
    )
