"""COCO instances: one annotation for all pixels of a class in an image, as compressed run lengths.

Image, category and annotation ids count from 1.
"""

from collections.abc import Iterable
from typing import Any

from pipelines.export.corpus import Corpus, LabelledImage
from pipelines.export.files import Records, write_json
from pipelines.export.format import Export, Format, Sink, describe

INSTANCES = "annotations/instances.json"


class COCO(Format):
    """annotations/instances.json."""

    owns = ("annotations",)

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write the records of images and of annotations; pixels without a class have none."""
        with sink.fragment("images") as images_file, sink.fragment("annotations") as file:
            records, annotations = Records(images_file), Records(file)
            for image in images:
                records.add(image_record(image))
                for record in annotation_records(image):
                    annotations.add(record)

    def finish(self, export: Export) -> None:
        """Put the records together."""
        lists = {name: export.fragments(name) for name in ("images", "annotations")}
        write_json(export.output.at(INSTANCES), head(export.corpus), lists)


def head(corpus: Corpus) -> dict[str, Any]:
    """Return what COCO says of a whole data set."""
    return {"info": describe(corpus), "licenses": [], "categories": categories(corpus)}


def categories(corpus: Corpus) -> list[dict[str, Any]]:
    """Return the categories: class index + 1."""
    return [
        {"id": index + 1, "name": name, "supercategory": name}
        for index, name in enumerate(corpus.classes)
    ]


def image_record(image: LabelledImage) -> dict[str, Any]:
    """Return what COCO says of an image; its file name is under the folder of all photos."""
    return {
        "id": image.index + 1,
        "file_name": image.path,
        "width": image.row["width"],
        "height": image.row["height"],
        "image_uri": image.uri,
    }


def annotation_records(image: LabelledImage) -> list[dict[str, Any]]:
    """Return an annotation for each class in an image; `score` is its mean confidence."""
    return [
        {
            "id": image.first_segment + index + 1,
            "image_id": image.index + 1,
            "category_id": segment["category_id"] + 1,
            "segmentation": segment["rle"],
            "area": segment["pixels"],
            "bbox": segment["bbox"],
            "iscrowd": 0,
            "score": round(segment["mean_confidence"], 6),
        }
        for index, segment in enumerate(image.row["segments"])
    ]
