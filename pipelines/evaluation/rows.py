"""What a row is at each step of an evaluation: `rows.PREPARED` -> READ -> PREDICTED -> COUNTS."""

import pyarrow as pa

from pipelines.rows import FAILURE

IMAGE = [
    pa.field("image_id", pa.string()),
    pa.field("mask", pa.large_binary()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("thumbnail", pa.large_binary()),
]
"""Mask as an index PNG, its size, and the photo as a small JPEG; null in the row of an error."""

READ = pa.schema(
    [
        *IMAGE,
        pa.field("pixels", pa.large_binary()),
        pa.field("pixels_width", pa.int32()),
        pa.field("pixels_height", pa.int32()),
        *FAILURE,
    ]
)
"""A photo resized for the model, RGB of (pixels_height, pixels_width, 3), with its mask."""

PREDICTED = pa.schema(
    [
        *IMAGE,
        pa.field("labels", pa.list_(pa.large_binary())),
        pa.field("candidates", pa.list_(pa.int32())),
        *FAILURE,
    ]
)
"""For each rejection the label map, uint16 of (height, width), and how many classes survived."""

BAD = pa.struct([pa.field("image_id", pa.string()), *FAILURE])
"""An image that could not be evaluated, and why."""

SHOWN = pa.struct(
    [
        ("iou", pa.float64()),
        ("image_id", pa.string()),
        ("photo", pa.binary()),
        ("truth", pa.binary()),
        ("predicted", pa.binary()),
    ]
)
"""An image to show: its mIoU, a small JPEG, and two small index PNGs."""

COUNTS = pa.schema(
    [
        pa.field("rejection", pa.string()),
        pa.field("images", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("places", pa.large_binary()),
        pa.field("counts", pa.large_binary()),
        pa.field("worst", pa.list_(SHOWN)),
        pa.field("errors", pa.list_(BAD)),
    ]
)
"""One batch under one rejection: images, surviving classes summed over them, the sums of
`Tally.sparse` (int64), its worst images, and those that could not be evaluated."""
