"""What a row is at each step of labelling: column names and Arrow types, once.

A shard is a fixed group of images that is written as one file. Its rows travel together:
`SHARD` (one row a shard) -> `DECODED` -> `LABELLED` -> `LABELS` or `ERRORS` (one row an image).
"""

import json
from collections.abc import Sequence

import pyarrow as pa

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A file inside a row, as Hugging Face `datasets` stores images."""

RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
"""A mask as COCO's compressed run lengths: size is (height, width)."""

SEGMENT = pa.struct(
    [
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("pixels", pa.int64()),
        ("area_fraction", pa.float32()),
        ("mean_confidence", pa.float32()),
        ("bbox", pa.list_(pa.int32())),
        ("rle", RLE),
    ]
)
"""All pixels of one class in one image; bbox is (x, y, width, height)."""

MANIFEST = pa.schema([("image_uri", pa.large_string()), ("shard", pa.int32())])
"""Which image belongs to which shard, for ever."""

SHARD = pa.schema([("shard", pa.int32()), ("image_uris", pa.large_list(pa.large_string()))])

TENSOR = pa.struct([("shape", pa.list_(pa.int32())), ("values", pa.large_binary())])
"""An array of half precision, row by row."""

KEPT = pa.field("features", pa.list_(TENSOR))
"""What the decoder needs of an image: its embedding, and the guidance of each level."""

SOURCE = [
    pa.field("shard", pa.int32()),
    pa.field("shard_size", pa.int32()),
    pa.field("image_uri", pa.string()),
    pa.field("image_sha256", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
]
"""Where an image comes from; width and height are those of the upright photo."""

FAILURE = [pa.field("error_type", pa.string()), pa.field("message", pa.string())]
"""Null in the row of an image that is all right so far."""

DECODED = pa.schema(
    [
        *SOURCE,
        pa.field("pixels", pa.large_binary()),
        pa.field("pixels_width", pa.int32()),
        pa.field("pixels_height", pa.int32()),
        KEPT,
        *FAILURE,
    ]
)
"""A decoded image: `pixels` is RGB of (pixels_height, pixels_width, 3), resized for the model; or
the features that an earlier run kept of it."""

RESULT = [
    pa.field("mask", FILE),
    pa.field("confidence", FILE),
    pa.field("segments", pa.list_(SEGMENT)),
    pa.field("ignored_fraction", pa.float32()),
    pa.field("mean_confidence", pa.float32()),
    pa.field("candidates", pa.list_(pa.int32())),
]
"""What the model says about one image."""

STAMP = [
    pa.field("vocabulary_id", pa.string()),
    pa.field("model_id", pa.string()),
    pa.field("rejection", pa.string()),
    pa.field("run_id", pa.string()),
]
"""Who said it: the same in every row of a run."""

RIVALRY = pa.struct(
    [("category_id", pa.int32()), ("rival_id", pa.int32()), ("area_fraction", pa.float32())]
)
"""Pixels that one class won and another nearly won: see `sed.uncertainty`."""

UNCERTAINTY = [
    pa.field("mean_margin", pa.float32()),
    pa.field("mean_entropy", pa.float32()),
    pa.field("rivals", pa.list_(RIVALRY)),
]
"""How sure the model is of one image, beyond `mean_confidence`."""

LABELLED = pa.schema([*SOURCE, *RESULT, *UNCERTAINTY, KEPT, *FAILURE])

LABELS = pa.schema([*SOURCE[2:], *RESULT, *STAMP, *UNCERTAINTY])
"""A row of labels/*.parquet."""

FEATURES = pa.schema([*SOURCE[2:], KEPT])
"""A row of features/*.parquet."""

ERRORS = pa.schema([SOURCE[2], *FAILURE, STAMP[-1]])
"""A row of errors/*.parquet."""

COMMIT = pa.schema([("shard", pa.int32()), ("labelled", pa.int64()), ("errors", pa.int64())])
"""What became of a shard."""

PREPARED = pa.schema(
    [
        pa.field("image", FILE),
        pa.field("mask", FILE),
        pa.field("image_id", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)
"""A row of a dataset with masks: index PNG, 255 or 65535 = ignore."""

IMAGE_COLUMNS = ("image", "mask", "confidence")


def with_metadata(schema: pa.Schema, classes: Sequence[str]) -> pa.Schema:
    """Return the schema with the class names, and with what makes `datasets` show the images."""
    features = {
        name: {"_type": "Image"} for name in IMAGE_COLUMNS if schema.get_field_index(name) >= 0
    }
    return schema.with_metadata(
        {
            "classes": json.dumps(list(classes), ensure_ascii=False),
            "huggingface": json.dumps({"info": {"features": features}}),
        }
    )


def read_classes(schema: pa.Schema) -> list[str]:
    """Return the class names that `with_metadata` put into a schema.

    Raises:
        ValueError: The schema carries none.
    """
    try:
        return json.loads((schema.metadata or {})[b"classes"])
    except KeyError as error:
        raise ValueError("the Parquet schema has no class names in its metadata") from error
