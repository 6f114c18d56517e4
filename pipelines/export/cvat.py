"""CVAT's "Segmentation mask 1.1": Pascal VOC's layout with a label map of our own.

Shapes: H W pixels, N colours.
"""

import json
import logging
from collections.abc import Iterable, Sequence

from pipelines.export.colours import VOC_SIZE, hexadecimal, voc_colours
from pipelines.export.corpus import Corpus, LabelledImage
from pipelines.export.files import Lines, append, contents, writing
from pipelines.export.format import Export, Format, Sink
from pipelines.export.names import marked, without
from pipelines.masks import to_png
from pipelines.storage import Location

logger = logging.getLogger(__name__)

MAX_CLASSES = VOC_SIZE - 1
LABEL_MAP = "labelmap.txt"
LABELS = "labels.json"
LIST = "ImageSets/Segmentation/default.txt"
FOLDERS = ("SegmentationClass", "SegmentationObject")
COMMENT = "#"
"""Lines of the list that begin so are skipped."""


class CVAT(Format):
    """What CVAT imports when it is zipped, and labels.json for its label constructor.

    CVAT would import black as a class of its own, were there no SegmentationObject, where black is
    "no object". The two hold the same: an object here is all of a class.
    """

    edition = 2
    owns = (LABEL_MAP, LABELS, "ImageSets", *FOLDERS)

    def check(self, corpus: Corpus) -> None:
        """Require a colour for each class."""
        if len(corpus.classes) > MAX_CLASSES:
            raise ValueError(
                f"cvat has colours for at most {MAX_CLASSES} classes, these labels have "
                f"{len(corpus.classes)}; coco, huggingface and label-studio take more"
            )

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write the colour masks, and the list of their names."""
        colours_N3 = voc_colours()
        with sink.fragment("list") as list_file, sink.fragment("renamed") as renamed_file:
            lines, renamed = Lines(list_file), Lines(renamed_file)
            for image in images:
                name = mask_name(image)
                png = to_png(colours_N3[image.numbered_from_one()])
                for folder in FOLDERS:
                    sink.file(f"{folder}/{name}.png", png)
                lines.add(name)
                if name != image.name:
                    renamed.add(f"{image.name} is {name}")

    def finish(self, export: Export) -> None:
        """Write the label map, the labels, and the list of images."""
        names = label_names(export.corpus.classes)
        background = next(
            name for name in ("background", "unlabelled", "no class") if name not in names
        )
        colours = voc_colours().tolist()
        lines = ["# label:color_rgb:parts:actions"]
        for name, colour in zip([background, *names], colours, strict=False):
            lines.append(f"{name}:{','.join(map(str, colour))}::")
        export.file(LABEL_MAP, "\n".join(lines) + "\n")
        labels = [
            {"name": name, "color": hexadecimal(index), "type": "mask", "attributes": []}
            for index, name in enumerate(names)
        ]
        export.file(LABELS, json.dumps(labels, indent=1, ensure_ascii=False) + "\n")
        with writing(export.output.at(LIST)) as stream:
            append(stream, export.fragments("list"))
        say_renamed(export.fragments("renamed"))


def mask_name(image: LabelledImage) -> str:
    """Return the name of an image; a line of the list that begins with # would be a comment."""
    if not image.name.startswith(COMMENT):
        return image.name
    return marked("_" + image.name[1:], image.uri)


def say_renamed(places: Iterable[Location]) -> None:
    """Say how many images have another name than elsewhere, and the first of them."""
    count, first = 0, ""
    for content in contents(places):
        lines = content.decode().split("\n")[:-1]
        count += len(lines)
        first = first or "".join(lines[:1])
    if count:
        logger.warning(
            "CVAT skips names that begin with #: %d images have another one, which their photos "
            "need in CVAT too; %s",
            count,
            first,
        )


def label_names(classes: Sequence[str]) -> list[str]:
    """Return class names without what the label map gives a meaning of its own."""
    return without(classes, ":#")
