"""Why an image cannot be read: the fault is its own, or that of its disk, mount or bucket.

The first is a row of errors/; the second ends the job, which can go on later.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from pipelines.access import probe, spread
from pipelines.buckets import raise_outage, raise_outage_of_all
from pipelines.storage import Location, open_buckets

TOP = r"^(?P<top>/[^/]+/)"
"""Start of the path of a local file that is not in "/" itself."""

INNER = r"^(?P<inner>[^/]+)/"
"""Start of the rest of a path that is not in the folder itself."""

MOST_FOLDERS = 256
"""Looked at within a folder: mounts, or parts of a corpus, that may be missing by themselves."""


@dataclass(frozen=True)
class Surroundings:
    """What the driver knows of all images, for a worker that cannot read one of them."""

    folders: Sequence[str] = ()
    """Local folders that hold the images, and something, as the driver sees them."""

    samples: Sequence[str] = ()
    """URIs of a few images of each folder and bucket, which a worker may try."""


def surroundings(uris: pa.Array | pa.ChunkedArray) -> Surroundings:
    """Return what is known of these images, on this machine and now."""
    folders = local_folders(uris)
    samples = []
    for place in [*folders, *open_buckets(uris)]:
        inside = pc.indices_nonzero(pc.starts_with(uris, place + "/"))
        samples += [uris[inside[row].as_py()].as_py() for row in spread(len(inside))]
    return Surroundings([folder for folder in folders if not is_gone(folder)], samples)


def local_folders(uris: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return the folders that hold the local images.

    They are those within the folder that all images of a top-level folder have in common, unless
    there are more than `MOST_FOLDERS`, or images beside them: then it is that folder.
    """
    folders = []
    for top in sorted(filter(None, starts(uris, TOP, "top"))):
        inside = uris.filter(pc.starts_with(uris, top))
        ends = pc.min_max(inside).as_py()
        common = os.path.commonpath(map(os.path.dirname, ends.values()))
        rest = pc.utf8_slice_codeunits(inside, len(common) + 1)
        inner = starts(rest, INNER, "inner")
        if None in inner or len(inner) > MOST_FOLDERS:
            folders.append(common)
        else:
            folders += [f"{common}/{name}" for name in sorted(filter(None, inner))]
    return folders


def starts(texts: pa.Array | pa.ChunkedArray, pattern: str, name: str) -> Sequence[str | None]:
    """Return the different starts that a pattern finds; None is that of texts without one."""
    return pc.unique(pc.struct_field(pc.extract_regex(texts, pattern), name)).to_pylist()


def is_gone(folder: str) -> bool:
    """Say whether a local folder is missing, or empty as where a mount was."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True
    except PermissionError:  # what is in it may be read all the same
        return False


def check_seen(uris: pa.Array | pa.ChunkedArray) -> None:
    """Require that images are where a list says, unless it names buckets or other folders too.

    Raises:
        FileNotFoundError: All their folders are missing or empty.
    """
    folders = local_folders(uris)
    if folders and all(map(is_gone, folders)) and pc.all(pc.starts_with(uris, "/")).as_py():
        raise FileNotFoundError(f"there is no image: {missing(' and '.join(folders))}")


def missing(folder: str) -> str:
    """Say on which machine a folder is missing."""
    return f"the folder {folder} is missing or empty on {socket.gethostname()}"


def raise_fault(error: OSError, place: Location, around: Surroundings) -> None:
    """Raise what kept an image from being read where that is not the fault of this image.

    Raises:
        OSError: An outage; or this node does not see the folder that the driver sees.
    """
    if isinstance(error, FileNotFoundError) and isinstance(place.fs, LocalFileSystem):
        for folder in around.folders:
            if place.path.startswith(folder + "/") and is_gone(folder):
                raise OSError(
                    f"{missing(folder)}: the images must be on storage that all nodes see"
                ) from error
    raise_outage(error, place.fs, place.path)


def read_again(
    error: OSError, place: Location, others: Iterable[Location], limit: int
) -> bytes | OSError:
    """Return the content of a file whose first reading failed, or why it alone cannot be read.

    Args:
        error: Of the first reading.
        place: The file.
        others: More of the images, wherever they are.
        limit: Bytes of a file that is read, at most.

    Raises:
        OSError: Nothing else can be read either.
    """
    neighbours = [other for other in others if are_neighbours(place, other)]
    if not any(can_be_read(neighbours[row]) for row in spread(len(neighbours))):
        raise error
    try:
        return place.read_at_most(limit)
    except OSError as again:
        raise_outage_of_all(again, place.fs, place.path)
        return again


def are_neighbours(one: Location, other: Location) -> bool:
    """Say whether two files are in the same bucket, or on the same disk or mount."""
    if one.uri == other.uri or one.root != other.root:
        return False
    if not isinstance(one.fs, LocalFileSystem):
        return one.path.partition("/")[0] == other.path.partition("/")[0]
    try:
        return device(one.path) == device(other.path)
    except OSError:
        return False


def device(path: str) -> int:
    """Return the number of the disk or mount that a file is on; the file itself is not touched."""
    return os.stat(os.path.dirname(os.path.realpath(path))).st_dev  # noqa: PTH116, PTH120


def can_be_read(place: Location) -> bool:
    """Say whether a file can be read now."""
    try:
        probe(place)
    except (OSError, ValueError):
        return False
    return True
