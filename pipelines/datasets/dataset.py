"""What a dataset with masks is, however it is stored."""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ray.data import Dataset

Split = Literal["train", "val"]
"""Training reads "train", evaluation "val"."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with their masks, and what the mask values mean."""

    name: str
    """Its name on the command line."""

    rows: "Dataset"
    """Rows of `rows.PREPARED`."""

    num_images: int
    """How many rows there are."""

    classes: list[str]
    """Class names, in the order of the mask values."""

    asked: list[str] = field(default_factory=list)
    """Class names that a model is given; default: `classes`.

    Where there are more of them than classes, each that has no class of its own means the last one:
    pascal-voc-20b asks 59 names, and every one from the 20th on is "background".
    """

    unseen: list[int]
    """Classes that no training image shows, where that is known."""

    source: str
    """Where the images come from."""

    digest: str
    """Says whether two datasets hold the same images."""

    def __post_init__(self) -> None:
        if not self.asked:
            object.__setattr__(self, "asked", list(self.classes))


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text, as "sha256:..."."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def in_order(names: "Dataset", rows_per_block: int, shuffle: int | None) -> "Dataset":
    """Plan in which order the rows of a dataset are read, before any of them is.

    Args:
        names: A row for each thing to read; it is small.
        rows_per_block: So many are read by one task.
        shuffle: Seed of the order, which is another one at each execution; None: as they are.
    """
    from ray.data import RandomSeedConfig

    if shuffle is not None:
        names = names.random_shuffle(seed=RandomSeedConfig(shuffle, reseed_after_execution=True))
    names = names.repartition(target_num_rows_per_block=rows_per_block, strict=True)
    names.context.execution_options.preserve_order = True
    return names
