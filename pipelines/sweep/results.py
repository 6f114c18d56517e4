"""What a sweep found, as JSON and as the file that other jobs take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.storage import Location
from pipelines.sweep.front import choose, front, single_k, speed_gain
from pipelines.sweep.plan import REJECTION_FILE, Plan
from pipelines.sweep.tally import CONFIDENCE, RESAMPLES
from pipelines.sweep.trial import Report

FORMAT = "sed-sweep-1"


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
        "num_scored": plan.question.num_scored,
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
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE},
        "run_id": run_id,
    }


FOUND = (
    "images", "broken_images", "num_names", "encoder_seconds", "trials", "failed_trials",
    "concurrency", "threads", "device", "seconds", "versions", "code",
)  # fmt: skip
"""What `sweep.sweep` returns, whatever bound the choice has."""


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
        "model", "model_id", "vocabulary_id", "vocabulary", "num_scored", "dataset", "images",
        "batch_size", "device", "threads", "max_miou_drop", "bootstrap", "versions", "code",
        "run_id",
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
