"""Is a tuned rejection used for what it was tuned for?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.classes import vocabulary_id
from pipelines.outputs import show
from sed.rejection import split_joined


def check_tuned(
    rejection: str, *, model_id: str, classes: Sequence[str], given: str | None = None
) -> None:
    """Require that a rejection file of a sweep fits the model and the vocabulary of a job.

    A file without evidence, written by hand, fits everything.

    Args:
        rejection: What the user gave; only a FILE.json in it is looked at.
        model_id: Digest of the job's weights.
        classes: Names of the job; their order does not matter.
        given: How the user named it, for the message; default: like `rejection`.

    Raises:
        ValueError: It was tuned for something else; the message says for what.
    """
    for part in split_joined(rejection):
        check_file(part, given or part, model_id=model_id, classes=classes)


def check_file(rejection: str, given: str, *, model_id: str, classes: Sequence[str]) -> None:
    """Require that one of the joined forms fits, if it is a file of a sweep."""
    evidence = read_evidence(rejection)
    if evidence is None:
        return
    tuned_model, tuned_names = evidence.get("model_id"), evidence.get("vocabulary") or []
    advice = "the accuracy that it promises does not hold here: sweep again, or give the policy"
    if tuned_model != model_id:
        raise ValueError(
            f"{given!r} was tuned for another model ({show(tuned_model)}, this one is "
            f"{show(model_id)}); {advice} itself"
        )
    if sorted(tuned_names) != sorted(classes):
        tuned_id = show(evidence.get("vocabulary_id"))
        raise ValueError(
            f"{given!r} was tuned for another vocabulary ({len(tuned_names)} names, "
            f"{tuned_id}; here {len(classes)}, {show(vocabulary_id(classes))}); {advice} itself"
        )


def read_evidence(rejection: str) -> dict[str, Any] | None:
    """Return what a sweep wrote about its choice; None of anything else."""
    path = Path(rejection)
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None  # whoever reads the policy says what is wrong
    evidence = found.get("evidence") if isinstance(found, dict) else None
    return evidence if isinstance(evidence, dict) else None
