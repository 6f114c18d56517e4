"""Datasets whose image and mask have the same name, in two folders."""

from collections.abc import Mapping, Sequence

from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import Encoding
from pipelines.prepare.folders import JPEG, Folder, first_folder
from pipelines.prepare.pairs import Pairs, pair_table
from pipelines.prepare.remarks import absent, count_problem, counted, one_sided, some
from pipelines.storage import Location


def match(
    name: str,
    split: str,
    top: Location,
    *,
    images: Sequence[str],
    masks: Mapping[str, Encoding],
    endings: Sequence[str],
    compared: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Pairs:
    """Pair the images and masks of a benchmark by their names.

    Args:
        name: Of the benchmark.
        split: Which one.
        top: Its folder.
        images: Where its images may be.
        masks: Where its masks may be, and how they are written there.
        endings: Of masks.
        compared: What `compare_names` said.

    Raises:
        ValueError: There are no images, or no masks.
    """
    photos = first_folder(top, images, JPEG)
    labels = first_folder(top, list(masks), endings)
    ids = sorted(photos.files.keys() & labels.files.keys())
    benchmark = BENCHMARKS[name]
    return Pairs(
        name=name,
        split=split,
        root=top,
        table=pair_table(ids, photos.files, labels.files, top),
        encoding=masks[labels.path],
        classes=benchmark.classes,
        asked=benchmark.asked,
        wrong=(*compared[0], *doubled(photos, labels)),
        unmatched=tuple(one_sided(photos.files, labels.files, photos.path, labels.path)),
        fewer=tuple(count_problem(name, split, len(ids), benchmark.counts[split])),
        notes=(*compared[1], *unexpected(photos, labels)),
    )


def listed(
    name: str,
    split: str,
    top: Location,
    ids: Sequence[str],
    *,
    images: str,
    masks: Mapping[str, Encoding],
    endings: Sequence[str],
    compared: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Pairs:
    """Pair the images and masks that a list names; their folders hold others, too.

    Args:
        name: Of the benchmark.
        split: Which one.
        top: Its folder.
        ids: What the list names.
        images: Where its images are.
        masks: Where its masks may be, and how they are written there.
        endings: Of masks.
        compared: What `compare_names` said.

    Raises:
        ValueError: There are no images, or no masks.
    """
    photos = first_folder(top, [images], JPEG)
    labels = first_folder(top, list(masks), endings)
    ids = sorted(set(ids))
    both = [key for key in ids if key in photos.files and key in labels.files]
    benchmark = BENCHMARKS[name]
    return Pairs(
        name=name,
        split=split,
        root=top,
        table=pair_table(both, photos.files, labels.files, top),
        encoding=masks[labels.path],
        classes=benchmark.classes,
        asked=benchmark.asked,
        wrong=tuple(compared[0]),
        unmatched=(
            *absent(ids, photos.files, f"image in {photos.path}"),
            *absent(ids, labels.files, f"mask in {labels.path}"),
        ),
        fewer=tuple(count_problem(name, split, len(both), benchmark.counts[split])),
        notes=tuple(compared[1]),
    )


def doubled(*folders: Folder) -> list[str]:
    """Say which names two files of a folder share."""
    return [
        f"{folder.path} has two files for {some(folder.twice)}"
        for folder in folders
        if folder.twice
    ]


def unexpected(photos: Folder, labels: Folder) -> list[str]:
    """Say what else lies in the folders; one that holds both kinds has the other kind, too."""
    if photos.path == labels.path:
        return []
    return [
        f"{counted(folder.others, 'other file')} in {folder.path}, not read: {some(folder.others)}"
        for folder in (photos, labels)
        if folder.others
    ]
