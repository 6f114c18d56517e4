"""The class names of a job: typed on the command line, a benchmark's list, or a file."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence

import sed
from pipelines import scenes
from pipelines.storage import locate
from sed.vocabularies import SYNONYM_SEPARATOR

logger = logging.getLogger(__name__)

SCENES = "scenes"
"""Vocabulary of the drawn scenes: what the bundled model knows."""

MAX_CLASSES = 65535
"""A 16-bit mask has no more values beside the one that means "no class"."""


def choose_classes(classes: Sequence[str], vocabulary: str | None) -> list[str]:
    """Return the class names that a job was given, in one of the two ways.

    Raises:
        ValueError: Both or none given, an unknown vocabulary, an empty name, a name twice, or a
            synonym that two typed classes share.
    """
    if classes and vocabulary is not None:
        raise ValueError("give either --classes or --vocabulary, not both")
    if vocabulary is not None:
        return read_vocabulary(vocabulary)
    if not classes:
        raise ValueError("no classes given: use --classes NAME ... or --vocabulary NAME|FILE")
    names = check_names(classes, "--classes")
    if shared := shared_names(names):
        raise ValueError(
            f"--classes: {told(shared)}; leave it out of one of them, or join them to one class"
        )
    return names


def read_vocabulary(name: str) -> list[str]:
    """Return a benchmark's class names, or those in a file.

    Args:
        name: Like "ade150", "scenes" for what the bundled model knows, or the path or URI of a text
            file with a name a line, or of a JSON list.

    Raises:
        ValueError: Neither is there, or the file holds something else.
    """
    looks_like_file = "/" in name or "." in name
    if name == SCENES:
        return scenes.vocabulary()
    try:
        return sed.vocabulary(name)
    except ValueError as error:
        place = locate(name)
        if not place.exists():
            raise ValueError(
                f"there is no vocabulary file {name!r}" if looks_like_file else f"{error}, {SCENES}"
            ) from error
    try:
        text = place.read().decode("utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"the vocabulary file {name!r} cannot be read: {error}") from error
    while names and names[-1] == "":
        names.pop()
    checked = check_names(names, name)
    # Published lists share synonyms too (46 in ade847), so a list is only remarked on.
    if shared := shared_names(checked):
        logger.warning("%s: %s; the model cannot tell them apart by it", name, told(shared))
    return checked


def check_names(names: Sequence[object], origin: str) -> list[str]:
    """Return the names without the blanks around them.

    Raises:
        ValueError: There is none, or too many, or an empty one, or one twice.
    """
    clean = [name.strip() if isinstance(name, str) else "" for name in names]
    if not clean:
        raise ValueError(f"{origin}: at least one class name is needed")
    if len(clean) > MAX_CLASSES:
        raise ValueError(f"{origin}: at most {MAX_CLASSES} classes, got {len(clean)}")
    if "" in clean:
        index = clean.index("")
        raise ValueError(f"{origin}: class {index + 1} has no name: {names[index]!r}")
    folded = Counter(map(fold, clean))
    twice = [name for name in clean if folded[fold(name)] > 1]
    if twice:
        raise ValueError(f"{origin}: {twice[0]!r} is there more than once")
    return clean


def fold(name: str) -> str:
    """Return a name as the tokenizer sees it: without case, blanks made one."""
    return " ".join(name.lower().split())


def shared_names(classes: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return each name that stands for two classes, as (name, class, later class)."""
    owner: dict[str, str] = {}
    shared = []
    for one in classes:
        for name in dict.fromkeys(map(fold, one.split(SYNONYM_SEPARATOR))):
            if (first := owner.setdefault(name, one)) != one:
                shared.append((name, first, one))
    return shared


def told(shared: Sequence[tuple[str, str, str]]) -> str:
    """Say in a clause which names stand for two classes."""
    name, first, second = shared[0]
    more = f" (and {len(shared) - 1} more such names)" if len(shared) > 1 else ""
    return f"{name!r} stands for two classes, {first!r} and {second!r}{more}"


def vocabulary_id(classes: Sequence[str]) -> str:
    """Return the SHA-256 of the JSON list of names, as "sha256:..."."""
    text = json.dumps(list(classes), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
