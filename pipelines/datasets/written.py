"""What `label` wrote, as a dataset."""

from pipelines import shards
from pipelines.datasets.dataset import Labelled, digest_of
from pipelines.labelled import LabelOutput, labelled_rows, open_labels

LABELS = "labels"
"""Its name: labels=URI."""


def load_labels(uri: str, limit: int | None = None, shuffle: int | None = None) -> Labelled:
    """Plan the rows of an output of `label`."""
    output = open_labels(uri)
    rows = labelled_rows(output, seed=shuffle)
    return Labelled(
        name=LABELS,
        rows=rows if limit is None else rows.limit(limit),
        num_images=min(output.num_images, limit or output.num_images),
        classes=output.classes,
        unseen=[],
        source=output.place.uri,
        digest=labels_digest(output, limit),
    )


def labels_digest(output: LabelOutput, limit: int | None) -> str:
    """Return what says which images an output of `label` holds, and which labels."""
    digest = shards.list_digest(output.manifest)
    return digest_of(f"{output.run['fingerprint']}, {digest}, limit {limit}")
