"""What an image is called in an export: its path under the images' folder, never twice the same."""

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from pipelines.storage import bucket_of, locate

MAX_BYTES = 200
"""Of one part of a path; a filesystem takes 255, and an ending is added."""

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def path_of(uri: str) -> str:
    """Return a URI without what stands before its path: s3://bucket/a.jpg is bucket/a.jpg."""
    return (uri.partition("://")[2] or uri).lstrip("/")


def local_file(uri: str) -> str | None:
    """Return the absolute path of an image on this machine; None for one in a bucket."""
    return None if bucket_of(uri) else locate(uri).path


def common_folder(folders: Iterable[str]) -> str:
    """Return the deepest folder that all these are in or are themselves."""
    paths = [folder.split("/") for folder in folders]
    first, last = min(paths, default=[]), max(paths, default=[])
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return "/".join(first[:same])


def relative(uri: str, root: str) -> str:
    """Return the path of an image under `root`; one that is not in there keeps its whole path."""
    return uri[len(root) + 1 :] if root and uri.startswith(root + "/") else path_of(uri)


def stem(uri: str, root: str) -> str:
    """Return the path of an image under `root` without its ending, fit for any filesystem."""
    path = relative(uri, root)
    *folders, name = path.split("/")
    name = posixpath.splitext(name)[0]
    return "/".join([*map(clean_folder, folders), clean(name)])


def clean(part: str) -> str:
    """Return one part of a path without what a filesystem or a list of names cannot hold."""
    part = UNPRINTABLE.sub("_", part).strip()
    part = part.encode()[:MAX_BYTES].decode(errors="ignore")
    return "_" if part in ("", ".", "..") else part


def clean_folder(part: str) -> str:
    """Return a folder's name that is no name of a mask: x.png/ and the mask of x.jpg can meet."""
    part = clean(part)
    return part + "_" if part.lower().endswith(".png") else part


def digest(name: str) -> int:
    """Return 64 bits that are the same for names a filesystem may take for one."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "big")


def find_twins(digests: Iterable[np.ndarray]) -> frozenset[int]:
    """Return the digests that are there more than once."""
    arrays = list(digests)
    if not arrays:
        return frozenset()
    values, times = np.unique(np.concatenate(arrays), return_counts=True)
    return frozenset(values[times > 1].tolist())


def unique_name(uri: str, root: str, twins: frozenset[int]) -> str:
    """Return the name of an image; images that would share one get a mark of their URI each."""
    name = stem(uri, root)
    return marked(name, uri) if digest(name) in twins else name


def marked(name: str, uri: str) -> str:
    """Return a name that no image with another URI has; one that is marked stays."""
    mark = "-" + hashlib.sha256(uri.encode()).hexdigest()[:12]
    return name if name.endswith(mark) else name + mark


def one_line(name: str) -> str:
    """Return a class name that fits into a line of text or an XML attribute."""
    return " ".join(UNPRINTABLE.sub(" ", name).split())


def without(names: Iterable[str], characters: str) -> list[str]:
    """Return class names without some characters; two that become one are numbered.

    Args:
        names: Different from each other.
        characters: What the format gives a meaning of its own.
    """
    table = str.maketrans(dict.fromkeys(characters, "_"))
    taken: set[str] = set()
    found = []
    for name in names:
        plain = one_line(name).translate(table) or "_"
        number, candidate = 1, plain
        while candidate in taken:
            number += 1
            candidate = f"{plain}_{number}"
        taken.add(candidate)
        found.append(candidate)
    return found
