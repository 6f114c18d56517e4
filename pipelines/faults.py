"""Why an image cannot be read: the fault is its own, or that of its disk, mount or bucket.

The first is a row of errors/; the second ends the job, which can go on later.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from pipelines.buckets import raise_outage
from pipelines.storage import Location

TOP = r"^(?P<top>/[^/]+/)"
"""Start of the path of a local file that is not in "/" itself."""


@dataclass(frozen=True)
class Surroundings:
    """What the driver knows of all images, for a worker that cannot read one of them."""

    folders: Sequence[str] = ()
    """Local folders that hold the images, and something, as the driver sees them."""


def surroundings(uris: pa.Array | pa.ChunkedArray) -> Surroundings:
    """Return what is known of these images, on this machine and now."""
    return Surroundings([folder for folder in local_folders(uris) if not is_gone(folder)])


def local_folders(uris: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return the folder that all local images have in common, one for each top-level folder."""
    tops = pc.unique(pc.struct_field(pc.extract_regex(uris, TOP), "top"))
    folders = []
    for top in sorted(filter(None, tops.to_pylist())):
        ends = pc.min_max(uris.filter(pc.starts_with(uris, top))).as_py()
        folders.append(os.path.commonpath(map(os.path.dirname, ends.values())))
    return folders


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
