"""Find the folders of a dataset, and the files in them by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyarrow.fs import FileInfo, FileType

from pipelines.listing import ending
from pipelines.storage import Location

JPEG = ("jpg", "jpeg")
PNG = ("png",)
TIFF = ("tif", "tiff")


@dataclass(frozen=True)
class Folder:
    """Files of one kind in a folder."""

    path: str
    """As a message names it: below the folder that was given."""

    files: dict[str, FileInfo]
    """By name without ending; those of folders below have their path before it."""

    others: list[str]
    """Names of what is there and not of this kind."""

    twice: list[str]
    """Names that two files share."""


def read_folder(
    top: Location, path: str, endings: Iterable[str], *, recursive: bool = False
) -> Folder:
    """List the files of a kind in a folder; hidden ones do not count."""
    place = top.at(path) if path else top
    start = len(place.path.rstrip("/")) + 1
    files, others, twice = {}, [], []
    for info in place.files(recursive=recursive):
        name = info.path[start:]
        if info.base_name.startswith("."):
            continue
        if ending(name) not in endings:
            others.append(name)
            continue
        stem = name.rpartition(".")[0]
        if stem in files:
            twice.append(stem)
        files[stem] = info
    return Folder(path or ".", files, others, twice)


def first_folder(
    source: Location,
    paths: Sequence[str],
    endings: Iterable[str],
    *,
    recursive: bool = False,
) -> Folder:
    """Return the first folder that has such files.

    Raises:
        ValueError: None has any; the message names them all.
    """
    for path in paths:
        folder = read_folder(source, path, endings, recursive=recursive)
        if folder.files:
            return folder
    kinds = "/".join(f"*.{kind}" for kind in endings)
    raise ValueError(f"there are no {kinds} in {' or '.join(paths)} of {source.uri}")


def find_top(source: Location, tops: Sequence[str], wanted: Sequence[str]) -> Location:
    """Return the folder of a dataset: the one that was given, or a usual place below it.

    Args:
        source: What was given.
        tops: Usual names of the dataset's folder; it may be the given one, or below it.
        wanted: Folders of which it has at least one.

    Raises:
        ValueError: It is nowhere.
        OSError: The source cannot be read.
    """
    if source.info().type != FileType.Directory:
        raise ValueError(f"there is no folder {source.uri}")
    for top in (source, *(source.at(name) for name in tops)):
        if any(top.at(name).info().type == FileType.Directory for name in wanted):
            return top
    below = "".join(f", nor in {name}/" for name in tops)
    raise ValueError(f"there is no folder {' or '.join(wanted)} in {source.uri}{below}")


def read_lines(place: Location) -> list[str]:
    """Return the lines of a text that are not empty."""
    lines = place.read().decode("utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
