"""What a model is trained on, by the name and the URI that stand on the command line."""

from dataclasses import dataclass

from pipelines.datasets import LABELS, labels_digest
from pipelines.datasets.paired import find_whole
from pipelines.labelled import open_labels
from pipelines.outputs import DONE
from pipelines.pieces import LabelPieces, PairPieces, ParquetPieces, Pieces
from pipelines.prepare.prepared import is_prepared, open_split
from pipelines.storage import locate

SPLIT = "train"


@dataclass(frozen=True)
class Source:
    """A dataset with masks, in pieces."""

    pieces: Pieces
    classes: tuple[str, ...]
    """Class names, in the order of the mask values."""

    digest: str
    """Says which images and masks these are."""

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return sum(self.pieces.lengths)


def open_source(name: str, uri: str) -> Source:
    """Find a dataset to train on, without Ray.

    Raises:
        ValueError: There is none, or it is not complete.
        OSError: It cannot be read.
    """
    if name == LABELS:
        return open_label_source(uri)
    place = locate(uri)
    if is_prepared(place):
        record = open_split(name, place, SPLIT)
        pieces = ParquetPieces.open(record, place)
        return Source(pieces, tuple(record.classes), str(record.digest))
    pairs = find_whole(name, place, SPLIT)
    return Source(PairPieces.open(pairs), tuple(pairs.classes), pairs.digest)


def open_label_source(uri: str) -> Source:
    """Find an output of `label`."""
    output = open_labels(uri)
    if output.run.get("status") != DONE:
        raise ValueError(
            f"the labels in {uri!r} are not complete: the command that made them goes on"
        )
    return Source(LabelPieces.open(output), tuple(output.classes), labels_digest(output, None))
