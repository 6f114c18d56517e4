"""What the model is asked on a validation set, and how its answers are scored.

The names that the model chooses from need not be the classes of the masks: a user has a vocabulary
of their own, or adds names that no image shows, as in real use.

Shapes: N classes that are scored, V names.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.classes import fold, shared_names, told, vocabulary_id
from pipelines.datasets import Labelled
from pipelines.masks import ignore_value
from sed.metrics import check_labels

logger = logging.getLogger(__name__)

NAMED_CLASSES = 10
"""Classes that a warning names."""


@dataclass(frozen=True)
class Question:
    """Names for the model, and the class that each of them counts as."""

    names: list[str]
    """What the model chooses from."""

    classes: list[str]
    """What the masks hold."""

    class_V: np.ndarray
    """Class of each name; N is none of them: a pixel of that name is wrong."""

    @property
    def vocabulary_id(self) -> str:
        """The digest of the names."""
        return vocabulary_id(self.names)

    @property
    def num_scored(self) -> int:
        """How many classes of the masks some name stands for."""
        return int(self.answerable_N.sum())

    @property
    def answerable_N(self) -> np.ndarray:  # noqa: N802
        """Which classes some name stands for."""
        return np.isin(np.arange(len(self.classes)), self.class_V)

    def truth(self, mask_HW: np.ndarray) -> np.ndarray:
        """Return the class of each pixel; N where it is not to be counted.

        Raises:
            ValueError: A pixel is neither a class nor to be ignored.
        """
        counted = mask_HW != ignore_value(len(self.classes))
        check_labels("truth", mask_HW[counted], len(self.classes))
        none = len(self.classes)
        class_of = np.where(self.answerable_N, np.arange(none), none)
        truth_HW = np.full(mask_HW.shape, none, np.int64)
        truth_HW[counted] = class_of[mask_HW[counted]]
        return truth_HW


def make_question(
    data: Labelled, vocabulary: Sequence[str] | None = None, extra: Sequence[str] = ()
) -> Question:
    """Return what the model is asked about a dataset.

    Args:
        data: Its masks are the truth.
        vocabulary: Names to choose from; a class without a name here is not counted. None: the
            dataset's own.
        extra: More names; those that are there already are left out.

    Raises:
        ValueError: No name is a class of the dataset.
    """
    asked, count = asked_names(data), len(data.classes)
    # Where more is asked than is scored, the rest counts as the last class, the background.
    other = count - 1 if len(asked) > count else count
    known = {fold(name): min(index, other) for index, name in enumerate(asked)}
    names = list(asked if vocabulary is None else vocabulary)
    if not any(fold(name) in known for name in names):
        raise ValueError(
            f"none of the {len(names)} names of the vocabulary is a class of the dataset "
            f"{data.name!r} ({names[0]!r} is not, for one)"
        )
    there = {fold(name) for name in names}
    added = [name for name in dict.fromkeys(extra) if fold(name) not in there]
    names += added
    if shared := [one for one in shared_names(names) if one[2] in added]:
        logger.warning("extra names: %s; pixels of the second count as wrong", told(shared))
    question = Question(
        names, list(data.classes), np.array([known.get(fold(name), other) for name in names])
    )
    if missing := np.array(data.classes)[~question.answerable_N].tolist():
        shown = missing[:NAMED_CLASSES] + ["..."] * (len(missing) > NAMED_CLASSES)
        logger.warning(
            "%d of the %d classes of %s are no name of the vocabulary and are not scored: %s",
            len(missing), count, data.name, ", ".join(shown),
        )  # fmt: skip
    return question


def asked_names(data: Labelled) -> list[str]:
    """Return the names that the model is given of a dataset."""
    return list(data.asked)
