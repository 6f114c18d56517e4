"""Check what `label` wrote against the images: every input once, every mask readable and right.

Rows: a part's name -> `FOUND`, a row for each row of that part in labels/ and in errors/.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pyarrow.fs import FileSystem
from pycocotools import mask as coco

from pipelines import outputs, rows, shards
from pipelines.listing import list_images
from pipelines.masks import ignore_value
from pipelines.storage import Location, locate, open_buckets
from sed.photo import SIDEWAYS, read_orientation

FOUND = pa.schema([("image_uri", pa.string()), ("folder", pa.string()), ("problem", pa.string())])

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for a mask or photo that it cannot read."""


@dataclass
class Verdict:
    """What is wrong with an output; nothing, if `problems` is empty."""

    labelled: int = 0
    errors: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Output:
    """An output to check, and what it should hold."""

    place: Location
    run: dict[str, Any]
    image_uris: pa.Array
    """Large strings, sorted, each once."""


def open_output(labels: str, images: str) -> Output:
    """Find an output of `label` and the images it was made from.

    Raises:
        ValueError: There is no such output, or there are no images.
        OSError: One of them cannot be read.
    """
    place, run = outputs.open_run(labels)
    options = run["configuration"]
    if options.get("features"):  # the inputs are those of the run that kept them
        options = outputs.open_run(options["features"])[1]["configuration"]
    listing = list_images(
        images, column=options["images_column"], limit=options["limit"], without=place
    )
    return Output(place, run, listing.image_uris)


def verify(output: Output, connect: Callable[[], None]) -> Verdict:
    """Read every row, mask and image of an output.

    Args:
        output: From `open_output`.
        connect: Joins or starts a Ray cluster.
    """
    found = spread(CheckPart(output.place, open_buckets(output.image_uris)), connect)
    return judge(found, output.image_uris, output.run)


def part_names(place: Location) -> list[str]:
    """Return the names of the files in labels/ and errors/, each once."""
    files = [*shards.parts(place, shards.LABELS), *shards.parts(place, shards.ERRORS)]
    return sorted({info.base_name for info in files})


def spread(check: "CheckPart", connect: Callable[[], None]) -> Iterator[Any]:
    """Yield the rows of `FOUND` of all parts, checked on the cluster."""
    parts = part_names(check.output)
    if not parts:
        return
    connect()
    import ray

    names = ray.data.from_arrow(pa.table({"part": parts}))
    names = names.repartition(target_num_rows_per_block=1, strict=True)
    yield from names.map_batches(check, batch_size=1, batch_format="pyarrow").iter_rows()


@dataclass(frozen=True)
class CheckPart:
    """Check the files of one shard."""

    output: Location
    filesystems: Mapping[str, FileSystem]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row of `FOUND` for each image of each part."""
        found = [row for name in batch["part"].to_pylist() for row in self.check(name)]
        return pa.Table.from_pylist(found, schema=FOUND)

    def check(self, part: str) -> Iterator[dict[str, Any]]:
        """Yield what is found in the two files of a part."""
        for folder, schema in ((shards.ERRORS, rows.ERRORS), (shards.LABELS, rows.LABELS)):
            place = self.output.at(folder, part)
            try:
                table = pq.read_table(pa.BufferReader(place.read()))
            except (OSError, pa.ArrowInvalid) as error:
                yield {"folder": folder, "problem": f"{place.uri} cannot be read: {error}"}
                continue
            if not table.schema.equals(schema):
                yield {"folder": folder, "problem": f"{place.uri} has other columns or types"}
                continue
            for row in table.to_pylist():
                problem = self.problem_of(row, table) if folder == shards.LABELS else None
                yield {"image_uri": row["image_uri"], "folder": folder, "problem": problem}

    def problem_of(self, row: dict[str, Any], table: pa.Table) -> str | None:
        """Return what is wrong with a labelled image, if anything."""
        try:
            data = locate(row["image_uri"], self.filesystems).read()
            size = upright_size(data)
        except UNREADABLE as error:
            return f"the image cannot be read any more: {error}"
        if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
            return "the image has changed since it was labelled"
        if size != (row["width"], row["height"]):
            return f"the image is {size}, the row says {(row['width'], row['height'])}"
        return mask_problem(row, len(rows.read_classes(table.schema)))


def upright_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a photo as it is looked at."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        turned = image.format != "TIFF" and read_orientation(image) in SIDEWAYS
    return (height, width) if turned else (width, height)


def mask_problem(row: dict[str, Any], num_classes: int) -> str | None:
    """Return what is wrong with a mask and the segments that describe it, if anything."""
    try:
        with Image.open(io.BytesIO(row["mask"]["bytes"])) as image:
            mask_HW = np.array(image)
    except UNREADABLE as error:
        return f"the mask cannot be read: {error}"
    if mask_HW.shape != (row["height"], row["width"]):
        return f"the mask is {mask_HW.shape[::-1]}, the image {(row['width'], row['height'])}"
    values, pixels = np.unique(mask_HW, return_counts=True)
    shown = dict(zip(values.tolist(), pixels.tolist(), strict=True))
    shown.pop(ignore_value(num_classes), None)
    if any(value >= num_classes for value in shown):
        return f"the mask has a value beyond its {num_classes} classes: {max(shown)}"
    counted = {segment["category_id"]: segment["pixels"] for segment in row["segments"]}
    encoded = {s["category_id"]: int(coco.area(s["rle"])) for s in row["segments"]}
    if not shown == counted == encoded:
        return "the segments do not count the mask's pixels"
    return None


def judge(
    found: Iterable[Mapping[str, Any]], image_uris: pa.Array, run: Mapping[str, Any]
) -> Verdict:
    """Compare the rows that were found with the inputs and with run.json."""
    verdict, times, folders = Verdict(), Counter[str](), Counter[str]()
    for row in found:
        if row["problem"]:
            verdict.problems.append(f"{row['image_uri'] or row['folder']}: {row['problem']}")
        if row["image_uri"]:
            times[row["image_uri"]] += 1
            folders[row["folder"]] += 1
    verdict.labelled, verdict.errors = folders[shards.LABELS], folders[shards.ERRORS]
    verdict.problems += [f"{uri}: in {n} rows" for uri, n in sorted(times.items()) if n > 1]
    wanted = set(image_uris.to_pylist())
    missing, unknown = wanted - set(times), set(times) - wanted
    verdict.problems += [f"{uri}: neither in labels/ nor in errors/" for uri in sorted(missing)]
    verdict.problems += [f"{uri}: not among the images" for uri in sorted(unknown)]
    verdict.problems += count_problems(verdict, run)
    return verdict


def count_problems(verdict: Verdict, run: Mapping[str, Any]) -> list[str]:
    """Return how the counts in run.json differ from what was found."""
    if run["status"] != outputs.DONE:
        return ["run.json: the job did not finish; the same command continues it"]
    counts = run["counts"]
    found = {
        "inputs": verdict.labelled + verdict.errors,
        "labelled": verdict.labelled,
        "errors": verdict.errors,
    }
    return [
        f"run.json: {name} is {counts[name]}, found {count}"
        for name, count in found.items()
        if counts[name] != count
    ]
