"""A FiftyOne dataset as FiftyOne itself writes one to disk: two JSON files, and masks beside them.

Mask values are class index + 1; FiftyOne shows nothing where they are 0.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from pipelines.export.corpus import Corpus, LabelledImage
from pipelines.export.files import Records, write_json
from pipelines.export.format import Export, Format, Sink, describe
from pipelines.export.names import local_file, path_of
from pipelines.masks import to_png

VERSION = "1.0.0"
"""Of FiftyOne; later ones bring the dataset up to date themselves."""

METADATA, SAMPLES = "metadata.json", "samples.json"
MASKS, MAPS = "prediction", "confidence"
"""The fields of a sample that have files, which are in a folder of that name in fields/."""

CORE = "fiftyone.core."

Document = dict[str, Any]


class FiftyOne(Format):
    """metadata.json, samples.json, and the masks and confidence maps in fields/."""

    owns = (METADATA, SAMPLES, "fields")

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write masks, maps and samples."""
        with sink.fragment("samples") as stream:
            samples = Records(stream)
            for image in images:
                sink.file(mask_path(image), to_png(image.numbered_from_one()))
                sink.file(map_path(image), image.row["confidence"]["bytes"])
                samples.add(sample(image))

    def finish(self, export: Export) -> None:
        """Put the samples together, and write what is about all of them."""
        write_json(export.output.at(SAMPLES), {}, {"samples": export.fragments("samples")})
        write_json(export.output.at(METADATA), dataset(export.corpus), {})


def mask_path(image: LabelledImage) -> str:
    """Return where the mask of an image is."""
    return f"fields/{MASKS}/{image.name}.png"


def map_path(image: LabelledImage) -> str:
    """Return where the confidence map of an image is."""
    return f"fields/{MAPS}/{image.name}.png"


def object_id(*parts: str) -> Document:
    """Return an id that is always the same for the same thing."""
    return {"$oid": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]}


def random_number(uri: str) -> float:
    """Return a number in [0, 1) by which FiftyOne shuffles, the same for the same image."""
    return int(hashlib.sha256(uri.encode()).hexdigest()[:12], 16) / 16**12


def sample(image: LabelledImage) -> Document:
    """Return one image; a photo in a bucket is expected under data/BUCKET/ of the export."""
    row = image.row
    label = {"tags": []}
    return {
        "_id": object_id(image.uri),
        "filepath": local_file(image.uri) or f"data/{path_of(image.uri)}",
        "tags": [],
        "metadata": {
            "_cls": "ImageMetadata",
            "width": row["width"],
            "height": row["height"],
            "num_channels": 3,
        },
        "_media_type": "image",
        "_rand": random_number(image.uri),
        MASKS: label
        | {
            "_id": object_id(image.uri, MASKS),
            "_cls": "Segmentation",
            "mask_path": mask_path(image),
        },
        MAPS: label
        | {
            "_id": object_id(image.uri, MAPS),
            "_cls": "Heatmap",
            "map_path": map_path(image),
            "range": [0.0, 255.0],
        },
        "classes": [segment["category"] for segment in row["segments"]],
        "mean_confidence": row["mean_confidence"],
        "ignored_fraction": row["ignored_fraction"],
        "image_uri": image.uri,
    }


def dataset(corpus: Corpus) -> Document:
    """Return what is the same for all samples: their fields, and the names of mask values."""
    targets = {str(index + 1): name for index, name in enumerate(corpus.classes)}
    return {
        "version": VERSION,
        "media_type": "image",
        "tags": [],
        "info": describe(corpus),
        "classes": {},
        "default_classes": list(corpus.classes),
        "mask_targets": {MASKS: targets},
        "default_mask_targets": targets,
        "sample_fields": sample_fields(),
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def sample_fields() -> list[Document]:
    """Return the type of each field of a sample."""
    label = [field_of("id", "ObjectId", stored="_id"), field_of("tags", "List", of="String")]
    sizes = ("size_bytes", "width", "height", "num_channels")
    metadata = [field_of(name, "Int") for name in sizes] + [field_of("mime_type", "String")]
    mask = [field_of("mask", "Array"), field_of("mask_path", "String")]
    heat = [
        field_of("map", "Array"),
        field_of("map_path", "String"),
        field_of("range", "HeatmapRange", of="Float"),
    ]
    return [
        field_of("id", "ObjectId", stored="_id"),
        field_of("filepath", "String"),
        field_of("tags", "List", of="String"),
        embedded("metadata", "metadata.ImageMetadata", metadata),
        field_of("created_at", "DateTime") | {"read_only": True},
        field_of("last_modified_at", "DateTime") | {"read_only": True},
        field_of("_media_type", "String"),
        field_of("_rand", "Float"),
        field_of("_dataset_id", "ObjectId"),
        embedded(MASKS, "labels.Segmentation", label + mask),
        embedded(MAPS, "labels.Heatmap", label + heat),
        field_of("classes", "List", of="String"),
        field_of("mean_confidence", "Float"),
        field_of("ignored_fraction", "Float"),
        field_of("image_uri", "String"),
    ]


def field_of(name: str, kind: str, *, of: str | None = None, stored: str | None = None) -> Document:
    """Return a field.

    Args:
        name: Of the field.
        kind: Its type, without "Field".
        of: Type of the elements of a list.
        stored: Its name in a file, where that is another.
    """
    return {
        "name": name,
        "ftype": f"{CORE}fields.{kind}Field",
        "embedded_doc_type": None,
        "subfield": of and f"{CORE}fields.{of}Field",
        "fields": [],
        "db_field": stored or name,
        "description": None,
        "info": None,
        "read_only": False,
    }


def embedded(name: str, kind: str, fields: list[Document]) -> Document:
    """Return a field that has fields."""
    found = field_of(name, "EmbeddedDocument")
    return found | {"embedded_doc_type": CORE + kind, "fields": fields}
