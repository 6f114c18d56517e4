"""What a sweep found, as JSON, as a table, and as the file that other jobs take."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.storage import Location
from pipelines.sweep.front import choose, front, single_k, speed_gain
from pipelines.sweep.plan import REJECTION_FILE, Plan
from pipelines.sweep.trial import Report

FORMAT = "sed-sweep-1"

PACKAGES = ("torch", "ray", "optuna")

FEW_IMAGES = 32
"""Fewer cannot tell policies apart: it is what a trial sees before the first comparison."""

CLOCK_NOISE = 0.05
"""Speeds that differ by no more count as equal: times are those of two batches, each the fastest of
three runs, and come out some percent apart again on a machine that does other work."""


def conclude(plan: Plan, found: Mapping[str, Any], run_id: str | None) -> dict[str, Any]:
    """Return all that is to be said: what was found, for what, and which policy is chosen."""
    finished = complete(found)
    chosen = choose(finished, plan.config.max_miou_drop)
    return {
        "format": FORMAT,
        "model": plan.config.model,
        "model_id": plan.model_id,
        "vocabulary_id": plan.question.vocabulary_id,
        "vocabulary": plan.question.names,
        "dataset": {
            "name": plan.data.name,
            "source": plan.data.source,
            "digest": plan.data.digest,
        },
        "batch_size": plan.config.batch_size,
        "max_miou_drop": plan.config.max_miou_drop,
        **found,
        "front": [one["rejection"] for one in front(finished)],
        "chosen": None if chosen is None else chosen["rejection"],
        "single_k": [one["rejection"] for one in single_k(finished)],
        "gain": speed_gain(finished),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "run_id": run_id,
    }


def complete(found: Mapping[str, Any]) -> list[Report]:
    """Return the trials that saw all images."""
    return [one for one in found["trials"] if one["images"] == found["images"]]


def named(result: Mapping[str, Any], policies: Sequence[str]) -> list[Report]:
    """Return the trials of these policies, in their order."""
    trials = {one["rejection"]: one for one in result["trials"]}
    return [trials[text] for text in policies]


def rejection_file(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen policy and the evidence for it; an error if there is no such policy."""
    assert result["chosen"] is not None, "only a choice is written"
    (chosen,) = named(result, [result["chosen"]])
    evidence = (
        "model", "model_id", "vocabulary_id", "vocabulary", "dataset", "images", "batch_size",
        "max_miou_drop", "versions", "run_id",
    )  # fmt: skip
    return {
        "rejection": result["chosen"],
        "evidence": {
            **{name: result[name] for name in evidence},
            "chosen": chosen,
            "front": named(result, result["front"]),
        },
    }


def write_choice(result: Mapping[str, Any], output: Location) -> None:
    """Write rejection.json, or remove an earlier one if no policy is good enough."""
    if result["chosen"] is not None:
        output.at(REJECTION_FILE).write(as_json(rejection_file(result)))
    else:
        output.at(REJECTION_FILE).remove()


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return a value as JSON that a person can read."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the front and the single Ks as the lines of a table."""
    policies = [*result["front"], *result["single_k"], "none"]
    shown = sorted(named(result, list(dict.fromkeys(policies))), key=lambda one: one["cost"])
    width = max(len(one["rejection"]) for one in shown)
    lines = [
        f"  {'rejection':<{width}} {'cost':>7} {'mIoU':>7} {'lost':>7} {'95 % interval':>16} "
        f"{'decoder ms':>11} {'images/s':>9}   classes left    recall"
    ]
    for one in shown:
        sign = "*" if one["rejection"] == result["chosen"] else " "
        on_front = "+" if one["rejection"] in result["front"] else " "
        interval = f"{one['drop_low']:.2f} to {one['drop_high']:.2f}"
        kept = " ".join(f"{count:.0f}" for count in one["kept"])
        lines.append(
            f"{sign}{on_front}{one['rejection']:<{width}} {one['cost']:>7.4f} {one['miou']:>7.2f} "
            f"{one['drop_points']:>7.2f} {interval:>16} "
            f"{1000 * one['alone_decoder_seconds']:>11.1f} {one['alone_images_per_second']:>9.2f}"
            f"   {kept:<14} {one['recall'][-1]:>7.3f}"
        )
    return [*lines, "* chosen, + on the front"]


def sentence(result: Mapping[str, Any]) -> str:
    """Return the choice in words."""
    if result["chosen"] is None:
        return f"No policy loses at most {result['max_miou_drop']:g} points of mIoU"
    (one,), (none,) = named(result, [result["chosen"]]), named(result, ["none"])
    faster = none["alone_decoder_seconds"] / one["alone_decoder_seconds"]
    return (
        f"Chosen: {one['rejection']}, {one['drop_points']:.2f} points of mIoU lost against none "
        f"({one['drop_low']:.2f} to {one['drop_high']:.2f}), the decoder {speed(faster)}"
    )


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
        reasons.append(
            f"its loss is only known to be between {low:.2f} and {high:.2f} points, and "
            f"{allowed:g} are allowed"
        )
    if not reasons:
        return None
    return f"The choice may be an accident: {', and '.join(reasons)}; sweep on more images"


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
