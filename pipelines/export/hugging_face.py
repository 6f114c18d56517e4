"""A Hugging Face dataset: Parquet that `datasets.load_dataset` opens, with its card."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import rows
from pipelines.export.corpus import Corpus, LabelledImage
from pipelines.export.format import Export, Format, Sink, describe
from pipelines.export.names import local_file
from pipelines.masks import ignore_value

CARD = "README.md"
NAMES = "id2label.json"
ROWS_PER_GROUP = 64

SCHEMA = pa.schema(
    [
        ("image", rows.FILE),
        ("annotation", rows.FILE),
        ("confidence", rows.FILE),
        ("classes", pa.list_(pa.int64())),
        ("image_uri", pa.string()),
        ("image_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("ignored_fraction", pa.float32()),
        ("mean_confidence", pa.float32()),
    ]
)
KEPT = SCHEMA.names[4:]
"""Columns that are as in labels/."""


class HuggingFace(Format):
    """data/*.parquet, README.md and id2label.json; photos stay where they are."""

    owns = ("data", CARD, NAMES)
    images_per_piece = 1024

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write a Parquet file."""
        schema = schema_of(sink.corpus)
        with (
            sink.open(f"data/{sink.piece.name}.parquet") as stream,
            pq.ParquetWriter(stream, schema) as writer,
        ):
            for group in in_groups(images):
                writer.write_table(pa.Table.from_pylist([*map(row_of, group)], schema=schema))

    def finish(self, export: Export) -> None:
        """Write the card and the class names."""
        names = dict(enumerate(export.corpus.classes))
        export.file(NAMES, json.dumps(names, indent=1, ensure_ascii=False) + "\n")
        export.file(CARD, card(export.corpus))


def in_groups(images: Iterable[LabelledImage]) -> Iterator[list[LabelledImage]]:
    """Yield images a few at a time."""
    images = iter(images)
    while group := list(islice(images, ROWS_PER_GROUP)):
        yield group


def row_of(image: LabelledImage) -> dict[str, Any]:
    """Return a row; the mask is as it was, with the class indices and the ignore value in it."""
    name = image.name.rpartition("/")[2]
    return {
        "image": {"bytes": None, "path": local_file(image.uri) or image.uri},
        "annotation": {"bytes": image.row["mask"]["bytes"], "path": f"{name}.png"},
        "confidence": {"bytes": image.row["confidence"]["bytes"], "path": f"{name}_confidence.png"},
        "classes": [segment["category_id"] for segment in image.row["segments"]],
        **{name: image.row[name] for name in KEPT},
    }


def schema_of(corpus: Corpus) -> pa.Schema:
    """Return the columns, with what tells `datasets` which are images and which are classes."""
    label = {"_type": "ClassLabel", "names": list(corpus.classes)}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "annotation": {"_type": "Image"},
        "confidence": {"_type": "Image"},
        # Every version knows this name; later ones turn it into List.
        "classes": {"_type": "Sequence", "feature": label},
    }
    for name in KEPT:
        kind = SCHEMA.field(name).type
        dtype = {"float": "float32"}.get(str(kind), str(kind))
        features[name] = {"_type": "Value", "dtype": dtype}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)}
    return SCHEMA.with_metadata(metadata)


def card(corpus: Corpus) -> str:
    """Return the dataset card."""
    facts = describe(corpus)
    count, ignore = len(corpus.classes), ignore_value(len(corpus.classes))
    lines = [f"- {name}: `{value}`" for name, value in facts.items() if name != "description"]
    return f"""---
task_categories:
- image-segmentation
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

# Label maps of {corpus.num_images} images

{facts["description"]}.

{chr(10).join(lines)}

| column | |
|---|---|
| `image` | the photo, by reference: `push_to_hub` puts it into the files |
| `annotation` | index PNG of the photo's size: index into the {count} classes, {ignore} = ignore |
| `confidence` | 8-bit PNG at the decoder's resolution, 255 = certain |
| `classes` | which classes are in the image; the feature knows their names |

The names are also in `{NAMES}`.
"""
