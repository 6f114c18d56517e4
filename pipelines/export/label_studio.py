"""Label Studio: tasks with predictions as brushes, and the labelling config they belong to."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pipelines.export.brush import class_masks
from pipelines.export.colours import hexadecimal
from pipelines.export.corpus import LabelledImage
from pipelines.export.files import Records
from pipelines.export.format import Export, Format, Sink
from pipelines.export.names import local_file, without

CONFIG = "config.xml"
FROM, TO, VARIABLE = "label", "image", "image"
"""Names of the tags; a prediction whose names differ from its project's is not shown."""


class LabelStudio(Format):
    """tasks/*.json, a list of tasks each, small enough to be uploaded; config.xml."""

    owns = ("tasks", CONFIG)

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write the tasks of a piece."""
        with sink.open(f"tasks/{sink.piece.name}.json") as stream:
            stream.write(b"[\n")
            records = Records(stream)
            names = label_names(sink.corpus.classes)
            for image in images:
                records.add(task(image, names))
            stream.write(b"\n]\n")

    def finish(self, export: Export) -> None:
        """Write the labelling config."""
        export.file(CONFIG, config(label_names(export.corpus.classes)))


def label_names(classes: Sequence[str]) -> list[str]:
    """Return class names that XML can hold."""
    return without(classes, "\ufffe\uffff")


def config(names: Sequence[str]) -> str:
    """Return the labelling config of a project that takes these tasks."""
    labels = "\n".join(
        f'    <Label value={quoteattr(name)} background="{hexadecimal(index)}"/>'
        for index, name in enumerate(names)
    )
    return (
        "<View>\n"
        f'  <Image name="{TO}" value="${VARIABLE}" zoom="true"/>\n'
        f'  <BrushLabels name="{FROM}" toName="{TO}">\n{labels}\n  </BrushLabels>\n'
        "</View>\n"
    )


def task(image: LabelledImage, names: Sequence[str]) -> dict[str, Any]:
    """Return an image and what the model says of it; pixels without a class are not painted."""
    row = image.row
    confidence = {s["category_id"]: s["mean_confidence"] for s in row["segments"]}
    results = [
        result(image, index, names[index], rle, confidence.get(index))
        for index, rle in class_masks(image.label_map(), len(names))
    ]
    prediction = {
        "model_version": model_version(image),
        "score": round(row["mean_confidence"], 6),
        "result": results,
    }
    return {
        "data": {VARIABLE: address(image.uri), "image_uri": image.uri},
        "predictions": [prediction],
    }


def result(
    image: LabelledImage, index: int, name: str, rle: list[int], confidence: float | None
) -> dict[str, Any]:
    """Return the brush of one class."""
    region = hashlib.sha256(f"{image.uri} {index}".encode()).hexdigest()[:12]
    return {
        "id": region,
        "type": "brushlabels",
        "from_name": FROM,
        "to_name": TO,
        "origin": "prediction",
        "original_width": image.row["width"],
        "original_height": image.row["height"],
        "image_rotation": 0,
        "score": None if confidence is None else round(confidence, 6),
        "value": {"format": "rle", "rle": rle, "brushlabels": [name]},
    }


def model_version(image: LabelledImage) -> str:
    """Return a short name of the model."""
    return f"sed {image.row['model_id'].removeprefix('sha256:')[:12]}"


def address(uri: str) -> str:
    """Return where Label Studio finds an image: by a bucket's URI, or under the root folder."""
    path = local_file(uri)
    return uri if path is None else f"/data/local-files/?d={quote(path.lstrip('/'))}"
