"""COCO panoptic: a PNG an image whose colours are segment ids, and JSON that says what they are.

A segment is all pixels of a class in an image; its id is its category's; 0 is void.

Shapes: H W pixels.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipelines.export.coco import head, image_record
from pipelines.export.corpus import LabelledImage
from pipelines.export.files import Records, write_json
from pipelines.export.format import Export, Format, Sink
from pipelines.masks import to_png

PANOPTIC = "annotations/panoptic"


class COCOPanoptic(Format):
    """annotations/panoptic.json, and the PNGs in annotations/panoptic/."""

    owns = ("annotations",)

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write the PNGs, and the records of images and of annotations."""
        with sink.fragment("images") as images_file, sink.fragment("annotations") as file:
            records, annotations = Records(images_file), Records(file)
            for image in images:
                sink.file(
                    f"{PANOPTIC}/{image.name}.png", to_png(id_colours(image.numbered_from_one()))
                )
                records.add(image_record(image))
                annotations.add(annotation_record(image))

    def finish(self, export: Export) -> None:
        """Put the records together; no class is a thing: none has its objects apart."""
        lists = {name: export.fragments(name) for name in ("images", "annotations")}
        found = head(export.corpus)
        found["categories"] = [category | {"isthing": 0} for category in found["categories"]]
        write_json(export.output.at(f"{PANOPTIC}.json"), found, lists)


def id_colours(ids_HW: np.ndarray) -> np.ndarray:
    """Return ids as colours, colours_HW3: id = R + 256 G + 65536 B."""
    ids_HW = ids_HW.astype(np.uint32)
    return np.stack([ids_HW >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def annotation_record(image: LabelledImage) -> dict[str, Any]:
    """Return the segments of an image."""
    return {
        "image_id": image.index + 1,
        "file_name": f"{image.name}.png",
        "segments_info": [
            {
                "id": segment["category_id"] + 1,
                "category_id": segment["category_id"] + 1,
                "area": segment["pixels"],
                "bbox": segment["bbox"],
                "iscrowd": 0,
            }
            for segment in image.row["segments"]
        ],
    }
