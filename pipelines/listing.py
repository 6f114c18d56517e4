"""Which images there are: a folder or bucket prefix, a list of URIs, or one image.

URIs are kept in Arrow arrays, since a corpus may have many millions of them.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from pipelines.storage import BUCKET, Location, locate
from pipelines.walking import CHUNK

IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "tif", "tiff", "bmp", "dib", "gif"),
    *("avif", "heic", "heif", "jp2", "j2k", "jpx", "mpo", "tga", "ico", "pcx", "sgi", "qoi"),
    *("ppm", "pgm", "pbm", "pnm"),
)
"""Endings of image files, lower case. Not all can be read: the others end in errors/."""

INPUT_NAME = rf"(?i)(?:^|/)(?:[^/.]+|[^/]*\.(?:{'|'.join(IMAGE_ENDINGS)}))$"
"""Matches a name that ends like an image's, or has no ending."""

LIST_ENDINGS = ("parquet", "csv", "jsonl", "ndjson")

LINE = 2**20
"""Bytes of a line of a list, at most."""

URIS = pa.large_string()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The inputs of a job."""

    image_uris: pa.Array
    """Large strings, sorted, each once."""

    skipped: int
    """Objects that are no input: their names have the ending of something else, or no UTF-8."""

    is_list: bool
    """Whether somebody wrote the URIs down; else they were seen where they are."""


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
    place, kind = open_images(images)
    is_list = kind != FileType.Directory and ending(place.path) in LIST_ENDINGS
    if kind == FileType.Directory:
        found = folder_uris(place, without)
    elif is_list:
        found = listed_uris(place, column)
    elif is_input(place.path):
        found = [pa.array([place.uri], URIS)]
    else:
        raise ValueError(
            f"{images!r} is no folder, no image and no list ({', '.join(LIST_ENDINGS)})"
        )
    inputs, skipped = keep_inputs(found)
    if not len(inputs):
        raise ValueError(f"there is no image in {images!r} ({skipped} other objects)")
    return Listing(sorted_once(inputs)[:limit], skipped, is_list)


def open_images(images: str) -> tuple[Location, FileType]:
    """Return where the images of a job are, and whether that is a folder or a file.

    Raises:
        ValueError: There is nothing.
        OSError: It cannot be reached.
    """
    place = locate(images)
    kind = place.info().type
    if kind == FileType.NotFound:
        raise ValueError(f"there is nothing at {images!r}")
    return place, kind


def keep_inputs(found: Iterable[pa.Array]) -> tuple[pa.Array, int]:
    """Return the URIs whose names are those of inputs, and how many are not."""
    kept, skipped = [pa.array([], URIS)], 0
    for uris in found:
        kept.append(uris.filter(pc.match_substring_regex(uris, INPUT_NAME)))
        skipped += len(uris) - len(kept[-1])
    return pa.concat_arrays(kept), skipped


def sorted_once(uris: pa.Array) -> pa.Array:
    """Return strings sorted, each once; needs no more memory than they take."""
    uris = uris.take(pc.array_sort_indices(uris))
    repeated = pc.equal(uris[1:], uris[:-1])
    if not pc.any(repeated).as_py():
        return uris
    return uris.filter(pa.concat_arrays([pa.array([True]), pc.invert(repeated)]))


def folder_uris(folder: Location, without: Location | None) -> Iterator[pa.Array]:
    """Yield the URIs of the objects under a folder, except those under `without`.

    Null stands for a file whose path is not UTF-8: no column could hold its URI.
    """
    excluded = without.uri.rstrip("/") + "/" if without else None
    for paths in folder.walk():
        uris = pa.array([folder.root + path if is_utf8(path) else None for path in paths], URIS)
        if excluded:
            outside = pc.invert(pc.starts_with(uris, excluded))
            uris = uris.filter(outside, null_selection_behavior="emit_null")
        if uris.null_count:
            first = ascii(next(path for path in paths if not is_utf8(path)))
            logger.warning(
                "%d files skipped: their paths are not UTF-8; rename them, the first is %s",
                uris.null_count,
                first,
            )
        yield uris


def is_utf8(path: str) -> bool:
    """Say whether the bytes of a path are UTF-8; those that are not came as surrogates."""
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def listed_uris(place: Location, column: str) -> Iterator[pa.Array]:
    """Yield the URIs in a column of a list, absolute.

    Raises:
        ValueError: The list cannot be read; or it names nothing but what no job can read.
    """
    try:
        uris = read_column(place, column)
    except pa.ArrowInvalid as error:
        raise ValueError(f"the list {place.uri!r} cannot be read: {error}") from error
    row, known = 0, False
    for chunk in pa.table({"uri": uris}).to_batches(max_chunksize=CHUNK):
        texts = chunk["uri"].to_pylist()
        for uri in texts:
            if not isinstance(uri, str) or not uri:
                raise ValueError(f"row {row} of the list {place.uri!r} has no URI: {uri!r}")
            row += 1
        found = pa.array(absolute(texts, place), URIS)
        known = known or pc.any(pc.match_substring_regex(found, f"^(?:/|{BUCKET})")).as_py()
        yield found
    if row and not known:
        raise ValueError(
            f"no URI in the list {place.uri!r} is a path, file://, s3://bucket/... or "
            f"gs://bucket/...; the first is {uris[0].as_py()!r}"
        )


def read_column(place: Location, column: str) -> pa.ChunkedArray:
    """Read one column of a Parquet, CSV or JSONL file."""
    kind = ending(place.path)
    with place.fs.open_input_file(place.path) as file:
        if kind == "parquet":
            content = pq.ParquetFile(file)
            check_column(place, column, content.schema_arrow.names)
            return content.read(columns=[column])[column]
        if kind == "csv":
            check_column(place, column, pyarrow.csv.read_csv(first_line(file)).column_names)
            return pyarrow.csv.read_csv(file, convert_options=csv_column(column))[column]
        found = pyarrow.json.read_json(file, parse_options=json_column(column))[column]
        if found.null_count == len(found):
            check_column(place, column, pyarrow.json.read_json(first_line(file)).column_names)
        return found


def first_line(file: pa.NativeFile) -> pa.BufferReader:
    """Return the first line of a file that is not empty, and let the file begin again."""
    file.seek(0)
    lines = file.read(LINE).splitlines()
    file.seek(0)
    return pa.BufferReader(next(filter(None, lines), b"") + b"\n")


def csv_column(column: str) -> pyarrow.csv.ConvertOptions:
    """Return what reads one column as it is written: 0001 is no number, 2024-01-01 no date."""
    return pyarrow.csv.ConvertOptions(include_columns=[column], column_types={column: URIS})


def json_column(column: str) -> pyarrow.json.ParseOptions:
    """Return what reads one column, of null where there is none."""
    return pyarrow.json.ParseOptions(
        explicit_schema=pa.schema([(column, URIS)]), unexpected_field_behavior="ignore"
    )


def check_column(place: Location, column: str, names: list[str]) -> None:
    """Require that a list has a column, once."""
    if names.count(column) > 1:
        raise ValueError(f"the list {place.uri!r} has {names.count(column)} columns {column!r}")
    if column not in names:
        raise ValueError(
            f"the list {place.uri!r} has no column {column!r}; it has {', '.join(map(repr, names))}"
        )


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
    return re.search(INPUT_NAME, path) is not None
