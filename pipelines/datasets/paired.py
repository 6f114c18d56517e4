"""Photos with masks, prepared or as their authors ship them, as a dataset."""

from pipelines.datasets.dataset import Labelled, Split


def check_pairs(name: str, uri: str, split: Split) -> None:
    """Require that a stored dataset is there, without Ray."""
    raise ValueError(f"{name}={uri} ({split}) cannot be read yet")


def load_pairs(
    name: str, uri: str, split: Split, *, limit: int | None = None, shuffle: int | None = None
) -> Labelled:
    """Plan the rows of a stored dataset."""
    raise ValueError(f"{name}={uri} ({split}, {limit}, {shuffle}) cannot be read yet")
