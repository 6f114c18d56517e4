"""What a sweep found, for a person to read: a table and sentences."""

from collections.abc import Mapping
from typing import Any

from pipelines.sweep.front import CLOCK_NOISE
from pipelines.sweep.results import named

FEW_IMAGES = 32
"""Fewer cannot tell policies apart: it is what a trial sees before the first comparison."""


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the front, the single Ks, none and what the sentences name as the lines of a table."""
    gain = [result["gain"]["policy"]] if result["gain"] else []
    chosen = [] if result["chosen"] is None else [result["chosen"]]
    policies = [*result["front"], *result["single_k"], *gain, *chosen, "none"]
    shown = sorted(named(result, list(dict.fromkeys(policies))), key=lambda one: one["cost"])
    width = max(len(one["rejection"]) for one in shown)
    lines = [
        f"  {'rejection':<{width}} {'cost':>7} {'mIoU':>7} {'lost':>7} {'95 % interval':>16} "
        f"{'decoder ms':>11} {'images/s':>9}   classes left    recall"
    ]
    for one in shown:
        sign = "*" if one["rejection"] == result["chosen"] else " "
        on_front = "+" if one["rejection"] in result["front"] else " "
        between = f"{one['drop_low']:.2f} to {one['drop_high']:.2f}"
        kept = " ".join(f"{count:.0f}" for count in one["kept"])
        lines.append(
            f"{sign}{on_front}{one['rejection']:<{width}} {one['cost']:>7.4f} {one['miou']:>7.2f} "
            f"{one['drop_points']:>7.2f} {between:>16} "
            f"{1000 * one['alone_decoder_seconds']:>11.1f} {one['alone_images_per_second']:>9.2f}"
            f"   {kept:<14} {one['recall'][-1]:>7.3f}"
        )
    return [
        *lines,
        "* chosen, + on the front; lost: points of mIoU, negative where some are gained",
    ]


def sentence(result: Mapping[str, Any]) -> str:
    """Return the choice in words."""
    if result["chosen"] is None:
        allowed = result["max_miou_drop"]
        wanted = f"loses at most {allowed:g}" if allowed >= 0 else f"gains {-allowed:g}"
        return f"No policy {wanted} points of mIoU"
    (one,), (none,) = named(result, [result["chosen"]]), named(result, ["none"])
    faster = none["alone_decoder_seconds"] / one["alone_decoder_seconds"]
    return (
        f"Chosen: {one['rejection']}, {lost(one['drop_points'])} against none, 95 % interval "
        f"{interval(one['drop_low'], one['drop_high'])}, the decoder {speed(faster)}"
    )


def lost(points: float) -> str:
    """Return a difference of mIoU in words: "0.12 points of mIoU lost", or gained."""
    return f"{abs(points):.2f} points of mIoU {'gained' if round(points, 2) < 0 else 'lost'}"


def interval(low: float, high: float) -> str:
    """Return the ends of an interval of points lost in words, a gain where it is one."""
    if round(high, 2) < 0:
        return f"{-high:.2f} to {-low:.2f} gained"
    if round(low, 2) < 0:
        return f"{-low:.2f} gained to {abs(high):.2f} lost"
    return f"{abs(low):.2f} to {high:.2f} lost"


def doubt(result: Mapping[str, Any]) -> str | None:
    """Say in a sentence why the choice may be an accident of these images; None if it is none."""
    if result["chosen"] is None:
        return None
    (one,) = named(result, [result["chosen"]])
    low, high, allowed = one["drop_low"], one["drop_high"], result["max_miou_drop"]
    reasons = []
    if result["images"] < FEW_IMAGES:
        reasons.append(f"only {result['images']} images were measured")
    if high > allowed and high - low > allowed:
        bound = f"{allowed:g} may be" if allowed >= 0 else f"{-allowed:g} have to be gained"
        reasons.append(f"its accuracy is only known to be {interval(low, high)}, and {bound}")
    if not reasons:
        return None
    return f"The choice may be an accident: {', and '.join(reasons)}; sweep on more images"


def failures(result: Mapping[str, Any]) -> str | None:
    """Say in a sentence that trials failed and what to do; None if none did."""
    count = result.get("failed_trials")  # earlier versions did not count them
    if not count:
        return None
    failed, them = ("1 trial", "it") if count == 1 else (f"{count} trials", "them")
    return f"{failed} failed: what was found is of the others, the same command tries {them} again"


def gain_sentence(result: Mapping[str, Any]) -> str | None:
    """Return in words what was found beside the single Ks of the paper; None if none was tried."""
    gain = result["gain"]
    if not gain:
        return None
    beginning = f"Against the best single K, {gain['single_k']}:"
    if gain["policy"] == gain["single_k"]:
        return f"{beginning} no policy is as accurate and faster"
    return (
        f"{beginning} {gain['policy']} is as accurate and {speed(gain['by_decoder'])} in the "
        f"decoder, {speed(gain['by_whole'])} as a whole"
    )


def speed(ratio: float) -> str:
    """Return a ratio of speeds in words; one within the noise of the clock is none."""
    return "equally fast" if abs(ratio - 1) <= CLOCK_NOISE else f"{ratio:.2f} times as fast"
