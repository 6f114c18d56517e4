"""ADE20K's scene parsing layout: an index PNG an image, 0 = unlabelled, class index + 1."""

import csv
import io
from collections.abc import Iterable

from pipelines.export.corpus import LabelledImage
from pipelines.export.files import Lines, append, writing
from pipelines.export.format import Export, Format, Sink
from pipelines.export.names import one_line
from pipelines.masks import to_png

OBJECTS = "objectInfo.txt"
IMAGES = "images.csv"
HEADER = ["annotation", "image", "image_uri", "width", "height"]


class ADE20K(Format):
    """annotations/training/NAME.png, 16 bit from 256 classes on; objectInfo.txt; images.csv."""

    owns = ("annotations", OBJECTS, IMAGES)

    def write(self, images: Iterable[LabelledImage], sink: Sink) -> None:
        """Write a mask for each image, and which image it is of."""
        with sink.fragment(IMAGES) as stream:
            lines = Lines(stream)
            for image in images:
                path = f"annotations/training/{image.name}.png"
                sink.file(path, to_png(image.numbered_from_one()))
                size = [image.row["width"], image.row["height"]]
                lines.add(csv_line([path, image.path, image.uri, *size]))

    def finish(self, export: Export) -> None:
        """Write the classes, with their share of the pixels and their images, and the images."""
        pixels, seen = export.tally.pixels, export.tally.seen
        total = max(1, pixels.total())
        lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
        for index, name in enumerate(export.corpus.classes):
            ratio = f"{pixels[index] / total:.6f}"
            lines.append(f"{index + 1}\t{ratio}\t{seen[index]}\t0\t0\t{one_line(name)}")
        export.file(OBJECTS, "\n".join(lines) + "\n")
        with writing(export.output.at(IMAGES)) as stream:
            Lines(stream).add(csv_line(HEADER))
            append(stream, export.fragments(IMAGES))


def csv_line(values: Iterable[object]) -> str:
    """Return values as a line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
