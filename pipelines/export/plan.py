"""What `export` was asked for, checked. Nothing is written here, but the folder is made."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileType

from pipelines.export.ade20k import ADE20K
from pipelines.export.coco import COCO
from pipelines.export.coco_panoptic import COCOPanoptic
from pipelines.export.corpus import Corpus, Piece
from pipelines.export.cvat import CVAT
from pipelines.export.fifty_one import FiftyOne
from pipelines.export.format import Format
from pipelines.export.hugging_face import HuggingFace
from pipelines.export.label_studio import LabelStudio
from pipelines.export.survey import open_labels
from pipelines.outputs import DONE
from pipelines.storage import Location, locate

FORMATS: dict[str, Format] = {
    "ade20k": ADE20K(),
    "coco": COCO(),
    "coco-panoptic": COCOPanoptic(),
    "huggingface": HuggingFace(),
    "fiftyone": FiftyOne(),
    "label-studio": LabelStudio(),
    "cvat": CVAT(),
}

RECORD_FILE = "export.json"
VERSION = "sed-export-1"


@dataclass(frozen=True)
class Plan:
    """A checked export."""

    format: str
    corpus: Corpus
    output: Location
    pieces: tuple[Piece, ...]

    earlier: dict[str, Any] | None
    """export.json of an earlier start with the same labels, the same format and this output."""

    @property
    def writer(self) -> Format:
        """How the format writes."""
        return FORMATS[self.format]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what the export is made from."""
        corpus = self.corpus
        facts = [
            VERSION,
            [self.format, FORMATS[self.format].edition],
            [corpus.run["run_id"], corpus.run["status"]],
            [corpus.root, corpus.classes],
            [(part.name, part.num_images, part.num_segments) for part in corpus.parts],
        ]
        return "sha256:" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def is_begun(self) -> bool:
        """Say whether an earlier start exported exactly these labels, or began to."""
        return self.earlier is not None and self.earlier["fingerprint"] == self.fingerprint

    @property
    def is_done(self) -> bool:
        """Say whether an earlier start did everything."""
        return self.is_begun and self.earlier is not None and self.earlier["status"] == DONE


def make_plan(labels: str, format_name: str, output: str) -> Plan:
    """Check everything that can be checked before a cluster is needed.

    Args:
        labels: Output of `label`.
        format_name: One of `FORMATS`.
        output: URI of the folder to write.

    Raises:
        ValueError: There is nothing to export, the format cannot hold it, or the output holds
            something else.
        OSError: A file or bucket cannot be read, or the output cannot be written.
    """
    if format_name not in FORMATS:
        raise ValueError(f"--format is one of {', '.join(FORMATS)}, got {format_name!r}")
    corpus = open_labels(labels)
    FORMATS[format_name].check(corpus)
    place = locate(output)
    earlier = check_output(place, corpus.labels.uri, format_name)
    place.check_writable()
    pieces = corpus.pieces(FORMATS[format_name].images_per_piece)
    return Plan(format_name, corpus, place, tuple(pieces), earlier)


def check_output(output: Location, labels: str, format_name: str) -> dict[str, Any] | None:
    """Check that this job may write here; return the export.json of an earlier start, if any."""
    kind = output.info().type
    if kind == FileType.File:
        raise ValueError(f"the output {output.uri} is a file, not a folder")
    record = output.at(RECORD_FILE)
    if not record.exists():
        if kind == FileType.Directory and not output.is_empty():
            raise ValueError(f"the output {output.uri} is not empty: use another --output")
        return None
    earlier = read_record(record)
    if (earlier["format"], earlier["labels"]) != (format_name, labels):
        raise ValueError(
            f"the output {output.uri} holds an export of {earlier['labels']} "
            f"as {earlier['format']}: use another --output"
        )
    return earlier


def read_record(place: Location) -> dict[str, Any]:
    """Return what an export.json says.

    Raises:
        ValueError: The file is none of ours.
    """
    try:
        record = json.loads(place.read())
    except ValueError as error:
        raise ValueError(f"{place.uri} is damaged: {error}") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"{place.uri} was not written by this version of export")
    return record
