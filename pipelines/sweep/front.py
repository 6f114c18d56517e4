"""The trade-off that a sweep found, and the policy that is used."""

from collections.abc import Sequence
from typing import Any

from pipelines.sweep.stopping import dominates
from pipelines.sweep.trial import Report

CLOCK_NOISE = 0.1
"""Speeds that differ by no more count as equal: times are those of two batches, each the fastest of
three runs, and come out some percent apart again on a machine that does other work."""


def front(trials: Sequence[Report]) -> list[Report]:
    """Return the trials that none of the others dominates, the cheapest first; of equals one.

    They are compared by what no clock measures, cost and mIoU; all saw the same images.
    """
    points = {(one["cost"], one["drop_points"]): one for one in reversed(trials)}
    best = [point for point in points if not any(dominates(other, point) for other in points)]
    return [points[point] for point in sorted(best)]


def choose(trials: Sequence[Report], max_drop: float) -> Report | None:
    """Return the fastest trial that loses at most so many points; None if all lose more."""
    good = [one for one in trials if one["drop_points"] <= max_drop]
    return fastest(good) if good else None


def fastest(trials: Sequence[Report]) -> Report:
    """Return the fastest trial: encoder, decoder and label map, timed alone.

    Of trials that are nearly as fast the most accurate is taken, of those the cheapest.
    """
    enough = max(one["alone_images_per_second"] for one in trials) / (1 + CLOCK_NOISE)
    fast = [one for one in trials if one["alone_images_per_second"] >= enough]
    return min(fast, key=lambda one: (one["drop_points"], one["cost"]))


def single_k(trials: Sequence[Report]) -> list[Report]:
    """Return the curve of the paper: topk with one K for all levels, the cheapest first."""
    return sorted((one for one in trials if one["reference"]), key=lambda one: one["cost"])


def speed_gain(trials: Sequence[Report]) -> dict[str, Any] | None:
    """Compare the most accurate single K with the fastest policy that is at least as accurate.

    Returns:
        Both policies and how many times faster the second is: by cost, by the decoder's time, and
        by the time of the whole model. None where no single K was measured.
    """
    single = single_k(trials)
    if not single:
        return None
    best = max(single, key=lambda one: one["miou"])
    as_good = [one for one in trials if one["miou"] >= best["miou"]]
    other = fastest(as_good)
    return {
        "single_k": best["rejection"],
        "policy": other["rejection"],
        "by_cost": best["cost"] / other["cost"],
        "by_decoder": best["alone_decoder_seconds"] / other["alone_decoder_seconds"],
        "by_whole": other["alone_images_per_second"] / best["alone_images_per_second"],
    }
