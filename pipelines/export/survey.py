"""The first look at an output of `label`: how many images there are, and which names they take.

Only the columns of names and categories are read, several files at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import outputs, rows, shards
from pipelines.export import names
from pipelines.export.corpus import Corpus, Part
from pipelines.storage import Location

READERS = 16
"""Files of labels/ that are looked into at the same time."""

CATEGORIES = "segments.list.element.category_id"


@dataclass(frozen=True)
class Look:
    """What was seen of one file of labels/."""

    place: Location

    has_classes: bool
    """Whether its class names are those of the first file; the names would take 11 kB a file."""

    num_images: int
    num_segments: int

    folder: str
    """The deepest folder that its images are in."""

    digests: np.ndarray
    """Of the names of its images under the root that was guessed."""


def open_labels(uri: str) -> Corpus:
    """Find an output of `label` and look at all of its images.

    Raises:
        ValueError: There is no such output, no image in it, or not one vocabulary.
        OSError: It cannot be read.
    """
    labels, run = outputs.open_run(uri)
    return survey(labels, run)


def survey(labels: Location, run: Mapping[str, Any]) -> Corpus:
    """Look at every file of labels/; see `open_labels`."""
    files = shards.parts(labels, shards.LABELS)
    places = [labels.at(shards.LABELS, info.base_name) for info in files]
    guess = run["identity"]["images"].rstrip("/")
    classes = read_classes(places[0]) if places else []
    look = partial(look_at, classes=classes)
    looks = in_parallel(partial(look, root=guess), places)
    if not any(look.num_images for look in looks):
        raise ValueError(f"{labels.uri} holds no labelled image yet")
    check_vocabulary(looks)
    root = names.common_folder(look.folder for look in looks if look.num_images)
    if root == guess or root.startswith(guess + "/"):
        root = guess
    else:
        looks = in_parallel(partial(look, root=root), places)
    return Corpus(
        labels=labels,
        run=run,
        classes=tuple(classes),
        root=root,
        twins=names.find_twins(look.digests for look in looks),
        parts=number(looks),
    )


def in_parallel(look: partial[Look], places: Sequence[Location]) -> list[Look]:
    """Look at several files at a time; return what was seen, in order."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(look, places))


def read_classes(place: Location) -> list[str]:
    """Return the class names of a file of labels/.

    Raises:
        ValueError: It is damaged, or no file of `label`.
    """
    with naming(place), place.fs.open_input_file(place.path) as file:
        return rows.read_classes(pq.read_schema(file))


def look_at(place: Location, *, root: str, classes: Sequence[str]) -> Look:
    """Read names and categories of a file of labels/.

    Args:
        place: The file.
        root: Folder that the names of images are relative to.
        classes: Class names of the first file.

    Raises:
        ValueError: It is damaged, or no file of `label`.
    """
    with naming(place):
        with place.fs.open_input_file(place.path) as file:
            parquet = pq.ParquetFile(file)
            table = parquet.read(["image_uri", CATEGORIES])
        has_classes = rows.read_classes(parquet.schema_arrow) == classes
        uris, segments = table["image_uri"].to_pylist(), table["segments"]
    return Look(
        place=place,
        has_classes=has_classes,
        num_images=len(uris),
        num_segments=sum(len(chunk.flatten()) for chunk in segments.chunks),
        folder=names.common_folder({uri.rpartition("/")[0] for uri in uris}),
        digests=np.array([names.digest(names.stem(uri, root)) for uri in uris], np.uint64),
    )


@contextmanager
def naming(place: Location) -> Iterator[None]:
    """Name the file that the enclosed code cannot read."""
    try:
        yield
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ValueError(f"{place.uri} cannot be read: {error}") from error


def check_vocabulary(looks: Sequence[Look]) -> None:
    """Require that all files have the same class names."""
    for look in looks:
        if not look.has_classes:
            raise ValueError(f"{look.place.uri} has other classes than {looks[0].place.uri}")


def number(looks: Sequence[Look]) -> tuple[Part, ...]:
    """Number the images of all files through; files without one are left out."""
    parts: list[Part] = []
    image = segment = 0
    for look in looks:
        if look.num_images:
            name = look.place.path.rpartition("/")[2]
            parts.append(Part(name, look.num_images, look.num_segments, image, segment))
        image, segment = image + look.num_images, segment + look.num_segments
    return tuple(parts)
