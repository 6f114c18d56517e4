"""Which images there are: a folder or bucket prefix, a list of URIs, or one image."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from pipelines.storage import Location, locate

IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "tif", "tiff", "bmp", "dib", "gif"),
    *("avif", "heic", "heif", "jp2", "j2k", "jpx", "mpo", "tga", "ico", "pcx", "sgi", "qoi"),
    *("ppm", "pgm", "pbm", "pnm"),
)
"""Endings of image files, lower case. Not all can be read: the others end in errors/."""

LIST_ENDINGS = ("parquet", "csv", "jsonl", "ndjson")


@dataclass(frozen=True)
class Listing:
    """The inputs of a job."""

    image_uris: list[str]
    """Sorted, each once."""

    skipped: int
    """Objects that are no input: their names have the ending of something else."""


def list_images(
    images: str, *, column: str, limit: int | None = None, without: Location | None = None
) -> Listing:
    """Find the inputs of a job.

    Args:
        images: URI of a folder, of a Parquet, CSV or JSONL list, or of one image.
        column: Column of the list that holds URIs; relative ones start at the list's folder.
        limit: Keep the first ones only.
        without: A folder that is left out, though it may lie among the images: the output.

    Raises:
        ValueError: There is nothing, or nothing that is an image.
        OSError: It cannot be read.
    """
    place = locate(images)
    kind = place.info().type
    if kind == FileType.NotFound:
        raise ValueError(f"there is nothing at {images!r}")
    if kind == FileType.Directory:
        found = folder_uris(place, without)
    elif ending(place.path) in LIST_ENDINGS:
        found = listed_uris(place, column)
    elif is_input(place.path):
        found = [place.uri]
    else:
        raise ValueError(
            f"{images!r} is no folder, no image and no list ({', '.join(LIST_ENDINGS)})"
        )
    inputs = sorted({uri for uri in found if is_input(uri)})
    if not inputs:
        raise ValueError(f"there is no image in {images!r} ({len(found)} other objects)")
    return Listing(inputs[:limit], sum(not is_input(uri) for uri in found))


def folder_uris(folder: Location, without: Location | None) -> list[str]:
    """Return the URI of every object under a folder, except those under `without`."""
    excluded = without.uri.rstrip("/") + "/" if without else None
    uris = [folder.root + info.path for info in folder.files(recursive=True)]
    return [uri for uri in uris if excluded is None or not uri.startswith(excluded)]


def listed_uris(place: Location, column: str) -> list[str]:
    """Return the URIs in a column of a list, absolute."""
    try:
        table = read_list(place)
    except pa.ArrowInvalid as error:
        raise ValueError(f"the list {place.uri!r} cannot be read: {error}") from error
    if column not in table.column_names:
        raise ValueError(
            f"the list {place.uri!r} has no column {column!r}; "
            f"it has {', '.join(map(repr, table.column_names))}"
        )
    uris = table[column].to_pylist()
    for row, uri in enumerate(uris):
        if not isinstance(uri, str) or not uri:
            raise ValueError(f"row {row} of the list {place.uri!r} has no URI: {uri!r}")
    return list(absolute(uris, place))


def read_list(place: Location) -> pa.Table:
    """Read a Parquet, CSV or JSONL file as a table."""
    content = io.BytesIO(place.read())
    kind = ending(place.path)
    if kind == "parquet":
        return pq.read_table(content)
    return pyarrow.csv.read_csv(content) if kind == "csv" else pyarrow.json.read_json(content)


def absolute(uris: Iterable[str], place: Location) -> Iterable[str]:
    """Put the folder of a list in front of the relative URIs in it."""
    folder = place.uri.rpartition("/")[0]
    for uri in uris:
        relative = "://" not in uri and not uri.startswith("/")
        if relative or uri.startswith("file://"):
            yield locate(f"{folder}/{uri}" if relative else uri).uri
        else:
            yield uri


def ending(path: str) -> str:
    """Return what follows the last dot of a name, lower case; "" for a name without a dot."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_input(path: str) -> bool:
    """Say whether a name ends like an image's, or has no ending."""
    return ending(path) in IMAGE_ENDINGS or "." not in path.rpartition("/")[2]
