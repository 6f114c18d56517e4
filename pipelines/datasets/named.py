"""A dataset by the name and the URI that stand on the command line."""

from pipelines.datasets.dataset import Labelled, Split
from pipelines.datasets.drawn import SCENES, load_scenes
from pipelines.datasets.paired import check_pairs, load_pairs
from pipelines.datasets.written import LABELS, load_labels
from pipelines.labelled import open_labels
from pipelines.prepare.catalogue import BENCHMARKS, FOLDER

STORED = (*BENCHMARKS, FOLDER)
"""Datasets of photos with masks: NAME=URI, as prepared or as their authors ship them."""

NAMES = (*STORED, *SCENES, LABELS)


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return the name and the URI of NAME=URI, or of NAME alone.

    Raises:
        ValueError: The name is unknown, needs a URI or takes none.
    """
    name, equals, uri = spec.partition("=")
    if name not in NAMES:
        raise ValueError(f"unknown dataset {name!r}; there are: {', '.join(NAMES)}")
    if name in SCENES:
        if equals:
            raise ValueError(f"the dataset {name!r} is drawn from a seed and takes no URI: {uri!r}")
        return name, None
    if not uri:
        what = "a label output" if name == LABELS else "its folder, as it is shipped or prepared"
        raise ValueError(f"the dataset {name!r} needs the URI of {what}: {name}=URI")
    return name, uri


def check(name: str, uri: str | None, split: Split = "val") -> None:
    """Require that a dataset is there and is what its name says, without Ray.

    Raises:
        ValueError: It is not; the message says what is wrong.
        OSError: It cannot be read.
    """
    if uri is None:
        return
    if name == LABELS:
        open_labels(uri)
    else:
        check_pairs(name, uri, split)


def load(
    name: str,
    uri: str | None = None,
    *,
    split: Split = "val",
    limit: int | None = None,
    seed: int = 0,
    shuffle: int | None = None,
) -> Labelled:
    """Plan the rows of a dataset; none is read or drawn until they are consumed.

    Args:
        name: One of `NAMES`.
        uri: Where it is: what `prepare` wrote, a folder as the authors ship it, or an output of
            `label`; None for what is drawn.
        split: Training reads "train", evaluation "val"; what has no splits is the same for both.
        limit: At most this many images, the first ones; default for drawn ones: 512.
        seed: Which endless series of scenes.
        shuffle: Seed of the order of the rows, which is another one at each execution of
            `Labelled.rows`; None: the order of their names.

    Raises:
        ValueError: The name is unknown, a number makes no sense, or the dataset is not what it
            should be.
        OSError: It cannot be read.
    """
    name, _ = split_spec(name if uri is None else f"{name}={uri}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 image, got {limit}")
    if uri is None:
        return load_scenes(name, limit, seed, shuffle)
    if name == LABELS:
        return load_labels(uri, limit, shuffle)
    return load_pairs(name, uri, split, limit=limit, shuffle=shuffle)
